//! Decoding and preprocessing against Pillow, torchvision and open_clip: the same bytes, for every
//! format, JPEG and lossy WebP included.
//!
//! The golden files are made by `tests/golden/preprocess/make.py`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sextant::picture::{DecodeLimits, Picture, Pixels, Preprocess, PreprocessError, decode_file};

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

impl Resized {
    fn picture(&self) -> (String, Picture) {
        match (&self.source, self.formula) {
            (Some(name), _) => (name.clone(), source(name)),
            (None, Some([width, height])) => {
                (format!("formula-{width}x{height}"), formula(width, height))
            }
            (None, None) => panic!("a case needs a source or a formula"),
        }
    }
}

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/preprocess").join(path)
}

fn cases() -> Cases {
    serde_json::from_slice(&std::fs::read(golden("cases.json")).unwrap()).unwrap()
}

fn source(name: &str) -> Picture {
    decode_file(&golden("source").join(name), &DecodeLimits::default()).unwrap()
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
        let picture = source(&case.source);
        let shape = (picture.width(), picture.height(), picture.pixels().channels());
        assert_eq!(shape, (case.width, case.height, case.channels), "{}", case.source);
        let golden = expected("decoded", &case.source);
        let difference = largest_difference(picture.pixels().bytes(), &golden);
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
        let (name, picture) = case.picture();
        let pixels = cases.specs[&case.spec].pixels(&picture);
        let golden = expected("resized", &format!("{name}.{}", case.spec));
        let difference = largest_difference(pixels.bytes(), &golden);
        if difference > 0 {
            wrong.push(format!("{name}, {}: off by {difference}", case.spec));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn normalising_equals_torchvision() {
    let spec = &cases().specs["longest-32"];
    let tensor = spec.tensor(&spec.pixels(&source("rgb.png")));
    let golden = expected("resized", "tensor");
    let golden = golden.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
    assert!(tensor.into_iter().eq(golden));
}

#[test]
fn every_size_has_an_answer() {
    let spec = |resize: &str| declaration(&format!("resize = \"{resize}\"\nresize_size = 24"));
    let specs = ["shortest", "squash", "longest"].map(|resize| spec(resize).unwrap());
    for (width, height) in [(1, 1), (1, 2), (3, 1), (1 << 20, 1), (1, 1 << 20), (23, 24), (25, 24)]
    {
        let samples = vec![200; 3 * width as usize * height as usize];
        let picture = Picture::new(width, height, Pixels::Rgb(samples)).unwrap();
        for spec in &specs {
            let pixels = spec.pixels(&picture);
            assert_eq!((pixels.width(), pixels.height()), spec.output_size());
            // One colour stays that colour, or is the padding.
            assert!(pixels.bytes().iter().all(|&value| value == 200 || value == 0));
        }
    }
}

/// A declaration of which only the geometry matters.
fn declaration(geometry: &str) -> Result<Preprocess, toml::de::Error> {
    toml::from_str(&format!(
        "{geometry}\ninterpolation = \"bicubic\"\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]"
    ))
}

#[test]
fn a_wrong_declaration_is_refused_with_the_reason() {
    let refused = |geometry: &str| declaration(geometry).unwrap_err().to_string();
    let message = refused("resize = \"squash\"\nresize_size = 0");
    assert!(message.contains("resize_size: 0 is not between 1 and 4096"), "{message}");
    let message = refused("resize = \"squash\"\nresize_size = [32, 4097]");
    assert!(message.contains("resize_size: 4097 is not"), "{message}");
    let message = refused("resize = \"squash\"\nresize_size = 32\ncrop = [5000, 1]");
    assert!(message.contains("crop: 5000 is not"), "{message}");
    let message = refused("resize = \"stretch\"\nresize_size = 32");
    assert!(message.contains("unknown variant `stretch`"), "{message}");
    let message = refused("resize = \"squash\"\nresize_size = \"big\"");
    assert!(message.contains("a number of pixels or [width, height]"), "{message}");
    let message = refused("resize = \"squash\"\nresize_size = 32\nsize = 5");
    assert!(message.contains("unknown field `size`"), "{message}");

    let good = cases().specs["squash-32"].spec().clone();
    let mut wrong = good.clone();
    wrong.std[1] = 0.0;
    assert_eq!(Preprocess::new(wrong), Err(PreprocessError::Std(0.0)));
    let mut wrong = good.clone();
    wrong.mean[2] = f32::INFINITY;
    assert_eq!(Preprocess::new(wrong), Err(PreprocessError::Mean(f32::INFINITY)));
    assert!(Preprocess::new(good).is_ok());
}

#[test]
fn a_declaration_survives_being_written_and_every_value_is_in_its_canonical_form() {
    let specs = cases().specs;
    for spec in specs.values() {
        let written = toml::to_string(spec).unwrap();
        assert_eq!(toml::from_str::<Preprocess>(&written).unwrap(), *spec);
    }
    let canonical: std::collections::BTreeSet<String> =
        specs.values().map(Preprocess::canonical).collect();
    assert_eq!(canonical.len(), specs.len());
    // Part of every space's fingerprint: embeddings on disk become strangers if it changes.
    let expected = "Squash [45, 21] [45, 21] Bilinear [0.48145467, 0.4578275, 0.40821072] \
                    [0.26862955, 0.2613026, 0.2757771] [10, 200, 90] [250, 120, 30]";
    assert_eq!(specs["squash-45x21-bilinear"].canonical(), expected);
    let with_crop = declaration("resize = \"squash\"\nresize_size = 32\ncrop = 32").unwrap();
    let without = declaration("resize = \"squash\"\nresize_size = 32").unwrap();
    assert_eq!(with_crop.canonical(), without.canonical());
}

/// The picture that `formula` in `make.py` describes.
fn formula(width: u32, height: u32) -> Picture {
    let pixels = (0..height).flat_map(|y| {
        (0..width).flat_map(move |x| {
            let red = x * 7 + y * 13 + ((x * y) >> 5);
            let green = x * x / 97 + y * 3;
            let blue = (x ^ y) + ((x * y) >> 9);
            [red as u8, green as u8, blue as u8]
        })
    });
    Picture::new(width, height, Pixels::Rgb(pixels.collect())).unwrap()
}
