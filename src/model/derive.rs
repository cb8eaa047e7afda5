//! Packages made from others: a linear map behind each tower.

use std::path::Path;

use prost::Message;
use sha2::{Digest, Sha256};
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto, ValueInfoProto, tensor_proto};

use super::import::ImportError;
use super::manifest::{Calibration, Manifest};
use super::package::{Package, hex};
use super::tower::decode;

/// What a derived package changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived<'a> {
    /// Its name.
    pub name: String,
    /// Said after the source of the package it comes from.
    pub note: String,
    /// Numbers of its embeddings.
    pub dimension: usize,
    /// Map of picture embeddings, row-major: `dimension` rows, each as long as an embedding of the
    /// package it comes from; row i makes number i.
    pub image: &'a [f32],
    /// Map of text embeddings, of the same shape.
    pub text: &'a [f32],
    /// The new logit scale.
    pub logit_scale: f32,
    /// Mean of mapped picture embeddings, if it is known.
    pub image_mean: Option<Vec<f32>>,
    /// Mean of mapped text embeddings, if it is known.
    pub text_mean: Option<Vec<f32>>,
    /// Calibration of the probability that a picture and a text match, if it was fitted again.
    pub match_image_text: Option<[f32; 2]>,
}

/// Writes a package to the new folder `destination` whose towers end in the given maps. The maps
/// become ordinary operators of the graphs, so that any engine can run them; the fingerprint
/// follows from the files. Calibration that `derived` does not give anew is dropped: it was
/// fitted to another space.
///
/// # Panics
/// When a map has another length than `derived.dimension` times the package's.
///
/// # Errors
/// [`ImportError`]; nothing is left behind.
pub fn derive(
    package: &Package,
    derived: &Derived<'_>,
    destination: &Path,
) -> Result<Manifest, ImportError> {
    if destination.exists() {
        return Err(ImportError::Exists { folder: destination.display().to_string() });
    }
    let old = package.manifest();
    let sides = [derived.dimension, old.dimension];
    for map in [derived.image, derived.text] {
        assert_eq!(map.len(), sides[0] * sides[1], "a map has a row for each new number");
    }
    let mut manifest = old.clone();
    manifest.name.clone_from(&derived.name);
    manifest.source = format!("{}; {}", old.source, derived.note);
    manifest.dimension = derived.dimension;
    manifest.logit_scale = derived.logit_scale;
    manifest.calibration = Calibration {
        image_mean: derived.image_mean.clone(),
        text_mean: derived.text_mean.clone(),
        match_image_text: derived.match_image_text,
        ..Calibration::default()
    };
    let mut files = Vec::new();
    let bytes = package.read(&old.image.file, &old.image.sha256)?;
    let file = package.describe(&old.image.file);
    let outputs = [Some(&mut manifest.image.output), manifest.image.spatial.as_mut()];
    let image = with_map(&bytes, &file, outputs, derived.image, sides)?;
    manifest.image.sha256 = hex(&Sha256::digest(&image));
    files.push((old.image.file.clone(), image));
    if let (Some(text), Some(new)) = (&old.text, &mut manifest.text) {
        let bytes = package.read(&text.file, &text.sha256)?;
        let file = package.describe(&text.file);
        let tower = with_map(&bytes, &file, [Some(&mut new.output), None], derived.text, sides)?;
        new.sha256 = hex(&Sha256::digest(&tower));
        files.push((text.file.clone(), tower));
        let tokenizer = package.read(&text.tokenizer, &text.tokenizer_sha256)?;
        files.push((text.tokenizer.clone(), tokenizer.to_vec()));
    }
    let text = manifest.to_toml();
    Manifest::parse(&text, "model.toml")?;
    files.push(("model.toml".to_owned(), text.into_bytes()));
    let written = write(&files, destination);
    if written.is_err() {
        let _ = std::fs::remove_dir_all(destination);
    }
    written.map(|()| manifest)
}

/// Writes the files of a package into a new folder.
pub(super) fn write(files: &[(String, Vec<u8>)], destination: &Path) -> Result<(), ImportError> {
    let io = |path: &Path, reason| ImportError::Io { file: path.display().to_string(), reason };
    std::fs::create_dir_all(destination).map_err(|e| io(destination, e))?;
    for (name, bytes) in files {
        let path = destination.join(name);
        std::fs::write(&path, bytes).map_err(|e| io(&path, e))?;
    }
    Ok(())
}

/// The graph with `map` behind the named outputs (the embedding, and perhaps the one of places),
/// which are renamed.
fn with_map(
    onnx: &[u8],
    file: &str,
    outputs: [Option<&mut String>; 2],
    map: &[f32],
    [after, before]: [usize; 2],
) -> Result<Vec<u8>, ImportError> {
    let mut proto = decode(onnx, file)?;
    let graph = proto.graph.as_mut().expect("decode() refuses models without a graph");
    let [embedding, places] = outputs;
    let used = |name: &str, nodes: &[NodeProto]| {
        nodes.iter().any(|node| node.output.iter().any(|output| output.starts_with(name)))
    };
    // A package may be derived from a derived one.
    let round = (1..).find(|n| !used(&format!("aligned.{n}"), &graph.node)).unwrap_or(1);
    if let Some(name) = embedding {
        let weight = format!("aligned.{round}.weight");
        let columns: Vec<f32> = (0..before)
            .flat_map(|from| (0..after).map(move |to| map[to * before + from]))
            .collect();
        graph.initializer.push(tensor(&weight, &[before, after], &columns));
        let new = format!("aligned.{round}.embedding");
        graph.node.push(node("MatMul", [name, &weight], &new));
        rename_output(&mut graph.output, name, new);
    }
    if let Some(name) = places {
        let weight = format!("aligned.{round}.kernel");
        graph.initializer.push(tensor(&weight, &[after, before, 1, 1], map));
        let new = format!("aligned.{round}.places");
        let mut convolution = node("Conv", [name, &weight], &new);
        let kernel = tract_onnx::pb::attribute_proto::AttributeType::Ints as i32;
        convolution.attribute.push(AttributeProto {
            name: "kernel_shape".to_owned(),
            r#type: kernel,
            ints: vec![1, 1],
            ..AttributeProto::default()
        });
        graph.node.push(convolution);
        rename_output(&mut graph.output, name, new);
    }
    Ok(proto.encode_to_vec())
}

fn rename_output(outputs: &mut [ValueInfoProto], name: &mut String, new: String) {
    for output in outputs.iter_mut().filter(|output| output.name == *name) {
        output.name.clone_from(&new);
    }
    *name = new;
}

fn node(operator: &str, inputs: [&str; 2], output: &str) -> NodeProto {
    NodeProto {
        op_type: operator.to_owned(),
        name: output.to_owned(),
        input: inputs.map(str::to_owned).to_vec(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

fn tensor(name: &str, shape: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: shape.iter().map(|&side| side as i64).collect(),
        data_type: tensor_proto::DataType::Float as i32,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}
