//! The main job on real photos with the built-in model, and every kind of bad input.
#![cfg(feature = "builtin-model")]

use std::ffi::OsString;
use std::path::Path;

use crate::command::{Said, photo, root, sextant, sextant_in};

const LABELS: &str = "cat,dog,cup of coffee,rocket,car";

fn label(images: &[&Path], more: &[&str]) -> Said {
    let mut arguments: Vec<OsString> = vec!["label".into()];
    arguments.extend(images.iter().map(|image| image.into()));
    arguments.extend(["--format", "json"].map(OsString::from));
    arguments.extend(more.iter().map(OsString::from));
    sextant(arguments)
}

#[test]
fn sample_photos_get_the_right_label_or_none() {
    let names = ["cat.jpg", "coffee.jpg", "rocket.jpg", "astronaut.jpg", "galaxies.jpg"];
    let truths = [Some("cat"), Some("cup of coffee"), Some("rocket"), None, None];
    let photos = names.map(photo);
    let paths: Vec<&Path> = photos.iter().map(AsRef::as_ref).collect();
    let said = label(&paths, &["--labels", LABELS]);
    assert_eq!(said.code, 0, "{}", said.err);
    for (line, truth) in said.json().iter().zip(truths) {
        assert_eq!(line["unknown"], truth.is_none(), "{line}");
        if let Some(truth) = truth {
            assert_eq!(line["labels"][0]["name"], truth, "{line}");
        }
        let scores = line["labels"].as_array().unwrap();
        let total: f64 = scores.iter().map(|l| l["score"].as_f64().unwrap()).sum();
        assert!((0.0..=1.0001).contains(&total), "{line}");
    }
}

#[test]
fn compiled_labels_answer_as_the_names_do() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("labels.txt");
    std::fs::write(&file, LABELS.replace(',', "\n")).unwrap();
    let compiled = home.path().join("labels.sxl");
    let arguments = ["labels", "compile"].map(OsString::from).into_iter();
    let said = sextant_in(
        home.path(),
        arguments.chain([file.into(), "-o".into(), compiled.clone().into()]),
    );
    assert_eq!(said.code, 0, "{}", said.err);
    let image = photo("cat.jpg");
    let by_name = label(&[&image], &["--labels", LABELS]);
    let by_file = label(&[&image], &["--labels", compiled.to_str().unwrap()]);
    assert_eq!(by_file.code, 0, "{}", by_file.err);
    assert_eq!(by_name.out, by_file.out);
}

#[test]
fn a_bad_picture_is_reported_and_the_rest_is_done() {
    let home = tempfile::tempdir().unwrap();
    let (empty, text) = (home.path().join("empty.jpg"), home.path().join("notes.png"));
    std::fs::write(&empty, "").unwrap();
    std::fs::write(&text, "not a picture at all").unwrap();
    let cut = home.path().join("cut.jpg");
    let whole = std::fs::read(photo("cat.jpg")).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let (missing, good) = (home.path().join("missing.jpg"), photo("cat.jpg"));
    let bad = [&empty, &text, &cut, &missing];
    let mut images: Vec<&Path> = bad.iter().map(|path| path.as_path()).collect();
    images.push(&good);
    let said = label(&images, &["--labels", "cat,dog"]);
    assert_eq!(said.code, 1);
    assert_eq!(said.json().len(), 1);
    for path in bad {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(said.err.lines().filter(|l| l.contains(name)).count(), 1, "{}", said.err);
    }
}

#[test]
fn a_tiny_file_that_claims_to_be_huge_costs_nothing() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("bomb.png");
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend_from_slice(&60_000u32.to_be_bytes());
    png.extend_from_slice(&60_000u32.to_be_bytes());
    png.extend_from_slice(&[8, 2, 0, 0, 0]);
    // CRC-32 of the header chunk, as zlib computes it.
    png.extend_from_slice(&0x0FB0_E215u32.to_be_bytes());
    std::fs::write(&path, &png).unwrap();
    let said = label(&[&path], &["--labels", "cat,dog"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("bomb.png") && said.err.contains("--max-megapixels"), "{}", said.err);
}

#[cfg(unix)]
#[test]
fn names_that_are_not_unicode_work() {
    use std::os::unix::ffi::OsStringExt;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(OsString::from_vec(b"caf\xe9.jpg".to_vec()));
    std::fs::copy(photo("cat.jpg"), &path).unwrap();
    let said = label(&[&path], &["--labels", "cat,dog"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(said.json()[0]["labels"][0]["name"], "cat");
}

#[test]
fn wrong_usage_and_unfit_files_have_codes_of_their_own() {
    let image = photo("cat.jpg");
    let code = |labels: &str| label(&[&image], &["--labels", labels]).code;
    assert_eq!(code(""), 2);
    assert_eq!(code("!background"), 2);
    assert_eq!(code("no/such/labels.txt"), 2);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("labels.txt");
    std::fs::write(&file, b"cat\n\xff\xfe\n").unwrap();
    assert_eq!(code(file.to_str().unwrap()), 3);
    std::fs::write(&file, "# nothing\n").unwrap();
    assert_eq!(code(file.to_str().unwrap()), 3);
    std::fs::write(&file, b"SXTLABEL\x01\0\0\0").unwrap();
    assert_eq!(code(file.to_str().unwrap()), 3);
    assert_eq!(sextant(["label"]).code, 2);
    assert_eq!(sextant(["--model", "no-such-model", "embed", "--text", "a"]).code, 3);
}

#[test]
fn a_label_file_may_have_crlf_a_byte_order_mark_and_duplicates() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("labels.txt");
    std::fs::write(&file, "\u{feff}cat\ta photo of a cat\r\ndog\r\ndog\r\n").unwrap();
    let said = label(&[&photo("cat.jpg")], &["--labels", file.to_str().unwrap()]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("\"dog\" is listed more than once"), "{}", said.err);
    assert_eq!(said.json()[0]["labels"].as_array().unwrap().len(), 2);
}

/// A copy of the default package that a test may damage.
fn package(home: &Path) -> std::path::PathBuf {
    let folder = home.join("package");
    std::fs::create_dir(&folder).unwrap();
    for name in ["model.toml", "image.onnx", "text.onnx", "tokenizer.json"] {
        std::fs::copy(root().join("models/sextant-lite").join(name), folder.join(name)).unwrap();
    }
    folder
}

#[test]
fn damaged_packages_are_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let folder = package(home.path());
    let image = photo("cat.jpg");
    let run = || label(&[&image], &["--labels", "cat,dog", "--model", folder.to_str().unwrap()]);
    assert_eq!(run().code, 0);
    let manifest = std::fs::read_to_string(folder.join("model.toml")).unwrap();

    let cut = std::fs::read(folder.join("image.onnx")).unwrap();
    std::fs::write(folder.join("image.onnx"), &cut[..cut.len() / 2]).unwrap();
    let said = run();
    assert_eq!(said.code, 3);
    assert!(said.err.contains("image.onnx") && said.err.contains("sha256"), "{}", said.err);

    std::fs::remove_file(folder.join("image.onnx")).unwrap();
    let said = run();
    assert_eq!(said.code, 3);
    assert!(said.err.contains("image.onnx") && said.err.contains("missing"), "{}", said.err);
    std::fs::write(folder.join("image.onnx"), &cut).unwrap();

    let wrong = manifest.replace("dimension = 384", "dimension = 385");
    std::fs::write(folder.join("model.toml"), wrong).unwrap();
    assert_eq!(run().code, 3);

    std::fs::write(folder.join("model.toml"), manifest.replace("format = 1", "format = 2"))
        .unwrap();
    let said = run();
    assert_eq!(said.code, 3);
    assert!(said.err.contains("format 2"), "{}", said.err);
}

#[test]
fn a_weight_changed_by_one_bit_is_refused_though_checking_runs_beside_packing() {
    let home = tempfile::tempdir().unwrap();
    let folder = package(home.path());
    let model = folder.to_str().unwrap().to_owned();
    for tower in ["image.onnx", "text.onnx"] {
        let path = folder.join(tower);
        let whole = std::fs::read(&path).unwrap();
        // Weights at the start, in the middle and near the end: the graph stays valid, and the tower
        // would be built and would answer.
        for at in [whole.len() / 5, whole.len() / 2, whole.len() - 4096] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            for threads in ["1", "2"] {
                let more = ["--labels", "cat,dog", "--model", &model, "--threads", threads];
                let said = label(&[&photo("cat.jpg")], &more);
                assert_eq!(said.code, 3, "{tower} at {at}: {}", said.err);
                assert!(said.out.is_empty(), "{}", said.out);
                assert!(said.err.contains(tower) && said.err.contains("sha256"), "{}", said.err);
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn an_onnx_file_cut_in_half_is_refused_even_when_its_checksum_fits() {
    use sha2::Digest;
    let home = tempfile::tempdir().unwrap();
    let folder = package(home.path());
    let path = folder.join("image.onnx");
    let whole = std::fs::read(&path).unwrap();
    let half = &whole[..whole.len() / 2];
    let hex = |bytes: &[u8]| -> String {
        sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let manifest = std::fs::read_to_string(folder.join("model.toml")).unwrap();
    std::fs::write(&path, half).unwrap();
    std::fs::write(folder.join("model.toml"), manifest.replace(&hex(&whole), &hex(half))).unwrap();
    let said =
        label(&[&photo("cat.jpg")], &["--labels", "cat,dog", "--model", folder.to_str().unwrap()]);
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.err.contains("image.onnx"), "{}", said.err);
}

#[test]
fn texts_of_every_kind_have_defined_embeddings() {
    let long = "word ".repeat(10_000);
    let texts = ["", "naïve café", "🙂🐈", "日本語の文", &long];
    let mut arguments = vec!["embed", "--format", "json"];
    texts.iter().for_each(|text| arguments.extend(["--text", text]));
    let said = sextant(arguments);
    assert_eq!(said.code, 0, "{}", said.err);
    let lines = said.json();
    assert_eq!(lines.len(), texts.len());
    for line in &lines {
        let values: Vec<f64> = line["embedding"]
            .as_array()
            .unwrap()
            .iter()
            .map(|value| value.as_f64().unwrap())
            .collect();
        let norm: f64 = values.iter().map(|v| v * v).sum();
        assert!((norm - 1.0).abs() < 1e-4);
    }
    assert!(said.err.contains("longer than the model reads"), "{}", said.err);
}

#[test]
fn a_second_run_with_the_same_labels_needs_no_text_tower() {
    let home = tempfile::tempdir().unwrap();
    let folder = package(home.path());
    let image = photo("cat.jpg");
    let arguments = [
        "label".into(),
        image.into_os_string(),
        "--labels".into(),
        "cat,dog".into(),
        "--model".into(),
        folder.clone().into_os_string(),
    ];
    let first = sextant_in(home.path(), &arguments);
    assert_eq!(first.code, 0, "{}", first.err);
    // A text tower of the right name and the wrong content would be noticed if it were read.
    std::fs::write(folder.join("text.onnx"), "gone").unwrap();
    let second = sextant_in(home.path(), &arguments);
    assert_eq!(second.code, 0, "{}", second.err);
    assert_eq!(first.out, second.out);
}

#[test]
fn similar_compares_across_modalities() {
    let cat = photo("cat.jpg");
    let score = |text: &str| -> f64 {
        let said = sextant(["similar", cat.to_str().unwrap(), text, "--format", "json"]);
        assert_eq!(said.code, 0, "{}", said.err);
        said.json()[0]["similarity"].as_f64().unwrap()
    };
    assert!(score("a photo of a cat") > score("a photo of a rocket"));
}

#[test]
fn similar_takes_no_missing_picture_for_a_text() {
    let cat = photo("cat.jpg");
    let folder = cat.parent().unwrap();
    for (term, rule) in [("dog.jpg", "no such file"), (folder.to_str().unwrap(), "folder")] {
        let said = sextant(["similar", cat.to_str().unwrap(), term]);
        assert_eq!(said.code, 1, "{term}");
        assert!(said.err.contains(term) && said.err.contains(rule), "{}", said.err);
    }
}
