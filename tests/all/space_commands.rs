//! `where`, `space report`, `space align` and `label --examples` as a user runs them.
#![cfg(feature = "builtin-model")]

use std::ffi::OsString;
use std::path::Path;

use image::DynamicImage;
use sextant::{Derived, Encoder, derive_model, find_model};

use crate::command::{Said, photo, sextant};

fn run(arguments: &[&str], paths: &[&Path]) -> Said {
    let words = arguments.iter().map(OsString::from);
    sextant(words.chain(paths.iter().map(OsString::from)))
}

#[test]
fn where_gives_places_in_pixels_of_the_picture() {
    let home = tempfile::tempdir().unwrap();
    let drawing = home.path().join("heat.png");
    let image = photo("cat.jpg");
    let arguments = ["where", "--format", "json", "-o", drawing.to_str().unwrap()];
    let mut words: Vec<OsString> = arguments.map(OsString::from).to_vec();
    words.extend([image.clone().into(), "cat".into()]);
    let said = sextant(words);
    assert_eq!(said.code, 0, "{}", said.err);
    let size = image::image_dimensions(&drawing).unwrap();
    let line = &said.json()[0];
    assert_eq!(line["text"], "cat");
    let number = |value: &serde_json::Value| value.as_u64().unwrap() as u32;
    let (x, y) = (number(&line["peak"]["x"]), number(&line["peak"]["y"]));
    assert!(x < size.0 && y < size.1, "{line}");
    let region = &line["box"];
    assert!(number(&region["x"]) + number(&region["width"]) <= size.0);
    assert!(number(&region["y"]) + number(&region["height"]) <= size.1);
    assert!((number(&region["x"])..=number(&region["x"]) + number(&region["width"])).contains(&x));
}

#[test]
fn where_finds_the_half_that_a_picture_was_pasted_into() {
    let home = tempfile::tempdir().unwrap();
    let cat = open("cat.jpg").resize_exact(200, 200, image::imageops::FilterType::Triangle);
    let coffee = open("coffee.jpg").resize_exact(200, 200, image::imageops::FilterType::Triangle);
    for cat_is_left in [true, false] {
        let mut both = image::RgbImage::new(400, 200);
        let (left, right) = if cat_is_left { (&cat, &coffee) } else { (&coffee, &cat) };
        image::imageops::overlay(&mut both, &left.to_rgb8(), 0, 0);
        image::imageops::overlay(&mut both, &right.to_rgb8(), 200, 0);
        let path = home.path().join("both.png");
        both.save(&path).unwrap();
        let mut words: Vec<OsString> = ["where", "--format", "json"].map(OsString::from).to_vec();
        words.extend([path.into(), "cat".into(), "cup of coffee".into()]);
        let said = sextant(words);
        assert_eq!(said.code, 0, "{}", said.err);
        let lines = said.json();
        let on_left = |line: &serde_json::Value| line["peak"]["x"].as_u64().unwrap() < 200;
        assert_eq!((on_left(&lines[0]), on_left(&lines[1])), (cat_is_left, !cat_is_left));
        let share: f64 = lines.iter().map(|line| line["share"].as_f64().unwrap()).sum();
        assert!(share > 0.1 && share <= 1.0, "{share}");
    }
}

#[test]
fn where_looks_for_anybody_by_more_words() {
    let mut words: Vec<OsString> = ["where", "--format", "json"].map(OsString::from).to_vec();
    words.extend([photo("astronaut.jpg").into(), "person".into(), "People".into()]);
    let said = sextant(words);
    assert_eq!(said.code, 0, "{}", said.err);
    let lines = said.json();
    // Both are looked for by the same words; how likely they are is their own.
    assert_eq!(lines[0]["box"], lines[1]["box"]);
    assert_ne!(lines[0]["score"], lines[1]["score"]);
}

#[test]
fn where_refuses_what_it_cannot_read() {
    let missing = run(&["where", "no/such/file.jpg", "cat"], &[]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("no/such/file.jpg"), "{}", missing.err);
    assert_eq!(run(&["where"], &[&photo("cat.jpg")]).code, 2);
    let empty = run(&["where"], &[&photo("cat.jpg"), Path::new(" ")]);
    assert_eq!(empty.code, 2);
    assert!(empty.err.contains("there is nothing in it"), "{}", empty.err);
}

#[test]
fn reports_on_label_sets_name_what_is_too_close() {
    let home = tempfile::tempdir().unwrap();
    let page = home.path().join("report.html");
    let arguments = ["space", "report", "--format", "json", "--too-close", "0.5"];
    let labels = ["--labels", "sofa,couch,rocket,galaxy,coffee", "--html", page.to_str().unwrap()];
    let said = run(&[&arguments[..], &labels[..]].concat(), &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    let report = &said.json()[0];
    assert_eq!(report["texts"], 5);
    let close = report["confusions"].as_array().unwrap();
    assert!(close.iter().any(|c| c["first"] == "sofa" && c["second"] == "couch"), "{report}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && page.contains("couch"));
    assert_eq!(run(&["space", "report"], &[]).code, 2);
    assert_eq!(run(&["space", "report", "no/such/index"], &[]).code, 2);
    let limit = ["space", "report", "--labels", "sofa,couch", "--too-close", "NaN"];
    assert_eq!(run(&limit, &[]).code, 2);
}

#[test]
fn alignment_refuses_too_few_pairs_and_missing_pictures() {
    let home = tempfile::tempdir().unwrap();
    std::fs::copy(photo("cat.jpg"), home.path().join("cat.jpg")).unwrap();
    let table = home.path().join("pairs.tsv");
    std::fs::write(&table, "cat.jpg\ta cat\ngone.jpg\ta dog\n").unwrap();
    let said = run(&["space", "align"], &[&table]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("gone.jpg") && said.err.contains("50 are needed"), "{}", said.err);
    std::fs::write(&table, "gone.jpg\ta dog\n").unwrap();
    let said = run(&["space", "align"], &[&table]);
    assert!(said.code == 2 && said.err.contains("none of the table's pictures"), "{}", said.err);
    std::fs::write(&table, "").unwrap();
    assert_eq!(run(&["space", "align"], &[&table]).code, 2);
}

#[test]
fn one_picture_is_too_few_for_axes_and_random_pairs() {
    let home = tempfile::tempdir().unwrap();
    std::fs::copy(photo("cat.jpg"), home.path().join("cat.jpg")).unwrap();
    let index = home.path().join("index");
    assert_eq!(run(&["index", "add"], &[&index, &home.path().join("cat.jpg")]).code, 0);
    let said = run(&["space", "pca"], &[&index]);
    assert!(said.code == 2 && said.err.contains("at least 22"), "{}", said.err);
    // Two captions of one picture: none is another picture's.
    let table = home.path().join("pairs.tsv");
    std::fs::write(&table, "cat.jpg\ta cat\ncat.jpg\ta pet\n").unwrap();
    let captions = table.to_str().unwrap();
    let said = run(&["space", "report", "--format", "json", "--captions", captions], &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    let report = &said.json()[0];
    let figures = report["figures"].as_array().unwrap();
    for key in ["area_under_curve", "calibration_error", "leakage"] {
        let figure = figures.iter().find(|figure| figure["key"] == key).unwrap();
        assert!(figure["value"].is_null(), "{figure}");
        assert!(figure["reason"].as_str().unwrap().contains("other pictures"), "{figure}");
    }
    assert!(figures.iter().all(|figure| figure["verdict"] == "neutral"), "{report}");
}

#[test]
fn classes_are_learned_from_folders() {
    let home = tempfile::tempdir().unwrap();
    for (class, name) in [("kitty", "cat.jpg"), ("night_sky", "galaxies.jpg")] {
        let folder = home.path().join(class);
        std::fs::create_dir(&folder).unwrap();
        let whole = open(name);
        let (width, height) = (whole.width(), whole.height());
        for part in 0..3 {
            let cut = whole.crop_imm(part * width / 20, 0, width * 4 / 5, height * 9 / 10);
            cut.save(folder.join(format!("{part}.png"))).unwrap();
        }
    }
    let arguments = ["label", "--format", "json", "--examples", home.path().to_str().unwrap()];
    let said = run(&arguments, &[&photo("cat.jpg"), &photo("galaxies.jpg")]);
    assert_eq!(said.code, 0, "{}", said.err);
    let names: Vec<_> = said.json().iter().map(|line| line["labels"][0]["name"].clone()).collect();
    assert_eq!(names, ["kitty", "night sky"]);
    for part in 1..3 {
        std::fs::remove_file(home.path().join(format!("kitty/{part}.png"))).unwrap();
    }
    let one = run(&arguments, &[&photo("cat.jpg")]);
    assert_eq!(one.code, 2);
    assert!(one.err.contains("kitty"), "{}", one.err);
}

#[test]
fn focusing_still_labels_and_needs_no_more_than_a_model_with_places() {
    let arguments = ["label", "--format", "json", "--focus", "--labels", "cat,rocket,galaxy"];
    let said = run(&arguments, &[&photo("cat.jpg"), &photo("rocket.jpg")]);
    assert_eq!(said.code, 0, "{}", said.err);
    let names: Vec<_> = said.json().iter().map(|line| line["labels"][0]["name"].clone()).collect();
    assert_eq!(names, ["cat", "rocket"]);
}

#[test]
fn a_derived_package_maps_every_embedding() {
    let home = tempfile::tempdir().unwrap();
    let package = find_model("sextant-lite").unwrap();
    let dimension = package.manifest().dimension;
    // Pictures keep their numbers in reverse, texts are as they were.
    let mut reverse = vec![0f32; dimension * dimension];
    let mut identity = reverse.clone();
    for row in 0..dimension {
        reverse[row * dimension + dimension - 1 - row] = 1.0;
        identity[row * dimension + row] = 1.0;
    }
    let derived = Derived {
        name: "turned".to_owned(),
        note: "turned for a test".to_owned(),
        dimension,
        image: &reverse,
        text: &identity,
        logit_scale: 7.0,
        image_mean: Some(vec![0.0; dimension]),
        text_mean: Some(vec![0.0; dimension]),
        match_image_text: None,
    };
    let folder = home.path().join("turned");
    derive_model(&package, &derived, &folder).unwrap();
    assert!(derive_model(&package, &derived, &folder).is_err());
    let before = Encoder::new(package);
    let after = Encoder::new(find_model(folder.to_str().unwrap()).unwrap());
    assert_ne!(before.space(), after.space());
    assert_eq!(after.package().manifest().logit_scale, 7.0);
    let picture = photo("cat.jpg");
    let (a, b) = (before.image_file(&picture).unwrap(), after.image_file(&picture).unwrap());
    for (x, y) in a.values().iter().zip(b.values().iter().rev()) {
        assert!((x - y).abs() < 1e-4);
    }
    let (a, b) = (before.text("a cat").unwrap(), after.text("a cat").unwrap());
    assert!(a.values().iter().zip(b.values()).all(|(x, y)| (x - y).abs() < 1e-4));
    let decoded = sextant::decode_file(&picture, after.limits()).unwrap();
    let (a, b) = (before.places(&decoded, "cat").unwrap(), after.places(&decoded, "cat").unwrap());
    for (a, b) in a.embeddings.iter().zip(&b.embeddings) {
        assert!(a.values().iter().zip(b.values().iter().rev()).all(|(x, y)| (x - y).abs() < 1e-3));
    }
}

fn open(name: &str) -> DynamicImage {
    let picture = sextant::decode_file(&photo(name), &sextant::DecodeLimits::default()).unwrap();
    let (width, height) = (picture.width(), picture.height());
    let bytes = picture.pixels().bytes().to_vec();
    image::RgbImage::from_raw(width, height, bytes).unwrap().into()
}
