//! `sextant watch` as a user runs it: sources, bad input, rules, keeping, signals.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::command::{program, root, sextant};

const LABELS: &str = "a car,an empty road";

fn jpeg(name: &str) -> Vec<u8> {
    fs::read(root().join("tests/golden/preprocess/source").join(name)).unwrap()
}

fn watch(source: &Path, more: &[&str]) -> crate::command::Said {
    let mut arguments = vec!["watch".to_owned(), source.display().to_string()];
    arguments.extend(["--labels".to_owned(), LABELS.to_owned()]);
    arguments.extend(more.iter().map(|&text| text.to_owned()));
    sextant(arguments)
}

#[test]
fn damage_between_frames_is_counted_and_nothing_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mjpeg");
    let (good, other) = (jpeg("rgb.jpg"), jpeg("grey.jpg"));
    let mut stream = Vec::new();
    for _ in 0..6 {
        stream.extend(&good);
        // Another size, a cut frame, zero bytes and garbage.
        stream.extend(&other);
        stream.extend(&good[..good.len() / 2]);
        stream.extend([0; 5000]);
        stream.extend(b"garbage ".repeat(2000));
    }
    fs::write(&path, stream).unwrap();
    let said = watch(&path, &["--sample", "0.01", "--fps", "0", "--motion", "0"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let samples: Vec<_> = said.json();
    let samples = samples.iter().filter(|line| line["event"] == "sample");
    assert_eq!(samples.count(), 12, "{}", said.err);
    assert!(said.err.contains("12 frames: 12 encoded"), "{}", said.err);
    assert!(said.err.contains("damaged") && said.err.contains("bytes of garbage"), "{}", said.err);
}

#[test]
fn events_have_the_documented_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mjpeg");
    fs::write(&path, jpeg("rgb.jpg").repeat(50)).unwrap();
    // With a threshold of nothing, every label enters, after three frames that agree.
    let metrics = folder.path().join("watch.prom");
    let written = metrics.display().to_string();
    let calm = ["--enter", "0", "--leave", "0", "--roi", "left=0,0,0.5,1.0"];
    let said = watch(&path, &[&calm[..], &["--metrics", &written]].concat());
    let lines = said.json();
    assert_eq!(lines.len(), 2, "{}\n{}", said.out, said.err);
    let first = &lines[0];
    for key in ["time", "frame", "event", "label", "score", "region"] {
        assert!(first.get(key).is_some(), "{key}");
    }
    assert_eq!((&first["event"], &first["region"]), (&"enter".into(), &"left".into()));
    assert!(first["time"].as_f64().unwrap() < 0.5);
    assert!(said.err.contains("still"), "fifty equal frames: {}", said.err);
    let metrics = fs::read_to_string(metrics).unwrap();
    let there = "sextant_label_present{label=\"a car\",region=\"left\"} 1";
    assert!(metrics.contains(there), "{metrics}");
}

#[test]
fn a_person_is_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mjpeg");
    let astronaut = fs::read(root().join("examples/photos/astronaut.jpg")).unwrap();
    fs::write(&path, astronaut.repeat(8)).unwrap();
    let source = path.display().to_string();
    let events = |labels: &str| {
        let said = sextant(["watch", &source, "--labels", labels, "--motion", "0"]);
        assert_eq!(said.code, 0, "{}", said.err);
        let events = said.json();
        assert!(events.len() < 2, "what it means as well is not shown: {}", said.out);
        events.first().map(|event| (event["label"].clone(), event["score"].as_f64().unwrap()))
    };
    let (label, score) = events("a person,an empty room").unwrap();
    assert!(label == "a person" && score > 0.6, "{label} {score}");
    assert_eq!(events("a dog"), None);
}

#[test]
fn gifs_and_y4m_are_read_without_help() {
    let gif = root().join("tests/golden/preprocess/source/animated.gif");
    let said = watch(&gif, &["--fps", "0"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.y4m");
    let mut bytes = b"YUV4MPEG2 W16 H16 F10:1 C420jpeg\n".to_vec();
    for level in [10u8, 200, 30] {
        bytes.extend(b"FRAME\n");
        bytes.extend([level; 16 * 16 * 3 / 2]);
    }
    bytes.extend(b"FRAME\nhalf");
    fs::write(&path, bytes).unwrap();
    let said = watch(&path, &["--fps", "0"]);
    assert!(said.err.contains("3 frames") && said.err.contains("cut short"), "{}", said.err);
    assert_eq!(said.code, 1);
}

#[test]
fn what_cannot_be_watched_is_named() {
    let said = watch(Path::new("no/such/film.mp4"), &[]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("no/such/film.mp4"), "{}", said.err);
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.toml");
    fs::write(&rules, "[[rule]]\nlabel = 'a car'\nsnapshit = 'x'\n").unwrap();
    let gif = root().join("tests/golden/preprocess/source/animated.gif");
    let rules = rules.display().to_string();
    let said = watch(&gif, &["--rules", &rules]);
    assert_eq!(said.code, 3);
    assert!(said.err.contains("did you mean \"snapshot\"?"), "{}", said.err);
    let said = watch(&gif, &["--roi", "1,2,3"]);
    assert_eq!(said.code, 2);
}

#[test]
fn rules_act_and_a_hanging_command_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (film, rules) = (folder.path().join("film.mjpeg"), folder.path().join("rules.toml"));
    let (shots, seen) = (folder.path().join("shots"), folder.path().join("seen.txt"));
    let child = folder.path().join("child.txt");
    fs::write(&film, jpeg("rgb.jpg").repeat(50)).unwrap();
    let text = format!(
        "[[rule]]\nname = 'first'\nlabel = 'a car'\nprint = true\nsnapshot = {shots:?}\n\
         command = ['sh', '-c', 'cat > {}']\nindex = {:?}\n\
         [[rule]]\nname = 'slow'\nlabel = 'a car'\n\
         command = ['sh', '-c', 'sleep 1000 & echo $$ $! > {}; sleep 1000']\ntimeout = 0.5\n",
        seen.display(),
        folder.path().join("rule.index"),
        child.display(),
    );
    fs::write(&rules, text).unwrap();
    let rules = rules.display().to_string();
    let said = watch(&film, &["--enter", "0", "--leave", "0", "--motion", "0", "--rules", &rules]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("first: a car enters"), "{}", said.err);
    assert!(said.err.contains("\"slow\": its command took too long"), "{}", said.err);
    let hung = fs::read_to_string(&child).unwrap();
    let (shell, sleep) = hung.trim().split_once(' ').unwrap();
    assert!(!Path::new("/proc").join(shell).exists(), "it is killed and collected");
    assert!(is_dead(sleep), "what it started is killed with it");
    assert_eq!(fs::read_dir(&shots).unwrap().count(), 2);
    let event: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&seen).unwrap()).unwrap();
    assert_eq!(event["label"], "a car");
    assert_eq!(sextant::index::Index::open(folder.path().join("rule.index")).unwrap().len(), 1);
}

/// Whether a process ends within a while: nobody may collect one whose parent is gone.
fn is_dead(number: &str) -> bool {
    let status = Path::new("/proc").join(number).join("status");
    (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        fs::read_to_string(&status).map_or(true, |text| text.contains("State:\tZ"))
    })
}

#[test]
fn a_full_disk_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (film, rules) = (folder.path().join("film.mjpeg"), folder.path().join("rules.toml"));
    let astronaut = fs::read(root().join("examples/photos/astronaut.jpg")).unwrap();
    fs::write(&film, astronaut.repeat(12)).unwrap();
    let (shots, index) = (folder.path().join("shots"), folder.path().join("seen.index"));
    fs::write(&rules, format!("[[rule]]\nlabel = 'a car'\nsnapshot = {shots:?}\n")).unwrap();
    // No file can grow beyond 16 KB: what a write then says is not unlike a full disk.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 32; exec \"$@\"", "sh"]);
    // An emulator has arguments of its own.
    command.arg(program().get_program()).args(program().get_args()).arg("watch").arg(&film);
    command
        .args(["--labels", LABELS, "--enter", "0", "--leave", "0", "--motion", "0", "--fps", "0"]);
    command.arg("--index").arg(&index).args(["--index-every", "0"]).arg("--rules").arg(&rules);
    command.env("SEXTANT_CACHE", folder.path().join("cache"));
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("trying again in 30 s") && told.contains("1 failed actions"), "{told}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2, "both labels: {told}");
    assert!(fs::read_dir(&shots).unwrap().next().is_none(), "half a picture is taken away");
    sextant::index::Index::open(&index).unwrap().verify(|_| {}).unwrap();
}

#[test]
fn what_is_kept_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let film = folder.path().join("film.mjpeg");
    fs::write(&film, jpeg("rgb.jpg").repeat(40)).unwrap();
    let index = folder.path().join("seen.index");
    let path = index.display().to_string();
    let all = ["--index", &path, "--index-every", "0", "--motion", "0"];
    let said = watch(&film, &all);
    assert_eq!(said.code, 0, "{}", said.err);
    let kept = sextant::index::Index::open(&index).unwrap().len();
    assert!(kept >= 15, "{kept} rows");
    // Reading it again replaces the rows.
    watch(&film, &all);
    assert_eq!(sextant::index::Index::open(&index).unwrap().len(), kept);
    let bounded: Vec<&str> = all.into_iter().chain(["--keep-count", "7"]).collect();
    let said = watch(&film, &bounded);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(sextant::index::Index::open(&index).unwrap().len() <= 7);
}

#[test]
fn thumbnails_go_with_their_rows() {
    let folder = tempfile::tempdir().unwrap();
    let film = folder.path().join("film.mjpeg");
    fs::write(&film, jpeg("rgb.jpg").repeat(40)).unwrap();
    let index = folder.path().join("seen.index");
    let path = index.display().to_string();
    let count = || {
        let files = walkdir::WalkDir::new(index.join("thumbnails")).into_iter().flatten();
        files.filter(|file| file.file_type().is_file()).count() as u32
    };
    let keep = |more: &[&str]| {
        let all = ["--index", &path, "--index-every", "0", "--motion", "0", "--thumbnails"];
        let said = watch(&film, &[&all[..], more].concat());
        assert_eq!(said.code, 0, "{}", said.err);
        let rows = sextant::index::Index::open(&index).unwrap().len();
        assert_eq!(count(), rows, "one a row");
        rows
    };
    assert!(keep(&[]) >= 15);
    assert!(keep(&["--keep-count", "5"]) <= 5);
    // What a killed watch left without a row is swept.
    fs::create_dir_all(index.join("thumbnails/zz")).unwrap();
    fs::write(index.join("thumbnails/zz/stray.jpg"), b"x").unwrap();
    keep(&["--keep-count", "5"]);
    let html = folder.path().join("found.html").display().to_string();
    let said = sextant(["search", &path, "a picture", "--html", &html]);
    assert_eq!(said.code, 0, "{}", said.err);
    let page = fs::read_to_string(html).unwrap();
    assert!(page.matches("src=\"data:image/jpeg;base64,").count() >= 3, "a picture a result");
}

/// A watch that runs until it is ended.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(home: &Path, source: &str, more: &[&str]) -> Running {
    let mut command = program();
    command.args(["watch", source, "--labels", LABELS]).args(more);
    command.env("SEXTANT_CACHE", home.join("cache")).env("NOTIFY_SOCKET", home.join("notify"));
    command.env("WATCHDOG_USEC", "400000");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    Running(command.spawn().unwrap())
}

#[test]
fn a_folder_is_followed_and_a_signal_ends_it_cleanly() {
    let home = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(home.path().join("notify")).unwrap();
    let incoming = home.path().join("incoming");
    fs::create_dir(&incoming).unwrap();
    fs::write(incoming.join("0.jpg"), jpeg("rgb.jpg")).unwrap();
    let metrics = home.path().join("watch.prom");
    let source = incoming.display().to_string();
    let written = metrics.display().to_string();
    let more = ["--sample", "0.1", "--motion", "0", "--metrics", &written];
    let mut running = start(home.path(), &source, &more);
    // What is told is read at once: a socket holds ten messages, and drops what comes then.
    let (hear, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let mut state = [0; 64];
        while socket
            .recv(&mut state)
            .is_ok_and(|length| hear.send(state[..length].to_vec()).is_ok())
        {}
    });
    let patience = Duration::from_secs(120);
    assert_eq!(heard.recv_timeout(patience).unwrap(), b"READY=1");
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let mut next =
        || -> serde_json::Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["frame"], 0);
    // Half written, then whole: one picture.
    let picture = jpeg("420.jpg");
    let mut file = fs::File::create(incoming.join("1.jpg")).unwrap();
    file.write_all(&picture[..100]).unwrap();
    file.sync_all().unwrap();
    file.write_all(&picture[100..]).unwrap();
    drop(file);
    let second = next();
    assert_eq!(second["frame"], 1);
    assert!(second["time"].as_str().unwrap().ends_with('Z'), "{second}");
    let told = |wanted: &[u8]| {
        std::iter::from_fn(|| heard.recv_timeout(patience).ok()).any(|state| state == wanted)
    };
    assert!(told(b"WATCHDOG=1"));
    let ended = Command::new("kill").arg(running.0.id().to_string()).status().unwrap();
    assert!(ended.success());
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    assert!(told(b"STOPPING=1"));
    let metrics = fs::read_to_string(metrics).unwrap();
    assert!(metrics.contains("\nsextant_frames_total 2\n"), "{metrics}");
}

#[test]
fn a_camera_that_is_too_fast_loses_its_oldest_frames_only() {
    let home = tempfile::tempdir().unwrap();
    let mut running =
        start(home.path(), "-", &["--fps", "0", "--motion", "0", "--sample", "0.000001"]);
    let mut stdin = running.0.stdin.take().unwrap();
    let frames = 400;
    let stream = jpeg("rgb.jpg").repeat(frames);
    let feeder = std::thread::spawn(move || stdin.write_all(&stream).is_ok());
    let lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let samples: Vec<serde_json::Value> = lines
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .filter(|line: &serde_json::Value| line["event"] == "sample")
        .collect();
    assert!(feeder.join().unwrap(), "the camera is never held up for good");
    assert!(samples.len() < frames, "some frames were dropped");
    let last = samples.last().unwrap();
    assert_eq!(last["frame"], frames - 1, "the newest frame is always seen");
    assert!(running.0.wait().unwrap().success());
}

#[test]
fn a_camera_that_goes_away_is_opened_again() {
    let home = tempfile::tempdir().unwrap();
    let ffmpeg = home.path().join("ffmpeg");
    // Three frames, and it is gone.
    let script = "#!/bin/sh\n[ \"$1\" = -version ] && exit 0\n\
                  printf 'YUV4MPEG2 W16 H16 F10:1 Ip C420jpeg\\n'\n\
                  for i in 1 2 3; do printf 'FRAME\\n'; head -c 384 /dev/zero; done\n";
    fs::write(&ffmpeg, script).unwrap();
    fs::set_permissions(&ffmpeg, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut command = program();
    command.args(["watch", "rtsp://camera.invalid/1", "--labels", LABELS, "--fps", "0"]);
    command.args(["--motion", "0", "--sample", "0.000001"]);
    command.env("PATH", format!("{}:{path}", home.path().display()));
    command.env("SEXTANT_CACHE", home.path().join("cache"));
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = Running(command.spawn().unwrap());
    let lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let mut frames =
        lines.map(|line| -> serde_json::Value { serde_json::from_str(&line.unwrap()).unwrap() });
    assert!(frames.any(|line| line["frame"].as_u64() >= Some(3)), "numbers go on");
}
