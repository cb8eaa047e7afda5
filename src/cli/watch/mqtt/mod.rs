//! `--mqtt`: events and states for a broker, and for Home Assistant behind it.

mod address;
mod link;
mod topics;

use std::fmt::Write;

use clap::Args;
use sextant::watch::{UNKNOWN, Watcher};
use sha2::{Digest, Sha256};

use self::address::Address;
use self::link::Link;
use self::topics::{Retained, Topics, on_off, part};
use super::super::Failure;
use super::super::output::complain;
use super::events::EventLine;
use super::outputs::Surroundings;

/// The variable that may hold the password.
const VARIABLE: &str = "SEXTANT_MQTT_PASSWORD";
/// Most states: labels times regions.
const MOST: usize = 1000;

/// Which broker is told, and how.
#[derive(Debug, Args)]
pub struct MqttArgs {
    /// Tell a broker: mqtt://[USER[:PASSWORD]@]HOST[:PORT][/PREFIX]; a password is better given in
    /// $SEXTANT_MQTT_PASSWORD
    #[arg(long, value_name = "ADDRESS")]
    mqtt: Option<Address>,
    /// What this watch is called there; no two may have one name [default: of host and source]
    #[arg(long, value_name = "NAME", requires = "mqtt", value_parser = name)]
    mqtt_name: Option<String>,
    /// What Home Assistant's discovery topics begin with; "" for none
    #[arg(long, value_name = "PREFIX", requires = "mqtt", default_value = "homeassistant", value_parser = discovery)]
    mqtt_discovery: String,
}

fn name(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a name has at least one letter".to_owned()),
        name if name.chars().count() > 60 || name.chars().any(char::is_control) => {
            Err("a name has at most 60 characters, all of which can be shown".to_owned())
        }
        name => Ok(name.to_owned()),
    }
}

fn discovery(text: &str) -> Result<String, String> {
    match text.len() > 100 || text.contains(['#', '+', '\0']) {
        true => Err("a prefix has at most 100 bytes, and no # and +".to_owned()),
        false => Ok(text.trim_matches('/').to_owned()),
    }
}

/// The broker, as the loop sees it.
pub struct Broker {
    link: Link,
    topics: Topics,
    regions: Vec<Option<String>>,
    unknown: bool,
}

impl Broker {
    /// Begins to speak to the broker, if there is one.
    pub fn open(args: &MqttArgs, surroundings: &Surroundings<'_>) -> Result<Option<Self>, Failure> {
        let Some(address) = &args.mqtt else { return Ok(None) };
        let name = args.mqtt_name.clone().unwrap_or_else(|| usual_name(surroundings.source));
        let discovery = Some(args.mqtt_discovery.as_str()).filter(|prefix| !prefix.is_empty());
        let topics = Topics::new(&address.prefix, &name, discovery);
        let password = std::env::var(VARIABLE).ok();
        let client = format!("sextant-{}", part(&name));
        let link = Link::open(address, &client, password, topics.clone()).map_err(|error| {
            Failure::Failed(format!("--mqtt {address}: no thread for it: {error}"))
        })?;
        let regions = surroundings.regions.to_vec();
        Ok(Some(Self { link, topics, regions, unknown: surroundings.unknown }))
    }

    /// The labels are those of `watcher` from now on.
    pub fn begin(&self, watcher: &Watcher<'_>) {
        let (scene, mut retained) = (watcher.scene(), Retained::new());
        let mut states = 0;
        for (at, region) in self.regions.iter().enumerate() {
            let names = scene.names().iter().map(String::as_str).chain([UNKNOWN]);
            let count = scene.names().len();
            for (label, (name, is_there)) in names.zip(watcher.presence(at)).enumerate() {
                let is_told = if label < count { scene.is_shown(label) } else { self.unknown };
                states += usize::from(is_told);
                if is_told && states <= MOST {
                    self.topics.describe(&mut retained, region.as_deref(), name, is_there);
                }
            }
        }
        if states > MOST {
            complain(&format!("--mqtt: only {MOST} of {states} labels and regions have topics"));
        }
        self.link.replace(retained);
    }

    /// Something happened.
    pub fn event(&self, line: &EventLine<'_>) {
        let Ok(json) = serde_json::to_string(line) else { return };
        let is_there = line.event == "enter";
        let state = self.topics.state(line.region, line.label);
        self.link.set(state, on_off(is_there).to_owned());
        self.link.set(self.topics.attributes(line.region, line.label), json.clone());
        self.link.tell(self.topics.events(), json);
    }

    /// How the connection is doing, for Prometheus.
    pub fn metrics(&self, text: &mut String) {
        let counts = self.link.counts();
        let connected = u8::from(counts.connected);
        let _ = write!(
            text,
            "# HELP sextant_mqtt_connected Whether the broker can be reached.\n\
             # TYPE sextant_mqtt_connected gauge\nsextant_mqtt_connected {connected}\n\
             # HELP sextant_mqtt_outages_total Times the broker was lost or refused.\n\
             # TYPE sextant_mqtt_outages_total counter\nsextant_mqtt_outages_total {}\n\
             # HELP sextant_mqtt_dropped_total Events that the broker was never told.\n\
             # TYPE sextant_mqtt_dropped_total counter\nsextant_mqtt_dropped_total {}\n",
            counts.outages, counts.dropped
        );
    }

    /// The watch is over.
    pub fn finish(&self) {
        self.link.finish();
    }
}

/// A name that stays the same over restarts and differs between the watches of one network.
fn usual_name(source: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(|c| !c.is_control()).take(40).collect();
    let host = if host.is_empty() { "sextant".to_owned() } else { host };
    let digest = Sha256::digest(source);
    format!("{host} {:02x}{:02x}", digest[0], digest[1])
}
