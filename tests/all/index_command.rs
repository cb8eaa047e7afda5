//! `sextant index` and `sextant search` as a user runs them, on real photos.
#![cfg(feature = "builtin-model")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use sextant::index::{Index, Writer};

use crate::command::{Said, photo, program};

const PHOTOS: [&str; 5] = ["astronaut.jpg", "cat.jpg", "coffee.jpg", "galaxies.jpg", "rocket.jpg"];

/// A folder to work in, with photos in `photos`.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        fs::create_dir(desk.path("photos")).unwrap();
        for name in PHOTOS {
            fs::copy(photo(name), desk.path("photos").join(name)).unwrap();
        }
        desk
    }

    /// The same with the photos in the index `my.index`.
    fn indexed() -> Self {
        let desk = Self::new();
        let said = desk.run(["index", "add", "my.index", "photos", "--tag", "trip=coast"]);
        assert_eq!(said.code, 0, "{}", said.err);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = program();
        command.current_dir(self.0.path()).env("SEXTANT_CACHE", self.path("cache"));
        command
    }

    fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Said {
        let output = self.command().args(arguments).output().expect("the binary runs");
        Said {
            code: output.status.code().expect("not ended by a signal"),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must succeed, and reads its lines of JSON.
    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let said = self.run(arguments.iter().chain(&["--format", "json"]));
        assert_eq!(said.code, 0, "{arguments:?}: {}", said.err);
        said.json()
    }

    fn search(&self, arguments: &[&str]) -> Vec<Value> {
        self.json(&[&["search", "my.index"], arguments].concat())
    }
}

fn keys(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["key"].as_str().unwrap()).collect()
}

fn counts(line: &Value) -> [u64; 4] {
    ["added", "replaced", "unchanged", "failed"].map(|name| line[name].as_u64().unwrap())
}

#[test]
fn adding_again_does_only_what_is_new() {
    let desk = Desk::new();
    let add = |more: &[&str]| {
        let arguments = [&["index", "add", "my.index", "photos/", "--format", "json"], more];
        let said = desk.run(arguments.concat());
        (said.code, counts(&said.json()[0]))
    };
    assert_eq!(add(&[]), (0, [5, 0, 0, 0]));
    assert_eq!(add(&[]), (0, [0, 0, 5, 0]));
    // Another name for the same folder, and another time without another content.
    let cat = desk.path("photos/cat.jpg");
    let earlier = SystemTime::now() - Duration::from_secs(1000);
    File::options().write(true).open(&cat).unwrap().set_modified(earlier).unwrap();
    assert_eq!(add(&["./photos"]), (0, [0, 0, 5, 0]));
    fs::copy(photo("rocket.jpg"), &cat).unwrap();
    fs::write(desk.path("photos/notes.png"), "not a picture").unwrap();
    fs::copy(photo("cat.jpg"), desk.path("photos/new.jpg")).unwrap();
    assert_eq!(add(&["nowhere.jpg"]), (1, [1, 1, 4, 2]));
    fs::remove_file(desk.path("photos/notes.png")).unwrap();
    assert_eq!(add(&["--again", "--tag", "a=b"]), (0, [0, 6, 0, 0]));

    let list = desk.json(&["index", "list", "my.index"]);
    assert_eq!(keys(&list)[..2], ["photos/astronaut.jpg", "photos/cat.jpg"]);
    assert!(list.iter().all(|row| row["tags"]["a"] == "b"), "{list:?}");
    let found = desk.search(&["a rocket", "-k", "2"]);
    assert!(keys(&found).contains(&"photos/cat.jpg"), "{found:?}");
}

#[test]
fn words_pictures_and_sums_find_what_they_mean() {
    let desk = Desk::indexed();
    let words = desk.search(&["a cat"]);
    assert_eq!(words.len(), 5);
    assert_eq!(words[0]["key"], "photos/cat.jpg");
    assert_eq!(words[0]["tags"]["trip"], "coast");
    for (rank, line) in (1..).zip(&words) {
        assert_eq!(line["rank"], rank);
        assert!((0.0..=1.0).contains(&line["score"].as_f64().unwrap()), "{line}");
    }
    let similarities: Vec<f64> =
        words.iter().map(|line| line["similarity"].as_f64().unwrap()).collect();
    assert!(similarities.is_sorted_by(|a, b| a >= b), "{similarities:?}");
    // What `similar` says of the float vectors, up to rounding the row to int8.
    let similar = &desk.json(&["similar", "txt:a cat", "photos/cat.jpg"])[0];
    let difference = similar["similarity"].as_f64().unwrap() - similarities[0];
    assert!(difference.abs() < 0.01, "{difference}");

    let picture = desk.search(&["photos/rocket.jpg", "-k", "1"]);
    assert_eq!(picture[0]["key"], "photos/rocket.jpg");
    assert!(picture[0]["similarity"].as_f64().unwrap() > 0.99);

    let sum = desk.search(&["photos/rocket.jpg", "+", "a cup of coffee", "-", "0.5:galaxy"]);
    let best = [keys(&sum)[0], keys(&sum)[1]];
    assert!(best.contains(&"photos/rocket.jpg") && best.contains(&"photos/coffee.jpg"), "{sum:?}");
    assert!(sum.iter().all(|line| line["score"].is_null()), "sums have no calibrated score");
    let quoted = desk.search(&["photos/rocket.jpg + \"a cup of coffee\" - 0.5:galaxy"]);
    assert_eq!(quoted, sum);
}

#[test]
fn sets_are_means_and_ways_lead_from_one_sum_to_another() {
    let desk = Desk::indexed();
    fs::write(desk.path("warm.txt"), "a cup of coffee\n\n  a hot drink \n").unwrap();
    fs::create_dir(desk.path("space")).unwrap();
    for name in ["rocket.jpg", "galaxies.jpg"] {
        fs::copy(photo(name), desk.path("space").join(name)).unwrap();
    }
    let moved = desk.search(&["img:photos/cat.jpg", "+", "set:warm.txt", "-", "0.5:set:space"]);
    let spelt = desk.search(&[
        "photos/cat.jpg + 0.5:a cup of coffee + 0.5:a hot drink - 0.25:photos/galaxies.jpg \
         - 0.25:photos/rocket.jpg",
    ]);
    assert_eq!(keys(&moved), keys(&spelt));
    for (a, b) in moved.iter().zip(&spelt) {
        let similarity = |line: &Value| line["similarity"].as_f64().unwrap();
        assert!((similarity(a) - similarity(b)).abs() < 1e-5, "{a} {b}");
    }

    let way = |step: &str| desk.search(&["photos/cat.jpg", step, "photos/coffee.jpg", "-k", "2"]);
    assert_eq!(keys(&way("..0%"))[0], "photos/cat.jpg");
    assert_eq!(keys(&way("..100%"))[0], "photos/coffee.jpg");
    let half = way("..");
    assert_eq!(way("..50%"), half);
    let similarities: Vec<f64> = half.iter().map(|l| l["similarity"].as_f64().unwrap()).collect();
    assert!((similarities[0] - similarities[1]).abs() < 0.01, "as far from both: {half:?}");
    assert!(half[0]["score"].is_null(), "a point on a way has no calibrated score");
    assert_eq!(desk.search(&["photos/cat.jpg ..50% photos/coffee.jpg", "-k", "2"]), half);
    let mixed = desk.search(&["photos/cat.jpg", "..100%", "a rocket", "-k", "1"]);
    assert_eq!(keys(&mixed), ["photos/rocket.jpg"]);
}

#[test]
fn any_number_of_results_is_defined() {
    let desk = Desk::indexed();
    for (k, rows) in [("0", 0), ("1", 1), ("5", 5), ("5000", 5)] {
        assert_eq!(desk.search(&["a cat", "-k", k]).len(), rows, "{k}");
    }
    let none = desk.run(["search", "my.index", "a cat", "-k", "0"]);
    assert_eq!((none.code, none.err.as_str()), (0, ""), "no complaint about what was asked for");
    assert_eq!(desk.search(&["a cat", "--fast"]), desk.search(&["a cat"]));
    assert_eq!(desk.search(&["a cat", "--threads", "1"]), desk.search(&["a cat"]));
}

#[test]
fn conditions_choose_rows_by_tag_time_and_key() {
    let desk = Desk::new();
    let add = |file: &str, more: &[&str]| {
        let arguments = [&["index", "add", "my.index", file], more].concat();
        assert_eq!(desk.run(arguments).code, 0, "{file}");
    };
    add("photos/cat.jpg", &["--tag", "room=kitchen", "--time", "2026-05-01T10:00:00Z"]);
    add("photos/coffee.jpg", &["--tag", "room=kitchen", "--time", "2026-05-03T10:00:00Z"]);
    add("photos/rocket.jpg", &["--tag", "room=yard", "--time", "none"]);
    let chosen = |more: &[&str]| {
        let found = desk.search(&[&["a thing"], more].concat());
        let list = desk.json(&[&["index", "list", "my.index"], more].concat());
        let mut found: Vec<String> = keys(&found).into_iter().map(String::from).collect();
        found.sort();
        assert_eq!(found, keys(&list), "search and list agree about {more:?}");
        found.iter().map(|key| key["photos/".len()..].replace(".jpg", "")).collect::<Vec<_>>()
    };
    assert_eq!(chosen(&[]), ["cat", "coffee", "rocket"]);
    assert_eq!(chosen(&["--where", "room=kitchen"]), ["cat", "coffee"]);
    assert_eq!(chosen(&["--since", "2026-05-02"]), ["coffee"]);
    assert_eq!(chosen(&["--until", "2026-05-02"]), ["cat"]);
    assert_eq!(chosen(&["--until", "2026-05-03T10:00:00Z"]), ["cat", "coffee"]);
    assert_eq!(chosen(&["--since", "2026-05-02", "--where", "room=yard"]), [""; 0]);
    assert_eq!(chosen(&["--prefix", "photos/c"]), ["cat", "coffee"]);
    assert_eq!(chosen(&["--modality", "text"]), [""; 0]);

    let said = desk.run(["index", "remove", "my.index", "--until", "2026-05-02"]);
    assert_eq!((said.code, said.out.trim()), (0, "1 removed; 2 rows"));
    assert_eq!(chosen(&[]), ["coffee", "rocket"]);
}

#[test]
fn a_picture_that_is_gone_is_known_by_its_key() {
    let desk = Desk::indexed();
    let before = desk.search(&["photos/cat.jpg"]);
    fs::remove_file(desk.path("photos/cat.jpg")).unwrap();
    let after = desk.search(&["photos/cat.jpg"]);
    assert_eq!(keys(&after), keys(&before));
    assert!(after[0]["similarity"].as_f64().unwrap() > 0.999);
}

#[test]
fn what_is_exported_can_be_imported() {
    let desk = Desk::indexed();
    let said = desk.run(["index", "export", "my.index", "-o", "out.npy"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(said.out.trim(), "5 rows written to out.npy and out.jsonl");
    let import = ["index", "import", "copy.index", "out.npy", "--keys", "out.jsonl"];
    assert_eq!(desk.json(&import)[0]["imported"], 5);
    let copy = desk.json(&["search", "copy.index", "a cat"]);
    assert_eq!(copy, desk.search(&["a cat"]));
    assert_eq!(desk.json(&import)[0]["replaced"], 5);

    let info = &desk.json(&["index", "info", "copy.index"])[0];
    assert_eq!((&info["rows"], &info["removed"]), (&Value::from(5), &Value::from(5)));
    assert_eq!(info["model"], "sextant-lite");
    let compact = &desk.json(&["index", "compact", "copy.index"])[0];
    assert_eq!((&compact["rows"], &compact["removed"]), (&Value::from(5), &Value::from(5)));
    assert_eq!(desk.json(&["search", "copy.index", "a cat"]), copy);
    assert_eq!(desk.json(&["index", "verify", "copy.index"])[0]["sound"], true);
    // Without keys the rows are numbered.
    desk.json(&["index", "import", "numbered.index", "out.npy"]);
    let found = desk.json(&["search", "numbered.index", "a cat", "-k", "1"]);
    assert_eq!(found[0]["key"], "out.npy#1");
    let like = desk.json(&["search", "numbered.index", "out.npy#4", "-k", "1"]);
    assert_eq!(like[0]["key"], "out.npy#4");
}

#[cfg(not(feature = "parquet"))]
#[test]
fn without_parquet_its_export_says_how_to_get_it() {
    let desk = Desk::indexed();
    let said = desk.run(["index", "export", "my.index", "-o", "out.parquet"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("--features parquet"), "{}", said.err);
}

#[test]
fn damage_is_named_and_the_rest_is_saved() {
    let desk = Desk::indexed();
    let rows = fs::read_dir(desk.path("my.index")).unwrap().map(|entry| entry.unwrap().path());
    let rows = rows.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(&rows).unwrap();
    bytes[100] ^= 1;
    fs::write(&rows, bytes).unwrap();
    let said = desk.run(["index", "verify", "my.index"]);
    assert_eq!(said.code, 3);
    assert!(said.out.contains("damaged at byte") && said.out.contains("(row 0)"), "{}", said.out);
    assert!(said.err.contains("--drop-damaged"), "{}", said.err);
    assert_eq!(desk.run(["search", "my.index", "a cat"]).code, 3);
    assert_eq!(desk.run(["index", "compact", "my.index"]).code, 3);
    assert_eq!(desk.run(["index", "compact", "my.index", "--drop-damaged"]).code, 0);
    assert_eq!(keys(&desk.search(&["a cat"])).len(), 4);
}

#[test]
fn contact_sheets_are_one_file_that_keys_cannot_break() {
    let desk = Desk::new();
    let hostile = "photos/<script>alert('1')&\".jpg";
    fs::copy(photo("cat.jpg"), desk.path(hostile)).unwrap();
    assert_eq!(desk.run(["index", "add", "my.index", "photos", "--tag", "<i>=<b>"]).code, 0);
    fs::remove_file(desk.path("photos/coffee.jpg")).unwrap();
    let said = desk.run(["search", "my.index", "<u>a cat</u>", "--html", "found.html"]);
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{}", said.err);
    let page = fs::read_to_string(desk.path("found.html")).unwrap();
    assert_eq!(page.matches("src=\"data:image/jpeg;base64,/9j/").count(), 5);
    assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&amp;&quot;.jpg"));
    assert!(page.contains("<h1>&lt;u&gt;a cat&lt;/u&gt;</h1>"));
    assert!(page.contains("photos/coffee.jpg: no such file"));
    for tag in ["<script", "<u>", "<i>=", "http:", "https:"] {
        assert!(!page.contains(tag), "{tag}");
    }
}

#[test]
fn what_cannot_be_done_is_said_in_a_line() {
    let desk = Desk::indexed();
    fs::write(desk.path("text.npy"), "not an array").unwrap();
    let foreign = "00".repeat(32);
    desk.json(&["index", "export", "my.index", "-o", "out.npy"]);
    desk.json(&["index", "import", "foreign.index", "out.npy", "--space", &foreign]);
    fs::write(desk.path("one.txt"), "a key\n").unwrap();
    for (arguments, code, message) in [
        (&["search", "none.index", "a cat"][..], 2, "none.index: no such index"),
        (&["search", "photos", "a cat"], 3, "photos: not an index"),
        (&["search", "out.npy", "a cat"], 2, "out.npy: an index is a folder"),
        (&["search", "foreign.index", "a cat"], 3, "foreign.index: holds vectors of space 0000"),
        (&["index", "add", "foreign.index", "photos"], 3, "holds vectors of space 0000"),
        (&["index", "add", "photos", "photos"], 3, "photos: not an index"),
        (&["search", "my.index", "dgo.jpg"], 1, "dgo.jpg: no such file"),
        (&["search", "my.index", "img:nowhere"], 1, "nowhere: no such file"),
        (&["search", "my.index", "./photos"], 1, "written set:./photos"),
        (&["search", "my.index", ""], 2, "the query is empty"),
        (&["search", "my.index", "a", "cat"], 2, "put + or - between two terms"),
        (&["search", "my.index", "cat", "+"], 2, "nothing follows the +"),
        (&["search", "my.index", "0:cat"], 2, "a weight is a number"),
        (&["search", "my.index", "cat", ".."], 2, "nothing follows the .."),
        (&["search", "my.index", "cat", "..300%", "dog"], 2, "0% to 100%"),
        (&["search", "my.index", "set:none.txt"], 1, "none.txt: a set is a folder of pictures"),
        (&["search", "my.index", "set:out.npy"], 1, "out.npy: a set is a folder of pictures"),
        (&["search", "my.index", "set:one.txt", "-", "set:one.txt"], 2, "cancel each other out"),
        (&["search", "my.index", "cat", "-", "cat"], 2, "cancel each other out"),
        (&["search", "my.index", "cat", "--html", "no/a.html"], 1, "no/a.html: cannot be written"),
        (&["index", "remove", "my.index"], 2, "nothing to remove"),
        (&["index", "remove", "my.index", "nobody.jpg"], 1, "nobody.jpg: not in the index"),
        (&["index", "import", "my.index", "text.npy"], 1, "text.npy: not a readable .npy file"),
        (&["index", "import", "my.index", "nothing.npy"], 1, "nothing.npy: "),
        (
            &["index", "import", "my.index", "out.npy", "--keys", "one.txt"],
            1,
            "one.txt: 1 keys for 5 vectors",
        ),
        (&["index", "add", "new.index", "nowhere.jpg"], 1, "nowhere.jpg: no such file"),
    ] {
        let said = desk.run(arguments);
        assert_eq!(said.code, code, "{arguments:?}: {}", said.err);
        assert!(said.err.contains(message), "{arguments:?}: {}", said.err);
        assert_eq!(said.err.lines().count(), 1, "{arguments:?}: {}", said.err);
    }
    for arguments in [
        &["search", "my.index", "cat", "--where", "room"][..],
        &["search", "my.index", "cat", "--since", "soon"],
        &["search", "my.index", "cat", "-k", "-1"],
        &["index", "add", "my.index", "photos", "--tag", "=x"],
        &["index", "add", "my.index", "photos", "--time", "whenever"],
        &["index", "import", "my.index", "out.npy", "--space", "12"],
    ] {
        assert_eq!(desk.run(arguments).code, 2, "{arguments:?}");
    }
    assert_eq!(desk.json(&["index", "info", "my.index"])[0]["rows"], 5, "nothing was changed");
}

#[test]
fn a_second_writer_is_told_who_is_first() {
    let desk = Desk::indexed();
    let index = desk.path("my.index");
    let _first = Writer::open_any(&index).unwrap();
    let said = desk.run(["index", "remove", "my.index", "photos/cat.jpg"]);
    assert_eq!(said.code, 1);
    let locked = format!("my.index: locked by process {}", std::process::id());
    assert!(said.err.contains(&locked), "{}", said.err);
    assert_eq!(desk.search(&["a cat"]).len(), 5, "readers are not disturbed");
}

#[cfg(unix)]
#[test]
fn names_may_be_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let desk = Desk::new();
    let names = [&b"photos/new\nline.jpg"[..], b"photos/\xff.jpg"];
    for name in names {
        fs::copy(photo("cat.jpg"), desk.0.path().join(OsStr::from_bytes(name))).unwrap();
    }
    assert_eq!(desk.run(["index", "add", "my.index", "photos"]).code, 0);
    let list = desk.json(&["index", "list", "my.index"]);
    assert!(list.iter().any(|row| row["key"] == "photos/new\nline.jpg"));
    assert!(list.iter().any(|row| row["key_hex"] == "70686f746f732fff2e6a7067"));
    let text = desk.run(["search", "my.index", "a cat"]).out;
    assert_eq!(text.lines().count(), 1 + 7, "a row a line: {text}");
    for name in names {
        let arguments = ["index", "remove", "my.index"].map(OsStr::new);
        let said = desk.run(arguments.into_iter().chain([OsStr::from_bytes(name)]));
        assert_eq!((said.code, said.err.as_str()), (0, ""));
    }
    assert_eq!(desk.json(&["index", "info", "my.index"])[0]["rows"], 5);
}

/// Starts `index add` of many pictures on one thread, and waits until some of them are saved.
#[cfg(unix)]
fn half_way(desk: &Desk, index: &Path) -> std::process::Child {
    fs::create_dir(desk.path("many")).unwrap();
    for number in 0..160 {
        fs::copy(photo("cat.jpg"), desk.path("many").join(format!("{number:03}.jpg"))).unwrap();
    }
    let mut child = desk
        .command()
        .args(["index", "add", "my.index", "many", "--threads", "1", "--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while child.try_wait().unwrap().is_none()
        && !Index::open(index).is_ok_and(|reader| !reader.is_empty())
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_what_is_done_and_the_next_run_goes_on() {
    let desk = Desk::new();
    let child = half_way(&desk, &desk.path("my.index"));
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("the same command again goes on"), "{message}");
    let first: Value = serde_json::from_slice(&output.stdout).unwrap();
    let saved = first["added"].as_u64().unwrap();
    assert_eq!(saved + first["left"].as_u64().unwrap(), 160);
    assert!((1..160).contains(&saved), "{first}");
    let second = &desk.json(&["index", "add", "my.index", "many"])[0];
    assert_eq!(counts(second), [160 - saved, 0, saved, 0]);
}
