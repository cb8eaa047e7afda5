//! `space pca`, `--hubs` and `eval compose` as a user runs them, on crops of the sample photos.
#![cfg(feature = "builtin-model")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sextant::{DecodeLimits, Encoder, Package, decode_file};

use crate::command::{Said, photo, sextant};

const PHOTOS: [&str; 5] = ["astronaut", "cat", "coffee", "galaxies", "rocket"];

fn run(arguments: &[&str], paths: &[&Path]) -> Said {
    let words = arguments.iter().map(OsString::from);
    sextant(words.chain(paths.iter().map(OsString::from)))
}

/// Six crops of each sample photo.
fn crops(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for name in PHOTOS {
        let picture =
            decode_file(&photo(&format!("{name}.jpg")), &DecodeLimits::default()).unwrap();
        let (width, height) = (picture.width(), picture.height());
        let bytes = picture.pixels().bytes().to_vec();
        let whole = image::RgbImage::from_raw(width, height, bytes).unwrap();
        for crop in 0..6 {
            let (x, y) = (crop % 3 * width / 9, crop / 3 * height / 6);
            let (w, h) = (width * 7 / 9, height * 5 / 6);
            let path = folder.join(format!("{name}-{crop}.png"));
            image::imageops::crop_imm(&whole, x, y, w, h).to_image().save(&path).unwrap();
            files.push(path);
        }
    }
    files
}

#[test]
fn a_shortened_index_is_what_the_short_model_makes() {
    let home = tempfile::tempdir().unwrap();
    let pictures = home.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    let files = crops(&pictures);
    let at = |name: &str| home.path().join(name);
    assert_eq!(run(&["index", "add"], &[&at("i"), &pictures]).code, 0);
    let table = run(&["space", "pca", "--format", "json"], &[&at("i")]);
    assert_eq!(table.code, 0, "{}", table.err);
    let line = &table.json()[0];
    assert!(line["written"].is_null());
    let costs = line["costs"].as_array().unwrap();
    let recall = |at: usize| costs[at]["recall"].as_f64().unwrap();
    assert!(recall(0) > 0.6 && recall(0) >= recall(costs.len() - 1), "{line}");
    let (short, rows) = (at("short"), at("short-rows"));
    let arguments = ["space", "pca", "--dims", "12", "-o", short.to_str().unwrap(), "--rows"];
    let written = run(&arguments, &[&rows, &at("i")]);
    assert_eq!(written.code, 0, "{}", written.err);
    let package = Package::open(&short).unwrap();
    package.verify().unwrap();
    assert_eq!(package.manifest().dimension, 12);
    let reader = sextant::index::Index::open(&rows).unwrap();
    let encoder = Encoder::new(package);
    assert_eq!((reader.dimension(), reader.len() as usize), (12, files.len()));
    let key = files[7].as_os_str().as_encoded_bytes();
    let row = reader.embedding(reader.find(key).unwrap().unwrap()).unwrap();
    let again = encoder.image_file(&files[7]).unwrap();
    assert!(row.similarity(&again).unwrap() > 0.995);
    let found = run(
        &["search", "--model", short.to_str().unwrap(), "--format", "json", "-k", "6"],
        &[&rows, &files[7]],
    );
    let keys: Vec<String> =
        found.json().iter().map(|line| line["key"].as_str().unwrap().to_owned()).collect();
    assert!(keys.len() == 6 && keys.iter().all(|key| key.contains("cat-")), "{keys:?}");
    assert_eq!(run(&arguments, &[&rows, &at("i")]).code, 2, "folders that exist are refused");
    assert_eq!(run(&["space", "pca", "--dims", "999"], &[&at("i")]).code, 2);
}

#[test]
fn hubs_are_told_by_a_bank_of_enough_queries() {
    let home = tempfile::tempdir().unwrap();
    let pictures = home.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    let files = crops(&pictures);
    let index = home.path().join("i");
    assert_eq!(run(&["index", "add"], &[&index, &pictures]).code, 0);
    let bank = home.path().join("bank.txt");
    let lines = |count: usize| {
        let nouns = ["cat", "rocket", "cup", "galaxy", "person"];
        let line = |i: usize| format!("{} number {i}\n", nouns[i % nouns.len()]);
        (0..count).map(line).collect::<String>()
    };
    std::fs::write(&bank, lines(30)).unwrap();
    let (index_path, bank_path) = (index.to_str().unwrap(), bank.to_str().unwrap());
    for hubs in ["csls", "bank"] {
        let words = [
            "search", index_path, "a cat", "-k", "3", "--format", "json", "--hubs", hubs, "--bank",
        ];
        let said = run(&words, &[&bank]);
        assert_eq!(said.code, 0, "{}", said.err);
        let ranks: Vec<u64> =
            said.json().iter().map(|line| line["rank"].as_u64().unwrap()).collect();
        assert_eq!(ranks, [1, 2, 3]);
        assert!(said.json()[0]["key"].as_str().unwrap().contains("cat-"));
        let labels = ["label", "--format", "json", "--labels", "cat,rocket", "--hubs", hubs];
        let said = run(&[&labels[..], &["--bank", index_path]].concat(), &[&files[6]]);
        assert_eq!(said.code, 0, "{}", said.err);
        let first = &said.json()[0]["labels"][0];
        assert!(first["name"] == "cat" && first["score"].is_null(), "{first}");
    }
    assert_eq!(run(&["search", index_path, "a cat", "--hubs", "csls"], &[]).code, 2);
    std::fs::write(&bank, lines(5)).unwrap();
    let few = run(&["search", index_path, "a cat", "--hubs", "csls", "--bank", bank_path], &[]);
    assert_eq!(few.code, 2);
    assert!(few.err.contains("too few"), "{}", few.err);
}

#[test]
fn composed_queries_are_ranked_in_four_ways() {
    let home = tempfile::tempdir().unwrap();
    crops(home.path());
    let queries = home.path().join("queries.tsv");
    let answers = (0..6).map(|crop| format!("coffee-{crop}.png")).collect::<Vec<_>>().join(",");
    let lines = format!("rocket-0.png\t+ a cup of coffee\t{answers}\nno.png\t+ cat\tcat-1.png\n");
    std::fs::write(&queries, lines).unwrap();
    let arguments = ["eval", "compose", "--format", "json", "--images"];
    let mut words: Vec<OsString> = arguments.map(OsString::from).to_vec();
    words.extend([home.path().into(), "--queries".into(), queries.into()]);
    let said = sextant(words);
    assert_eq!(said.code, 1, "one picture is not there");
    assert!(said.err.contains("no.png"), "{}", said.err);
    let report = &said.json()[0];
    for way in ["picture", "words", "sum", "sum_corrected"] {
        assert_eq!(report[way]["n"], 1, "{report}");
    }
    assert_eq!(report["words"]["recall"]["5"], 1.0, "{report}");
}

#[test]
fn the_committed_composed_queries_are_well_formed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/composed-queries.tsv");
    let queries = sextant::eval::read_composed(&path).unwrap();
    assert!(queries.len() >= 60);
    assert!(queries.iter().all(|query| !query.answers.contains(&query.picture)));
}
