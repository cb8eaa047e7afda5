//! Earlier features of an image tower: what a picture looks like rather than what it shows.

use sha2::{Digest, Sha256};

use super::error::EncodeError;
use crate::embedding::SpaceId;
use crate::model::{
    InnerLayer, InputShape, LayerShape, Package, Tower, TowerError, TowerOutput, TowerSpec,
    inner_layers, with_inner_output,
};

/// How numbers of places become one point; part of the fingerprint.
const POOLING: &str = "deviation 1";

/// An inner layer in use.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub space: SpaceId,
    pub dimension: usize,
    layer: InnerLayer,
}

impl Layer {
    /// Layer `number` of a package's image tower, from 1.
    pub fn find(package: &Package, number: usize) -> Result<Self, EncodeError> {
        let layers = layers(package)?;
        let place = number.checked_sub(1).filter(|&place| place < layers.len());
        let Some(place) = place else {
            let name = package.manifest().name.clone();
            return Err(EncodeError::NoLayer { name, number, layers: layers.len() });
        };
        let layer = layers[place].clone();
        let (space, dimension) = (space_of(package, &layer), channels(layer.shape));
        Ok(Self { space, dimension, layer })
    }

    /// The tower up to this layer.
    pub fn build(&self, package: &Package) -> Result<Tower, EncodeError> {
        let image = &package.manifest().image;
        let bytes = package.read(&image.file, &image.sha256)?;
        let file = package.describe(&image.file);
        let bytes = with_inner_output(&bytes, &file, &self.layer.tensor)?;
        let inputs = vec![(image.input.clone(), InputShape::of(&image.preprocess))];
        let outputs = vec![self.layer.tensor.clone()];
        Ok(Tower::build(&bytes, &TowerSpec { file, inputs, outputs })?)
    }

    /// The standard deviation of each channel over all places: how much there is of a pattern,
    /// wherever it is. It is half of what Huang and Belongie (2017) call the style of a picture;
    /// the other half, the mean, says less (labelled training pictures found their like more often
    /// without it at all layers but the last).
    pub fn pooled(&self, package: &Package, output: &TowerOutput) -> Result<Vec<f32>, EncodeError> {
        let channels = channels(self.layer.shape);
        let places = output.values.len() / channels.max(1);
        if places == 0 || output.values.len() != places * channels {
            return Err(EncodeError::Tower(TowerError::Dimension {
                file: package.describe(&package.manifest().image.file),
                output: self.layer.tensor.clone(),
                found: output.values.len(),
                expected: channels,
            }));
        }
        let is_map = matches!(self.layer.shape, LayerShape::Map { .. });
        let at = |channel: usize, place: usize| match is_map {
            true => output.values[channel * places + place],
            false => output.values[place * channels + channel],
        };
        let mean = |of: &dyn Fn(usize) -> f64| (0..places).map(of).sum::<f64>() / places as f64;
        let deviation = |channel: usize| {
            let value = |place: usize| f64::from(at(channel, place));
            let middle = mean(&value);
            mean(&|place| (value(place) - middle).powi(2)).sqrt() as f32
        };
        Ok((0..channels).map(deviation).collect())
    }
}

fn space_of(package: &Package, layer: &InnerLayer) -> SpaceId {
    let mut digest = Sha256::new();
    digest.update("sextant layer 1\n");
    digest.update(package.space().to_string());
    digest.update(format!("\n{}\n{POOLING}\n", layer.tensor));
    SpaceId::from_bytes(digest.finalize().into())
}

/// The number of the layer whose points lie in `space`, if it is one of this package's.
///
/// # Errors
/// As [`layers`].
pub fn layer_of(package: &Package, space: SpaceId) -> Result<Option<usize>, EncodeError> {
    let layers = layers(package)?;
    let place = layers.iter().position(|layer| space_of(package, layer) == space);
    Ok(place.map(|place| place + 1))
}

fn channels(shape: LayerShape) -> usize {
    match shape {
        LayerShape::Map { channels, .. } | LayerShape::Tokens { channels, .. } => channels,
    }
}

/// The layers that [`crate::Encoder::at_layer`] can read, from the pixels on.
///
/// # Errors
/// [`EncodeError`] when the image tower cannot be read.
pub fn layers(package: &Package) -> Result<Vec<InnerLayer>, EncodeError> {
    let image = &package.manifest().image;
    let bytes = package.read(&image.file, &image.sha256)?;
    let spec = TowerSpec {
        file: package.describe(&image.file),
        inputs: vec![(image.input.clone(), InputShape::of(&image.preprocess))],
        outputs: vec![image.output.clone()],
    };
    Ok(inner_layers(&bytes, &spec)?)
}
