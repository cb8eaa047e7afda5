//! The live page's server on loopback: what programs get from it, and what nobody gets.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::command::{program, root};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A watch of a folder, which goes on until it is ended.
pub(crate) struct Watched {
    pub(crate) child: Child,
    address: SocketAddr,
    home: tempfile::TempDir,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(home: &Path, more: &[&str]) -> Command {
    let mut command = program();
    command.arg("watch").arg(home.join("incoming"));
    if !more.contains(&"--labels") {
        command.args(["--labels", "a car,an empty road"]);
    }
    command.args(["--motion", "0"]).args(more);
    command.env("SEXTANT_CACHE", home.join("cache")).env_remove("SEXTANT_HTTP_TOKEN");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

pub(crate) fn watch(more: &[&str]) -> Watched {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("incoming")).unwrap();
    fs::write(home.path().join("token"), TOKEN).unwrap();
    let index = home.path().join("seen.index").display().to_string();
    let token = home.path().join("token").display().to_string();
    let replace = |text: &&str| text.replace("INDEX", &index).replace("TOKEN", &token);
    let more: Vec<String> = more.iter().map(replace).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let more = [&["--http", "127.0.0.1:0"], &more[..]].concat();
    let mut child = command(home.path(), &more).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines.by_ref().find_map(|line| {
        let line = line.unwrap();
        Some(line.split_once("http://")?.1.trim_end_matches('/').parse().unwrap())
    });
    // Somebody has to read on, or the watch would wait for a reader.
    std::thread::spawn(move || lines.for_each(drop));
    let watched = Watched { child, address: address.expect("an address"), home };
    watched.see("rgb.jpg", 3);
    watched
}

/// Status, headers and body.
pub(crate) struct Answer(pub(crate) u16, String, Vec<u8>);

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.2).unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.2).into_owned()
    }
}

impl Watched {
    /// Lets the camera see a picture so many times.
    pub(crate) fn see(&self, picture: &str, times: usize) {
        let bytes = fs::read(root().join("tests/golden/preprocess/source").join(picture)).unwrap();
        for number in 0..times {
            let name = format!("{}-{number}-{picture}", jiff::Timestamp::now().as_nanosecond());
            fs::write(self.home.path().join("incoming").join(name), &bytes).unwrap();
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends bytes as they are and reads to the end of the connection.
    fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        // The server may have answered, and closed, before all of it is written.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer");
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer(status, head, answer[end + 4..].to_vec())
    }

    pub(crate) fn get(&self, path: &str, headers: &str) -> Answer {
        let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
        self.raw(
            format!("GET {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n").as_bytes(),
        )
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        self.raw(
            format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\
                 Content-Length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        )
    }

    pub(crate) fn type_labels(&self, labels: &[&str]) -> Answer {
        let body = serde_json::json!({ "labels": labels }).to_string();
        self.post("/api/labels", "Content-Type: application/json\r\n", &body)
    }

    /// The state once it meets a condition. Gives up when nothing was looked at for two minutes: under an emulator
    /// on a busy computer a picture may take ten seconds.
    pub(crate) fn state_when(&self, what: &str, meets: impl Fn(&Value) -> bool) -> Value {
        let (mut counts, mut since) = (Value::Null, Instant::now());
        loop {
            let answer = self.get("/api/state", "");
            // Connections that were closed just now may take up the room a little longer.
            if answer.0 != 503 {
                let state = answer.json();
                if meets(&state) {
                    return state;
                }
                if state["counts"] != counts {
                    (counts, since) = (state["counts"].clone(), Instant::now());
                }
            }
            assert!(since.elapsed() < Duration::from_secs(120), "{what}: {}", answer.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn programs_get_state_picture_events_and_metrics() {
    let watched = watch(&["--index", "INDEX", "--index-every", "0", "--thumbnails"]);
    let state = watched.state_when("scores", |state| state["regions"][0]["scores"][1].is_array());
    assert_eq!(state["labels"][1]["name"], "an empty road");
    let page = watched.get("/", "");
    assert!(page.0 == 200 && page.text().contains("<h1>Sextant</h1>"));
    assert!(page.1.contains("Content-Security-Policy: default-src 'none'"), "{}", page.1);
    // A picture is taken from the loop when somebody asks: the next one. On a busy computer the request
    // may come in only after the next one; then there is none in time, and it is asked again.
    let picture = (0..10).find_map(|_| {
        let mut asking = watched.connect();
        asking
            .write_all(b"GET /picture.jpg HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        std::thread::sleep(Duration::from_millis(100));
        watched.see("420.jpg", 2);
        let mut answer = Vec::new();
        asking.read_to_end(&mut answer).unwrap();
        let start = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        sextant::decode_bytes(&answer[start..], "picture", &Default::default()).ok()
    });
    let picture = picture.expect("a picture for one of ten requests");
    assert!(picture.width() > 1 && picture.width() <= 960);
    let metrics = watched.get("/metrics", "").text();
    assert!(metrics.contains("# TYPE sextant_frames_total counter"), "{metrics}");
    assert_eq!(watched.get("/healthz", "").json()["alive"], true);

    // An event, from the stream. Nine pictures in a row are something.
    watched.type_labels(&["!nothing", "anything"]);
    watched.see("rgb.jpg", 9);
    watched.state_when("labels", |state| state["labels"][1]["name"] == "anything");
    let mut stream = BufReader::new(watched.connect());
    stream.get_mut().write_all(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let data = stream.lines().map(Result::unwrap).find(|line| line.starts_with("data: ")).unwrap();
    assert!(serde_json::from_str::<Value>(&data[6..]).is_ok(), "{data}");

    // What was kept is found, with a picture, once it is committed.
    let deadline = Instant::now() + Duration::from_secs(60);
    let found = loop {
        watched.see("grey.jpg", 1);
        let found = watched.get("/api/search?q=a+colourful+picture&top=2", "").json();
        if found["found"][1].is_object() || Instant::now() > deadline {
            break found;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let key = found["found"][0]["key"].as_str().unwrap();
    assert_eq!(found["found"][0]["thumbnail"], true, "{found}");
    let key: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let thumbnail = watched.get(&format!("/thumbnail.jpg?key={key}"), "");
    let thumbnail = sextant::decode_bytes(&thumbnail.2, "thumbnail", &Default::default()).unwrap();
    assert!(thumbnail.width() <= 240 && thumbnail.height() <= 240);
    let like = watched.get(&format!("/api/search?like={key}&top=1"), "").json();
    assert_eq!(like["found"][0]["key"], found["found"][0]["key"]);
    let wrong = watched.get("/api/search?q=a+%2B", "");
    assert!(wrong.0 == 422 && wrong.text().contains("nothing follows"), "{}", wrong.text());
    // A text is a text, even where it is the path of a picture; and keys lead to thumbnails only.
    let photo = root().join("tests/golden/preprocess/source/rgb.jpg").display().to_string();
    assert_eq!(watched.get(&format!("/api/search?q=img:{photo}"), "").0, 200);
    for path in ["/../../etc/passwd", "/thumbnail.jpg?key=../../../etc/passwd", "/page.html"] {
        assert_eq!(watched.get(path, "").0, 404, "{path}");
    }
}

#[test]
fn typed_labels_take_effect_and_wrong_ones_are_named() {
    let watched = watch(&[]);
    for (labels, says) in [
        (&[][..], "at least one label"),
        (&["!wall", " "], "at least one label"),
        (&["unknown"], "another name"),
        (&["a\u{7}b"], "cannot be shown"),
        (&[&"x".repeat(101)], "too long"),
        (&["/etc/passwd", "!"], "at least one label"),
    ] {
        let answer = watched.type_labels(labels);
        assert_eq!(answer.0, 422, "{labels:?}: {}", answer.text());
        assert!(answer.json()["error"].as_str().unwrap().contains(says), "{}", answer.text());
    }
    let many: Vec<String> = (0..101).map(|number| format!("label {number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(watched.type_labels(&many).text().contains("too many"));
    let json = "Content-Type: application/json\r\n";
    for body in ["", "[]", "{\"labels\":3}", "{\"labels\":[],\"more\":1}", "\u{0}"] {
        assert_eq!(watched.post("/api/labels", json, body).0, 400, "{body:?}");
    }
    assert_eq!(watched.post("/api/labels", "Content-Type: text/plain\r\n", "{}").0, 415);
    // The watch has gone on with what it had.
    let before = watched.state_when("a frame", |state| state["time"].is_string());
    assert_eq!(before["labels"][0]["name"], "a car");

    let answer = watched.type_labels(&["a boat", "!fog", "a boat", "an empty sea"]);
    assert_eq!(answer.0, 202, "{}", answer.text());
    assert_eq!(answer.json()["labels"], serde_json::json!(["a boat", "!fog", "an empty sea"]));
    watched.see("rgb.jpg", 1);
    let after = watched.state_when("the labels", |state| state["version"] == 2);
    assert_eq!(after["labels"][1], serde_json::json!({ "name": "fog", "negative": true }));
}

/// A label began with a parent, and is then hidden: the watch ended with a panic once.
#[test]
fn typed_labels_are_a_tree_or_refused() {
    let watched = watch(&["--labels", "a truck < a vehicle, a boat"]);
    let answer = watched.type_labels(&["a truck", "!a vehicle"]);
    assert_eq!(answer.0, 422, "{}", answer.text());
    assert!(answer.text().contains("a vehicle"), "{}", answer.text());
    let answer = watched.type_labels(&["a boat", "!a truck"]);
    assert_eq!(answer.0, 202, "{}", answer.text());
    watched.see("rgb.jpg", 1);
    let after = watched.state_when("the labels", |state| state["version"] == 2);
    assert_eq!(after["labels"][1], serde_json::json!({ "name": "a truck", "negative": true }));
}

#[test]
fn only_the_token_opens_and_other_sites_do_nothing() {
    let watched = watch(&["--http-token-file", "TOKEN"]);
    assert_eq!(watched.get("/healthz", "").0, 200);
    for path in
        ["/api/state", "/picture.jpg", "/stream.mjpg", "/api/events", "/metrics", "/api/search?q=a"]
    {
        assert_eq!(watched.get(path, "").0, 401, "{path}");
    }
    let page = watched.get("/", "");
    assert!(page.0 == 401 && page.text().contains("type=\"password\""));
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    assert_eq!(watched.get("/api/state", &bearer(TOKEN)).0, 200);
    assert_eq!(watched.get("/api/state", &bearer(&TOKEN[1..])).0, 401);
    let right = watched.post("/login", "Origin: http://localhost\r\n", &format!("token={TOKEN}"));
    let cookie = right.1.split("Set-Cookie: ").nth(1).expect("a cookie").lines().next().unwrap();
    assert!(right.0 == 303 && cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    assert_eq!(watched.get("/api/state", &cookie).0, 200);
    assert_eq!(watched.post("/login", "", "token=wrong").0, 401);
    let json = "Content-Type: application/json\r\n";
    let from = |origin: &str| format!("{json}{cookie}Origin: {origin}\r\n");
    assert_eq!(watched.post("/api/labels", &from("http://evil.example"), "{}").0, 403);
    assert_eq!(watched.post("/api/labels", &from("http://localhost"), "{}").0, 400);
}

#[test]
fn an_open_page_has_no_other_name_and_others_need_a_token() {
    let watched = watch(&[]);
    assert_eq!(watched.get("/api/state", "Host: evil.example\r\n").0, 421);
    assert_eq!(watched.get("/api/state", "Host: 127.0.0.1:1\r\n").0, 200);
    assert_eq!(watched.raw(b"GET / HTTP/1.0\r\n\r\n").0, 421, "no host at all");
    for (more, says) in [
        (&["--http", "0.0.0.0:0"][..], "needs a token"),
        (&["--http", "here"], "an address and a port"),
        (&["--http", "127.0.0.1:0", "--http-token-file", "/no/such"], "cannot be read"),
    ] {
        let said = command(watched.home.path(), more).output().unwrap();
        let error = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.code() == Some(2) && error.contains(says), "{error}");
    }
}

#[test]
fn clients_are_held_to_limits() {
    let watched = watch(&[]);
    let long = "x".repeat(20_000);
    assert_eq!(watched.get(&format!("/{long}"), "").0, 431);
    assert_eq!(watched.get("/", &format!("A: {long}\r\n")).0, 431);
    assert_eq!(watched.get("/", &"A: b\r\n".repeat(100)).0, 431);
    let big = format!("{{\"labels\":[\"{}\"]}}", "x".repeat(100_000));
    let json = "Content-Type: application/json\r\n";
    assert_eq!(watched.post("/api/labels", json, &big).0, 413);
    let chunked =
        b"POST /api/labels HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(watched.raw(chunked).0, 411);
    assert_eq!(watched.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").0, 400);
    assert_eq!(
        watched
            .raw(b"DELETE /api/state HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .0,
        405
    );

    // Clients that never read, and such that never ask: the watch goes on, and so does the page.
    let mut idle: Vec<TcpStream> = Vec::new();
    for path in ["/stream.mjpg", "/api/events", "/picture.jpg"] {
        let mut stream = watched.connect();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
            .unwrap();
        idle.push(stream);
    }
    idle.extend((0..10).map(|_| watched.connect()));
    let frames = |state: &Value| state["counts"]["frames"].as_u64().unwrap();
    let before = frames(&watched.get("/api/state", "").json());
    watched.see("rgb.jpg", 20);
    watched.state_when("frames", |state| frames(state) >= before + 20);
    // More connections than there is room for are told so, or closed.
    idle.extend((0..40).map(|_| watched.connect()));
    let mut last = [0; 12];
    let refused = idle.last_mut().unwrap().read(&mut last);
    assert!(!matches!(refused, Ok(1..)) || last.ends_with(b"503"), "{last:?}");
    drop(idle);
    watched.state_when("room again", |state| frames(state) >= before + 20);
}
