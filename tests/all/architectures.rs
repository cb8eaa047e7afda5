//! `import` and the towers on miniatures of every architecture, against onnxruntime's embeddings
//! and the token ids of open_clip, sentencepiece and the Python build of `tokenizers`.
//! `models/reference/miniature.py` makes the files; `docs/models.md` has the full-size comparison.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sextant::picture::{Interpolation, ResizeMode};
use sextant::{
    DecodeLimits, Encoder, ImportError, ImportOptions, LayerShape, Package, Padding,
    PixelOverrides, Preset, Scoring, TextTokenizer, TextTower, decode_file, image_layers,
    import_model,
};

const LEAST_COSINE: f64 = 0.9999;

#[derive(Deserialize)]
struct Case {
    image: ImageCase,
    text: TextCase,
    dimension: usize,
    logit_scale: f32,
    logit_bias: f32,
    texts: Vec<String>,
    photos: Vec<String>,
    ids: Vec<Vec<i64>>,
    image_embeddings: Vec<Vec<f32>>,
    text_embeddings: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct ImageCase {
    size: u32,
    preset: String,
    resize_mode: ResizeMode,
    interpolation: Interpolation,
    mean: [f32; 3],
    std: [f32; 3],
    resize_size: u32,
}

#[derive(Deserialize)]
struct TextCase {
    context_length: usize,
    pad_id: u32,
    padding: Padding,
    inputs: Vec<String>,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(name)
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> T {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What a user would say on the command line to import the miniature.
fn options(name: &str, case: &Case) -> ImportOptions {
    let folder = golden(name);
    ImportOptions {
        image: folder.join("image.onnx"),
        text: Some((folder.join("text.onnx"), folder.join("tokenizer.json"))),
        preset: Preset::named(&case.image.preset).unwrap(),
        pixels: PixelOverrides::default(),
        image_output: None,
        spatial_output: None,
        text_output: None,
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        licence: "MIT".to_owned(),
        source: "random weights".to_owned(),
        logit_scale: Some(case.logit_scale),
        logit_bias: Some(case.logit_bias),
        context_length: Some(case.text.context_length),
        padding: None,
        pad_id: None,
        templates: Vec::new(),
    }
}

fn import_case(name: &str, case: &Case) -> (tempfile::TempDir, Encoder) {
    let home = tempfile::tempdir().unwrap();
    let mut options = options(name, case);
    // The photos already have the tower's size, so a preset that resizes to more is overruled.
    if case.image.resize_size != case.image.size {
        options.pixels.resize_size = Some(case.image.size);
    }
    let folder = home.path().join(name);
    import_model(&options, &folder).unwrap();
    let package = Package::open(&folder).unwrap();
    package.verify().unwrap();
    (home, Encoder::new(package))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn check_architecture(name: &str) {
    let case: Case = read_json(&golden(name).join("case.json"));
    let (_home, encoder) = import_case(name, &case);
    let manifest = encoder.package().manifest();
    assert_eq!(manifest.dimension, case.dimension);
    let text = manifest.text.as_ref().unwrap();
    assert_eq!(text.context_length, case.text.context_length);
    assert_eq!((text.padding, text.pad_id), (case.text.padding, case.text.pad_id));
    assert_eq!(text.attention_mask.is_some(), case.text.inputs.len() > 1);

    for (photo, expected) in case.photos.iter().zip(&case.image_embeddings) {
        let picture = decode_file(&golden(name).join(photo), encoder.limits()).unwrap();
        let found = encoder.image(&picture, photo).unwrap();
        let cosine = cosine(found.values(), expected);
        assert!(cosine >= LEAST_COSINE, "{name} {photo}: cosine {cosine}");
    }
    for ((written, ids), expected) in case.texts.iter().zip(&case.ids).zip(&case.text_embeddings) {
        let tokens = encoder.tokens(written).unwrap();
        assert_eq!(&tokens.ids, ids, "{name}: {written}");
        let found = encoder.text_tokens(&tokens, written).unwrap();
        let cosine = cosine(found.values(), expected);
        assert!(cosine >= LEAST_COSINE, "{name} {written:?}: cosine {cosine}");
    }
}

#[derive(Deserialize)]
struct PlacesCase {
    rows: usize,
    columns: usize,
    /// By photo and place, unit rows.
    places: Vec<Vec<Vec<f32>>>,
}

/// A vision transformer that `models/reference/places.py` gave SCLIP's last block, against PyTorch.
#[test]
fn places_of_a_vision_transformer() {
    let case: PlacesCase = read_json(&golden("places").join("places.json"));
    let clip: Case = read_json(&golden("vitb32").join("case.json"));
    let home = tempfile::tempdir().unwrap();
    let image = golden("places").join("image.onnx");
    let spatial = |name: &str| Some(name.to_owned());
    let options = ImportOptions {
        image,
        text: None,
        spatial_output: spatial("spatial"),
        ..options("vitb32", &clip)
    };
    let folder = home.path().join("places");
    import_model(&options, &folder).unwrap();
    let encoder = Encoder::new(Package::open(&folder).unwrap());
    for (photo, expected) in clip.photos.iter().zip(&case.places) {
        let picture = decode_file(&golden("vitb32").join(photo), encoder.limits()).unwrap();
        let grid = encoder.places(&picture, photo).unwrap();
        assert_eq!((grid.rows, grid.columns), (case.rows, case.columns));
        assert_eq!(grid.embeddings.len(), expected.len());
        for (found, expected) in grid.embeddings.iter().zip(expected) {
            let cosine = cosine(found.values(), expected);
            assert!(cosine >= LEAST_COSINE, "{photo}: cosine {cosine}");
        }
    }
    let wrong = ImportOptions { spatial_output: spatial("image_embeds"), ..options };
    let refused = import_model(&wrong, &home.path().join("wrong"));
    assert!(matches!(refused, Err(ImportError::Places { dimension: 24, .. })), "{refused:?}");
}

#[test]
fn openai_clip() {
    check_architecture("vitb32");
}

#[test]
fn tinyclip() {
    check_architecture("tinyclip");
}

#[test]
fn mobileclip2() {
    check_architecture("mobileclip2s0");
}

#[test]
fn siglip() {
    check_architecture("siglipb16");
}

#[test]
fn bert_with_the_mask_inside() {
    check_architecture("bert");
}

#[test]
fn bert_with_mask_and_types_as_inputs_of_any_length() {
    check_architecture("bertmask");
}

#[test]
fn presets_prepare_pictures_as_the_reference_does() {
    for name in ["vitb32", "tinyclip", "mobileclip2s0", "siglipb16", "bertmask"] {
        let case: Case = read_json(&golden(name).join("case.json"));
        let spec = Preset::named(&case.image.preset).unwrap().preprocess(case.image.size);
        assert_eq!(spec.resize, case.image.resize_mode, "{name}");
        assert_eq!(spec.interpolation, case.image.interpolation, "{name}");
        assert_eq!(spec.resize_size, [case.image.resize_size; 2], "{name}");
        assert_eq!(spec.mean, case.image.mean, "{name}");
        assert_eq!(spec.std, case.image.std, "{name}");
    }
}

#[test]
fn siglip_scores_pairs_by_its_sigmoid() {
    let case: Case = read_json(&golden("siglipb16").join("case.json"));
    let (_home, encoder) = import_case("siglipb16", &case);
    let manifest = encoder.package().manifest();
    assert_eq!(manifest.scoring, Scoring::Sigmoid);
    let image = decode_file(&golden("siglipb16").join(&case.photos[0]), encoder.limits()).unwrap();
    let image = encoder.image(&image, "photo").unwrap();
    let text = encoder.text(&case.texts[0]).unwrap();
    let expected_similarity = cosine(&case.image_embeddings[0], &case.text_embeddings[0]);
    let logit = f64::from(case.logit_scale) * expected_similarity + f64::from(case.logit_bias);
    let expected = 1.0 / (1.0 + (-logit).exp());
    let found = sextant::match_probability(manifest, &image, &text).unwrap();
    assert!((f64::from(found) - expected).abs() < 1e-4, "{found} is not {expected}");
}

#[derive(Deserialize)]
struct TokenTable {
    context_length: usize,
    pad_id: u32,
    end_id: i64,
    cases: Vec<TokenCase>,
    different: Vec<DifferentCase>,
}

#[derive(Deserialize)]
struct TokenCase {
    text: String,
    times: usize,
    truncated: bool,
    ids: Vec<i64>,
}

#[derive(Deserialize)]
struct DifferentCase {
    text: String,
    ids: Vec<i64>,
}

fn check_tokenizer(kind: &str) {
    let folder = golden("tokenizers").join(kind);
    let table: TokenTable = read_json(&folder.join("ids.json"));
    let tower = TextTower {
        file: "text.onnx".to_owned(),
        sha256: String::new(),
        input: "input_ids".to_owned(),
        attention_mask: None,
        token_type_ids: None,
        output: "text_embeds".to_owned(),
        tokenizer: "tokenizer.json".to_owned(),
        tokenizer_sha256: String::new(),
        context_length: table.context_length,
        padding: Padding::Max,
        pad_id: table.pad_id,
        lowercase: false,
        strip_punctuation: false,
    };
    let json = std::fs::read(folder.join("tokenizer.json")).unwrap();
    let tokenizer = TextTokenizer::new(&json, kind, &tower).unwrap();
    for case in &table.cases {
        let tokens = tokenizer.tokenise(&case.text.repeat(case.times)).unwrap();
        let shown = &case.text;
        assert_eq!(tokens.ids, case.ids, "{kind}: {shown:?} x {}", case.times);
        assert_eq!(tokens.truncated, case.truncated, "{kind}: {shown:?} x {}", case.times);
        assert!(tokens.ids.contains(&table.end_id), "{kind}: {shown:?} has lost its end token");
        let kept = tokens.mask.iter().filter(|&&bit| bit == 1).count();
        assert_eq!(tokens.mask.len(), table.context_length);
        assert!(tokens.ids[kept..].iter().all(|&id| id == i64::from(table.pad_id)));
    }
    for case in &table.different {
        assert_eq!(tokenizer.tokenise(&case.text).unwrap().ids, case.ids, "{kind}: {}", case.text);
    }
}

#[test]
fn byte_level_tokens_are_those_of_open_clip() {
    check_tokenizer("clip");
}

#[test]
fn unigram_tokens_are_those_of_sentencepiece() {
    check_tokenizer("siglip");
}

#[test]
fn wordpiece_tokens_are_those_of_the_python_tokenizers() {
    check_tokenizer("bert");
}

/// The error of an import that must fail and leave nothing behind.
fn refused(change: impl FnOnce(&mut ImportOptions, &Path)) -> ImportError {
    let case: Case = read_json(&golden("tinyclip").join("case.json"));
    let home = tempfile::tempdir().unwrap();
    let mut options = options("tinyclip", &case);
    change(&mut options, home.path());
    let destination = home.path().join("package");
    let error = import_model(&options, &destination).unwrap_err();
    assert!(!destination.exists(), "{error}: left something behind");
    error
}

#[test]
fn a_text_tower_of_another_model_is_refused() {
    let error = refused(|options, _| {
        let other = golden("vitb32");
        options.text = Some((other.join("text.onnx"), other.join("tokenizer.json")));
    });
    assert!(matches!(error, ImportError::Dimensions { image: 32, text: 48, .. }), "{error}");
}

#[test]
fn towers_given_the_wrong_way_round_are_refused() {
    let error = refused(|options, _| {
        let (text, tokenizer) = options.text.clone().unwrap();
        options.text = Some((std::mem::replace(&mut options.image, text), tokenizer));
    });
    assert!(matches!(error, ImportError::Inputs { .. }), "{error}");
    assert!(error.to_string().contains("text.onnx"), "{error}");
}

#[test]
fn a_tower_cut_in_half_is_refused_by_name() {
    let error = refused(|options, home| {
        let whole = std::fs::read(&options.image).unwrap();
        options.image = home.join("half.onnx");
        std::fs::write(&options.image, &whole[..whole.len() / 2]).unwrap();
    });
    assert!(matches!(error, ImportError::Tower(_)), "{error}");
    assert!(error.to_string().contains("half.onnx"), "{error}");
}

#[test]
fn a_tokenizer_that_is_none_is_refused_by_name() {
    let error = refused(|options, home| {
        let file = home.join("words.json");
        std::fs::write(&file, "{\"model\": 1}").unwrap();
        options.text = options.text.clone().map(|(tower, _)| (tower, file));
    });
    assert!(error.to_string().contains("words.json"), "{error}");
}

#[test]
fn a_context_length_that_the_graph_does_not_take_is_refused() {
    let error = refused(|options, _| options.context_length = Some(20));
    assert!(error.to_string().contains("text.onnx"), "{error}");
}

#[test]
fn sigmoid_models_need_their_own_scale() {
    let error = refused(|options, _| {
        options.preset = Preset::Siglip;
        options.logit_bias = None;
    });
    assert!(matches!(error, ImportError::SigmoidScale), "{error}");
}

#[test]
fn an_existing_folder_is_never_written_over() {
    let case: Case = read_json(&golden("tinyclip").join("case.json"));
    let home = tempfile::tempdir().unwrap();
    let error = import_model(&options("tinyclip", &case), home.path()).unwrap_err();
    assert!(matches!(error, ImportError::Exists { .. }), "{error}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn every_tower_has_inner_layers() {
    for name in ["vitb32", "tinyclip", "siglipb16", "mobileclip2s0"] {
        let folder = golden(name);
        let case: Case = read_json(&folder.join("case.json"));
        let (_home, encoder) = import_case(name, &case);
        let layers = image_layers(encoder.package()).unwrap();
        assert!(!layers.is_empty(), "{name} has no layers");
        let tokens = layers.iter().any(|l| matches!(l.shape, LayerShape::Tokens { .. }));
        assert_eq!(tokens, name != "mobileclip2s0", "{name}: {layers:?}");
        let limits = DecodeLimits::default();
        let layered = Encoder::at_layer(encoder.package().clone(), limits, 1).unwrap();
        let photo = folder.join(&case.photos[0]);
        assert_eq!(layered.image_file(&photo).unwrap().values().len(), layered.dimension());
    }
}
