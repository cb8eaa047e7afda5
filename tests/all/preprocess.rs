//! Decoding and preprocessing against Pillow, torchvision and open_clip.
//!
//! The golden files are made by `tests/golden/preprocess/make.py`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sextant::picture::{DecodeLimits, Picture, Pixels, Preprocess, decode_file};

#[derive(Deserialize)]
struct Cases {
    specs: std::collections::BTreeMap<String, Preprocess>,
    decoded: Vec<Decoded>,
    resized: Vec<Resized>,
}

#[derive(Deserialize)]
struct Decoded {
    source: String,
    width: u32,
    height: u32,
    channels: usize,
}

#[derive(Deserialize)]
struct Resized {
    source: Option<String>,
    formula: Option<[u32; 2]>,
    spec: String,
}

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/preprocess").join(path)
}

fn cases() -> Cases {
    serde_json::from_slice(&std::fs::read(golden("cases.json")).unwrap()).unwrap()
}

fn expected(folder: &str, name: &str) -> Vec<u8> {
    std::fs::read(golden(folder).join(format!("{name}.bin"))).unwrap()
}

/// Largest difference of two sample arrays of equal length.
fn largest_difference(left: &[u8], right: &[u8]) -> u8 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn decoding_equals_pillow() {
    let mut wrong = Vec::new();
    for case in cases().decoded {
        let limits = DecodeLimits::default();
        let picture = match decode_file(&golden("source").join(&case.source), &limits) {
            Ok(picture) => picture,
            Err(error) => {
                wrong.push(error.to_string());
                continue;
            }
        };
        let shape = (picture.width(), picture.height(), picture.pixels().channels());
        if shape != (case.width, case.height, case.channels) {
            wrong.push(format!(
                "{}: {picture:?} instead of {} channels",
                case.source, case.channels
            ));
            continue;
        }
        let difference =
            largest_difference(picture.pixels().bytes(), &expected("decoded", &case.source));
        if difference > 0 {
            wrong.push(format!("{}: off by {difference}", case.source));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn resizing_equals_pillow() {
    let cases = cases();
    let mut wrong = Vec::new();
    for case in cases.resized {
        let (name, picture) = match (&case.source, case.formula) {
            (Some(name), _) => {
                match decode_file(&golden("source").join(name), &DecodeLimits::default()) {
                    Ok(p) => (name.clone(), p),
                    Err(e) => {
                        wrong.push(e.to_string());
                        continue;
                    }
                }
            }
            (None, Some([width, height])) => {
                (format!("formula-{width}x{height}"), formula(width, height))
            }
            (None, None) => panic!("a case needs a source or a formula"),
        };
        let pixels = cases.specs[&case.spec].pixels(&picture);
        let golden = expected("resized", &format!("{name}.{}", case.spec));
        let difference = largest_difference(pixels.bytes(), &golden);
        if difference > 0 {
            wrong.push(format!("{name}, {}: off by {difference}", case.spec));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The picture that `formula` in `make.py` describes.
fn formula(width: u32, height: u32) -> Picture {
    let pixels = (0..height).flat_map(|y| {
        (0..width).flat_map(move |x| {
            let red = x * 7 + y * 13 + (x * y >> 5);
            let green = x * x / 97 + y * 3;
            let blue = (x ^ y) + (x * y >> 9);
            [red as u8, green as u8, blue as u8]
        })
    });
    Picture::new(width, height, Pixels::Rgb(pixels.collect())).unwrap()
}
