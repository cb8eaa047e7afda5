//! Inner layers of image towers and parents of labels, as a user meets them.
#![cfg(feature = "builtin-model")]

use std::ffi::OsString;
use std::path::Path;

use sextant::{DecodeLimits, EncodeError, Encoder, LayerShape, find_model, image_layers};

use crate::command::{Said, photo, sextant};

fn run(arguments: &[&str], paths: &[&Path]) -> Said {
    let words = arguments.iter().map(OsString::from);
    sextant(words.chain(paths.iter().map(OsString::from)))
}

#[test]
fn each_resolution_of_the_built_in_tower_is_a_layer() {
    let package = find_model("sextant-lite").unwrap();
    let layers = image_layers(&package).unwrap();
    let sides: Vec<usize> = layers
        .iter()
        .map(|layer| match layer.shape {
            LayerShape::Map { rows, columns, .. } if rows == columns => rows,
            shape => panic!("{shape:?}"),
        })
        .collect();
    assert!(sides.len() >= 4 && sides.is_sorted_by(|a, b| a > b), "{sides:?}");
}

#[test]
fn a_layer_is_a_space_of_its_own_without_words() {
    let at = |number| {
        Encoder::at_layer(find_model("sextant-lite").unwrap(), DecodeLimits::default(), number)
    };
    let (second, third) = (at(2).unwrap(), at(3).unwrap());
    let last = Encoder::new(find_model("sextant-lite").unwrap());
    assert!(second.space() != third.space() && second.space() != last.space());
    assert_eq!(second.space(), at(2).unwrap().space());
    let cat = second.image_file(&photo("cat.jpg")).unwrap();
    assert_eq!(cat.values().len(), second.dimension());
    assert!(matches!(second.text("cat"), Err(EncodeError::Wordless { .. })));
    for number in [0, 99] {
        assert!(matches!(at(number), Err(EncodeError::NoLayer { .. })));
    }
}

#[test]
fn search_in_a_layer_finds_look_alikes_and_refuses_words() {
    let home = tempfile::tempdir().unwrap();
    let pictures = home.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    for name in ["cat.jpg", "coffee.jpg", "galaxies.jpg", "rocket.jpg"] {
        std::fs::copy(photo(name), pictures.join(name)).unwrap();
    }
    let mirrored = home.path().join("mirrored.png");
    let coffee = sextant::decode_file(&photo("coffee.jpg"), &DecodeLimits::default()).unwrap();
    let bytes = coffee.pixels().bytes().to_vec();
    let coffee = image::RgbImage::from_raw(coffee.width(), coffee.height(), bytes).unwrap();
    image::imageops::flip_horizontal(&coffee).save(&mirrored).unwrap();
    let index = home.path().join("i");
    let added = run(&["index", "add", "--layer", "2"], &[&index, &pictures]);
    assert_eq!(added.code, 0, "{}", added.err);
    let found = run(&["search", "--layer", "2", "--format", "json"], &[&index, &mirrored]);
    assert_eq!(found.code, 0, "{}", found.err);
    let first = &found.json()[0];
    assert!(first["key"].as_str().unwrap().ends_with("coffee.jpg"), "{first}");
    assert!(first["similarity"].as_f64().unwrap() > 0.99 && first["score"].is_null());
    let plain = run(&["search"], &[&index, &mirrored]);
    assert_eq!(plain.code, 3);
    assert!(plain.err.contains("made with --layer 2"), "{}", plain.err);
    let info = run(&["index", "info"], &[&index]).out;
    assert!(info.contains("(of --layer 2 of the model sextant-lite)"), "{info}");
    let info = run(&["index", "info", "--format", "json"], &[&index]).out;
    assert!(info.contains(r#""model":"sextant-lite","layer":2,"#), "{info}");
    let words = run(&["search", "--layer", "2", index.to_str().unwrap(), "coffee"], &[]);
    assert_eq!(words.code, 1, "{}", words.err);
    assert!(words.err.contains("pictures only"), "{}", words.err);
    assert_eq!(run(&["search"], &[&index, &mirrored]).code, 3);
    assert_eq!(run(&["embed", "--layer", "99"], &[&mirrored]).code, 2);
}

#[test]
fn an_unsure_label_falls_back_to_its_parent() {
    let labels = "tabby cat < cat, Persian cat < cat, Siamese cat < cat, cat < animal, car";
    let said = run(&["label", "--format", "json", "--labels", labels], &[&photo("cat.jpg")]);
    let line = &said.json()[0];
    let first = &line["labels"][0];
    assert_eq!((first["name"].as_str(), first["parent"].as_str()), (Some("cat"), Some("animal")));
    assert!(first["score"].as_f64().unwrap() > 0.9, "{line}");
    let circle = run(&["label", "--labels", "a < b, b < a"], &[&photo("cat.jpg")]);
    assert_eq!(circle.code, 2);
    assert!(circle.err.contains("tree"), "{}", circle.err);
}
