//! `watch --mqtt` against a real broker on loopback: `cargo test --release --features mqtt`.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};
use serde_json::Value;

use crate::watch_page::watch;

const LONG: Duration = Duration::from_secs(60);
const TOPICS: [&str; 2] = ["sextant/#", "homeassistant/#"];

/// A broker that remembers nothing when it ends.
struct Broker {
    child: Child,
    port: u16,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Broker {
    /// None, loudly, where mosquitto is not installed.
    fn start(port: u16) -> Option<Self> {
        let find = |name: &&&str| Command::new(name).arg("-h").output().is_ok();
        let Some(program) = ["mosquitto", "/usr/sbin/mosquitto"].iter().find(find) else {
            eprintln!("SKIPPED: mosquitto is not installed (Debian: apt-get install mosquitto)");
            return None;
        };
        let mut command = Command::new(program);
        command.args(["-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let broker = Self { child: command.spawn().unwrap(), port };
        let deadline = Instant::now() + LONG;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Some(broker)
    }

    fn listen(&self, name: &str) -> Listener {
        let mut options = MqttOptions::new(name, "127.0.0.1", self.port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, connection) = Client::new(options, 64);
        for topic in TOPICS {
            client.subscribe(topic, QoS::AtLeastOnce).unwrap();
        }
        Listener { client, connection, latest: BTreeMap::new(), events: Vec::new() }
    }
}

/// Hears all that is said.
struct Listener {
    client: Client,
    connection: Connection,
    latest: BTreeMap<String, String>,
    events: Vec<Value>,
}

impl Listener {
    fn until(&mut self, what: &str, meets: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LONG;
        while !meets(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            let next = self.connection.recv_timeout(left);
            let Ok(Ok(event)) = next else {
                panic!("{what}: {next:?} after {:?} and {:?}", self.latest, self.events)
            };
            let Event::Incoming(Packet::Publish(message)) = event else { continue };
            let text = String::from_utf8(message.payload.to_vec()).unwrap();
            if message.topic.ends_with("/events") {
                self.events.push(serde_json::from_str(&text).unwrap());
            } else if text.is_empty() {
                self.latest.remove(&message.topic);
            } else {
                self.latest.insert(message.topic, text);
            }
        }
    }

    fn holds(&self, topic: &str, text: &str) -> bool {
        self.latest.get(topic).is_some_and(|held| held == text)
    }

    fn has_event(&self, event: &str, label: &str) -> bool {
        self.events.iter().any(|e| e["event"] == event && e["label"] == label)
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn home_assistant_finds_labels_and_hears_when_the_watch_dies() {
    let Some(broker) = Broker::start(free_port()) else { return };
    let mut listener = broker.listen("listener");
    // A former run of this watch knew a label that is no more; another watch is not touched.
    let stale = "homeassistant/binary_sensor/shed/a_goat/config";
    let foreign = "homeassistant/binary_sensor/barn/a_goat/config";
    for topic in [stale, foreign] {
        listener.client.publish(topic, QoS::AtLeastOnce, true, "{}").unwrap();
    }
    listener.until("what was there", |l| {
        l.latest.contains_key(stale) && l.latest.contains_key(foreign)
    });

    let address = format!("mqtt://127.0.0.1:{}/", broker.port);
    let more = ["--mqtt", &address, "--mqtt-name", "shed", "--enter", "0", "--leave", "0"];
    let mut watched = watch(&more);
    listener.until("online", |l| l.holds("sextant/shed/availability", "online"));
    watched.see("rgb.jpg", 9);
    listener.until("a state", |l| l.holds("sextant/shed/state/picture/a_car", "ON"));
    listener.until("an event", |l| l.has_event("enter", "an empty road"));
    listener.until("no stale label", |l| !l.latest.contains_key(stale));
    let [config, attributes] = [
        "homeassistant/binary_sensor/shed/a_car/config",
        "sextant/shed/state/picture/a_car/attributes",
    ];
    listener.until("what it is and why", |l| {
        l.latest.contains_key(config) && l.latest.contains_key(attributes)
    });
    let config: Value = serde_json::from_str(&listener.latest[config]).unwrap();
    assert_eq!(config["state_topic"], "sextant/shed/state/picture/a_car");
    let attributes: Value = serde_json::from_str(&listener.latest[attributes]).unwrap();
    assert_eq!(attributes["event"], "enter");

    // Other labels: the old ones leave Home Assistant.
    assert_eq!(watched.type_labels(&["a car", "a boat"]).0, 202);
    watched.see("rgb.jpg", 9);
    let gone = "homeassistant/binary_sensor/shed/an_empty_road/config";
    listener
        .until("gone", |l| !l.latest.contains_key(gone) && l.has_event("leave", "an empty road"));
    listener.until("a boat", |l| l.holds("sextant/shed/state/picture/a_boat", "ON"));
    assert!(listener.holds("sextant/shed/state/picture/a_car", "ON"), "{:?}", listener.latest);
    assert!(listener.latest.contains_key(foreign));

    // Who comes later is told what was said for good.
    let mut late = broker.listen("late");
    late.until("what is retained", |l| l.holds("sextant/shed/state/picture/a_boat", "ON"));
    watched.child.kill().unwrap();
    listener.until("the last will", |l| l.holds("sextant/shed/availability", "offline"));
}

#[test]
fn a_broker_that_goes_away_holds_nothing_up_and_learns_all_when_it_is_back() {
    let port = free_port();
    let address = format!("mqtt://127.0.0.1:{port}");
    let more = ["--mqtt", &address, "--mqtt-name", "shed", "--enter", "0", "--leave", "0"];
    let mut watched = watch(&more);
    watched.see("rgb.jpg", 9);
    watched.state_when("frames", |state| state["counts"]["frames"].as_u64().unwrap() >= 12);
    let Some(broker) = Broker::start(port) else { return };
    let mut listener = broker.listen("listener");
    listener.until("what happened before", |l| l.has_event("enter", "a car"));
    listener.until("how it is", |l| l.holds("sextant/shed/state/picture/a_car", "ON"));
    drop(broker);

    assert_eq!(watched.type_labels(&["anything"]).0, 202);
    watched.see("rgb.jpg", 9);
    watched.state_when("labels", |state| state["regions"][0]["scores"][0][1] == true);
    let broker = Broker::start(port).unwrap();
    let mut listener = broker.listen("listener");
    listener.until("what happened meanwhile", |l| {
        l.has_event("leave", "a car") && l.has_event("enter", "anything")
    });
    listener.until("how it is", |l| {
        l.holds("sextant/shed/state/picture/anything", "ON")
            && l.holds("sextant/shed/availability", "online")
            && l.latest.contains_key("homeassistant/binary_sensor/shed/anything/config")
    });
    assert!(!listener.latest.contains_key("sextant/shed/state/picture/a_car"));
    let metrics = watched.get("/metrics", "").text();
    let outages = metrics.lines().find_map(|line| line.strip_prefix("sextant_mqtt_outages_total "));
    assert!(outages.is_some_and(|count| count.parse::<u32>().unwrap() >= 2), "{metrics}");
    assert!(metrics.contains("\nsextant_mqtt_dropped_total 0\n"), "{metrics}");

    let pid = watched.child.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    listener.until("the end", |l| l.holds("sextant/shed/availability", "offline"));
    assert!(watched.child.wait().unwrap().success());
}
