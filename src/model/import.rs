//! From two ONNX graphs and a tokenizer to a model package.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tract_onnx::pb::{GraphProto, ValueInfoProto, tensor_shape_proto::dimension, type_proto};
use tract_onnx::prelude::*;

use super::manifest::{Calibration, FORMAT, ImageTower, Manifest, Padding, Scoring, TextTower};
use super::package::{PackageError, hex};
use super::presets::Preset;
use super::tower::{InputShape, Tower, TowerError, TowerSpec, decode};
use crate::encode::{TextError, TextTokenizer};
use crate::picture::{Interpolation, Preprocess, PreprocessError, PreprocessSpec, ResizeMode};

/// Why a package cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A source file cannot be read, or a package file not written.
    #[error("{file}: {reason}")]
    Io {
        /// The file.
        file: String,
        /// What the operating system says.
        reason: std::io::Error,
    },
    /// The destination exists.
    #[error("{folder}: already exists: choose another folder or remove it first")]
    Exists {
        /// The folder.
        folder: String,
    },
    /// A graph cannot be used.
    #[error(transparent)]
    Tower(#[from] TowerError),
    /// The resulting manifest breaks a rule.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The graph's inputs are not those of such a tower.
    #[error("{file}: {reason}")]
    Inputs {
        /// The graph's file.
        file: String,
        /// What was expected.
        reason: String,
    },
    /// The preprocessing breaks a rule.
    #[error("preprocessing: {0}")]
    Preprocess(#[from] PreprocessError),
    /// The towers map into different dimensions.
    #[error("the image tower gives {image} numbers and the text tower {text}: they are not a pair")]
    Dimensions {
        /// Numbers from the image tower.
        image: usize,
        /// Numbers from the text tower.
        text: usize,
    },
    /// The output for places is not one.
    #[error("{file}: output {output} is {found:?}, and places are [1, {dimension}, rows, columns]")]
    Places {
        /// The graph's file.
        file: String,
        /// The output.
        output: String,
        /// Its shape.
        found: Vec<usize>,
        /// Numbers of an embedding.
        dimension: usize,
    },
    /// The family's scores need numbers that only the checkpoint knows.
    #[error(
        "sigmoid models need their own --logit-scale and --logit-bias (exp of the checkpoint's logit_scale, and its logit_bias)"
    )]
    SigmoidScale,
}

/// What a package is made from.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// The image tower.
    pub image: PathBuf,
    /// The text tower and its tokenizer.
    pub text: Option<(PathBuf, PathBuf)>,
    /// The family.
    pub preset: Preset,
    /// Replaces values of the preset's preprocessing.
    pub pixels: PixelOverrides,
    /// Name of the image tower's embedding output; `None` finds it.
    pub image_output: Option<String>,
    /// Name of the image tower's output for places, `[1, dimension, rows, columns]`, if it has one.
    pub spatial_output: Option<String>,
    /// Name of the text tower's embedding output; `None` finds it.
    pub text_output: Option<String>,
    /// Name of the package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SPDX expression of its licence.
    pub licence: String,
    /// Where the weights come from.
    pub source: String,
    /// Inverse temperature; `None` takes CLIP's 100.
    pub logit_scale: Option<f32>,
    /// Bias of sigmoid models.
    pub logit_bias: Option<f32>,
    /// Replaces the context length of the graph or preset.
    pub context_length: Option<usize>,
    /// Replaces the family's padding.
    pub padding: Option<Padding>,
    /// Replaces the preset's padding token.
    pub pad_id: Option<u32>,
    /// Prompt templates.
    pub templates: Vec<String>,
}

/// Values that replace those of a preset's preprocessing.
#[derive(Debug, Clone, Default)]
pub struct PixelOverrides {
    /// Side of the tower's input; else the graph's, or the family's.
    pub size: Option<u32>,
    /// How proportions are treated.
    pub resize: Option<ResizeMode>,
    /// Side to resize to before the crop.
    pub resize_size: Option<u32>,
    /// The filter.
    pub interpolation: Option<Interpolation>,
    /// Mean of each channel.
    pub mean: Option<[f32; 3]>,
    /// Deviation of each channel.
    pub std: Option<[f32; 3]>,
}

impl PixelOverrides {
    fn apply(&self, mut spec: PreprocessSpec) -> PreprocessSpec {
        spec.resize = self.resize.unwrap_or(spec.resize);
        spec.resize_size = self.resize_size.map_or(spec.resize_size, |side| [side; 2]);
        spec.interpolation = self.interpolation.unwrap_or(spec.interpolation);
        spec.mean = self.mean.unwrap_or(spec.mean);
        spec.std = self.std.unwrap_or(spec.std);
        spec
    }
}

/// Makes a package in the new folder `destination`: reads the graphs, finds their inputs and
/// outputs, runs each once, and copies the files beside a `model.toml`.
///
/// # Errors
/// [`ImportError`]; nothing is left behind.
pub fn import(options: &ImportOptions, destination: &Path) -> Result<Manifest, ImportError> {
    if destination.exists() {
        return Err(ImportError::Exists { folder: destination.display().to_string() });
    }
    let manifest = describe(options)?;
    let text = manifest.to_toml();
    Manifest::parse(&text, "model.toml")?;
    let written = write(options, &manifest, &text, destination);
    if written.is_err() {
        let _ = std::fs::remove_dir_all(destination);
    }
    written.map(|()| manifest)
}

fn describe(options: &ImportOptions) -> Result<Manifest, ImportError> {
    let scoring = options.preset.scoring();
    let explicit = options.logit_scale.is_some() && options.logit_bias.is_some();
    if scoring == Scoring::Sigmoid && !explicit {
        return Err(ImportError::SigmoidScale);
    }
    let (image, dimension) = image_tower(options)?;
    let text = match &options.text {
        Some((graph, tokenizer)) => Some(text_tower(options, graph, tokenizer, dimension)?),
        None => None,
    };
    let templates = if options.templates.is_empty() {
        vec!["a photo of a {}".to_owned()]
    } else {
        options.templates.clone()
    };
    Ok(Manifest {
        format: FORMAT,
        name: options.name.clone(),
        version: options.version.clone(),
        licence: options.licence.clone(),
        source: options.source.clone(),
        dimension,
        logit_scale: options.logit_scale.unwrap_or(100.0),
        logit_bias: options.logit_bias.unwrap_or(0.0),
        scoring,
        templates,
        image,
        text,
        calibration: Calibration::default(),
    })
}

fn image_tower(options: &ImportOptions) -> Result<(ImageTower, usize), ImportError> {
    let (bytes, file) = read(&options.image)?;
    let proto = decode(&bytes, &file)?;
    let graph = proto.graph.as_ref().expect("decode() refuses models without a graph");
    let inputs = free_inputs(graph);
    let [input] = inputs[..] else {
        return Err(wrong_inputs(&file, "one input of pixels [1, 3, height, width]", &inputs));
    };
    let dims = dims(input);
    if dims.len() != 4 {
        return Err(wrong_inputs(&file, "one input of pixels [1, 3, height, width]", &inputs));
    }
    let size = options.pixels.size.or(dims[2].and_then(|d| u32::try_from(d).ok()));
    let size = size.unwrap_or(options.preset.default_size());
    let preprocess = Preprocess::new(options.pixels.apply(options.preset.preprocess(size)))?;
    let (width, height) = preprocess.output_size();
    let (width, height) = (width as usize, height as usize);
    let output = embedding_output(graph, options.image_output.as_deref(), &file)?;
    let outputs = [Some(output.clone()), options.spatial_output.clone()];
    let spec = TowerSpec {
        file: file.clone(),
        inputs: vec![(input.name.clone(), InputShape::of(&preprocess))],
        outputs: outputs.into_iter().flatten().collect(),
    };
    let blank = Tensor::zero::<f32>(&[1, 3, height, width]).expect("a small shape");
    let found = Tower::build(&bytes, &spec)?.run(tvec!(blank.into()))?;
    let dimension = found[0].values.len();
    if let (Some(output), Some(places)) = (&options.spatial_output, found.get(1))
        && !matches!(places.shape[..], [1, depth, _, _] if depth == dimension)
    {
        let (output, found) = (output.clone(), places.shape.clone());
        return Err(ImportError::Places { file, output, found, dimension });
    }
    let tower = ImageTower {
        file: "image.onnx".to_owned(),
        sha256: hex(&Sha256::digest(&bytes)),
        input: input.name.clone(),
        output,
        spatial: options.spatial_output.clone(),
        strength: None,
        preprocess,
    };
    Ok((tower, dimension))
}

fn text_tower(
    options: &ImportOptions,
    graph_file: &Path,
    tokenizer_file: &Path,
    dimension: usize,
) -> Result<TextTower, ImportError> {
    let (bytes, file) = read(graph_file)?;
    let (tokenizer, _) = read(tokenizer_file)?;
    let proto = decode(&bytes, &file)?;
    let graph = proto.graph.as_ref().expect("decode() refuses models without a graph");
    let inputs = free_inputs(graph);
    let named = |part: &str| inputs.iter().find(|i| i.name.contains(part)).map(|i| i.name.clone());
    let (mask, types) = (named("mask"), named("type"));
    let ids: Vec<&&ValueInfoProto> = inputs
        .iter()
        .filter(|i| Some(&i.name) != mask.as_ref() && Some(&i.name) != types.as_ref())
        .collect();
    let [ids] = ids[..] else {
        return Err(wrong_inputs(&file, "token ids (and perhaps a mask and token types)", &inputs));
    };
    let family = options.preset.text();
    let fixed = dims(ids).get(1).copied().flatten();
    let tower = TextTower {
        file: "text.onnx".to_owned(),
        sha256: hex(&Sha256::digest(&bytes)),
        input: ids.name.clone(),
        attention_mask: mask,
        token_type_ids: types,
        output: embedding_output(graph, options.text_output.as_deref(), &file)?,
        tokenizer: "tokenizer.json".to_owned(),
        tokenizer_sha256: hex(&Sha256::digest(&tokenizer)),
        context_length: options.context_length.or(fixed).unwrap_or(family.context_length),
        padding: match (options.padding, fixed) {
            (Some(padding), _) => padding,
            (None, Some(_)) => Padding::Max,
            (None, None) => family.padding,
        },
        pad_id: options.pad_id.unwrap_or(family.pad_id),
        lowercase: family.lowercase,
        strip_punctuation: family.strip_punctuation,
    };
    let name = tokenizer_file.display().to_string();
    if let Err(error) = TextTokenizer::new(&tokenizer, &name, &tower) {
        let reason = match error {
            TextError::Tokenizer { reason, .. } => format!("not a usable tokenizer: {reason}"),
            other => other.to_string(),
        };
        return Err(ImportError::Inputs { file: name, reason });
    }
    let text = try_text(&tower, &bytes, &file)?;
    if text == dimension {
        Ok(tower)
    } else {
        Err(ImportError::Dimensions { image: dimension, text })
    }
}

/// Runs the text tower once on a short text of zeros; gives the length of its output.
fn try_text(tower: &TextTower, onnx: &[u8], file: &str) -> Result<usize, ImportError> {
    let built = Tower::build(onnx, &tower.spec(file.to_owned()))?;
    let length = if tower.padding == Padding::Max { tower.context_length } else { 4 };
    let zeros = Tensor::zero::<i64>(&[1, length]).expect("a small shape").into_tvalue();
    let ones =
        Tensor::from_shape(&[1, length], &vec![1i64; length]).expect("a small shape").into_tvalue();
    let mut inputs = tvec!(zeros.clone());
    inputs.extend(tower.attention_mask.iter().map(|_| ones.clone()));
    inputs.extend(tower.token_type_ids.iter().map(|_| zeros.clone()));
    Ok(built.run(inputs)?[0].values.len())
}

fn write(
    options: &ImportOptions,
    manifest: &Manifest,
    text: &str,
    destination: &Path,
) -> Result<(), ImportError> {
    let io = |path: &Path, reason| ImportError::Io { file: path.display().to_string(), reason };
    std::fs::create_dir_all(destination).map_err(|e| io(destination, e))?;
    let copy = |from: &Path, name: &str| {
        let to = destination.join(name);
        std::fs::copy(from, &to).map(drop).map_err(|e| io(&to, e))
    };
    copy(&options.image, &manifest.image.file)?;
    if let (Some((graph, tokenizer)), Some(tower)) = (&options.text, &manifest.text) {
        copy(graph, &tower.file)?;
        copy(tokenizer, &tower.tokenizer)?;
    }
    let path = destination.join("model.toml");
    std::fs::write(&path, text).map_err(|e| io(&path, e))
}

fn read(path: &Path) -> Result<(Vec<u8>, String), ImportError> {
    let file = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => Ok((bytes, file)),
        Err(reason) => Err(ImportError::Io { file, reason }),
    }
}

/// Graph inputs that are not weights.
fn free_inputs(graph: &GraphProto) -> Vec<&ValueInfoProto> {
    let weight = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
    graph.input.iter().filter(|input| !weight(&input.name)).collect()
}

/// The output asked for, or the one that is called an embedding, or else the first.
fn embedding_output(
    graph: &GraphProto,
    asked: Option<&str>,
    file: &str,
) -> Result<String, ImportError> {
    if let Some(name) = asked {
        return Ok(name.to_owned());
    }
    let called = graph.output.iter().find(|output| output.name.contains("embed"));
    let output = called.or(graph.output.first()).map(|output| output.name.clone());
    output.ok_or_else(|| ImportError::Inputs {
        file: file.to_owned(),
        reason: "the graph has no output".to_owned(),
    })
}

/// Dimensions of an input, `None` where they are symbolic.
fn dims(input: &ValueInfoProto) -> Vec<Option<usize>> {
    let tensor = input.r#type.as_ref().and_then(|t| t.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = tensor else { return Vec::new() };
    let Some(shape) = &tensor.shape else { return Vec::new() };
    let size = |value: &dimension::Value| match value {
        dimension::Value::DimValue(n) => usize::try_from(*n).ok().filter(|n| *n > 0),
        dimension::Value::DimParam(_) => None,
    };
    shape.dim.iter().map(|d| d.value.as_ref().and_then(size)).collect()
}

fn wrong_inputs(file: &str, expected: &str, found: &[&ValueInfoProto]) -> ImportError {
    let found: Vec<String> = found.iter().map(|i| format!("{} {:?}", i.name, dims(i))).collect();
    let reason = format!("a tower takes {expected}; this graph takes {}", found.join(", "));
    ImportError::Inputs { file: file.to_owned(), reason }
}
