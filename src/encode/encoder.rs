//! A model ready to work: pictures and texts in, embeddings out.

use std::path::Path;
use std::sync::OnceLock;

use tract_onnx::prelude::*;

use super::error::EncodeError;
use super::layer::Layer;
use super::text::{TextError, Tokens};
use super::tokenizer::TextTokenizer;
use crate::embedding::{Embedding, Modality, SpaceId};
use crate::model::{InputShape, Package, PackageError, Tower, TowerError, TowerSpec};
use crate::picture::{DecodeLimits, Picture, PixelGrid, decode_file};

/// An encoder over one package. Towers are built when first needed, once; the encoder can be
/// shared between threads.
#[derive(Debug)]
pub struct Encoder {
    package: Package,
    space: SpaceId,
    layer: Option<Layer>,
    limits: DecodeLimits,
    image: OnceLock<Tower>,
    places: OnceLock<Tower>,
    text: OnceLock<TextEncoder>,
}

#[derive(Debug)]
struct TextEncoder {
    tokenizer: TextTokenizer,
    tower: Tower,
    takes_mask: bool,
    takes_types: bool,
}

/// An embedding for each place of a picture, on a grid over the tower's crop.
#[derive(Debug, Clone)]
pub struct PlaceGrid {
    /// Rows of the grid.
    pub rows: usize,
    /// Columns of the grid.
    pub columns: usize,
    /// One unit vector a place, row-major.
    pub embeddings: Vec<Embedding>,
    /// How much there is at each place, in the order of the embeddings: at least 0, in the
    /// package's own unit; 1 everywhere for packages that do not say.
    pub strengths: Vec<f32>,
}

impl Encoder {
    /// An encoder over `package`; reads no tower yet.
    pub fn new(package: Package) -> Self {
        Self::with_limits(package, DecodeLimits::default())
    }

    /// The same with other limits on the size of pictures.
    pub fn with_limits(package: Package, limits: DecodeLimits) -> Self {
        let space = package.space();
        Self {
            package,
            space,
            layer: None,
            limits,
            image: OnceLock::new(),
            places: OnceLock::new(),
            text: OnceLock::new(),
        }
    }

    /// An encoder of inner layer `number` of the image tower, 1 being nearest to the pixels: points
    /// of a space of its own, in which pictures are near when they look alike (colours, texture,
    /// shapes) rather than mean alike. It embeds no texts, and no places.
    ///
    /// # Errors
    /// [`EncodeError::NoLayer`]; [`EncodeError`] when the image tower cannot be read.
    pub fn at_layer(
        package: Package,
        limits: DecodeLimits,
        number: usize,
    ) -> Result<Self, EncodeError> {
        let layer = Layer::find(&package, number)?;
        let encoder = Self::with_limits(package, limits);
        Ok(Self { space: layer.space, layer: Some(layer), ..encoder })
    }

    /// Whether this is an encoder of an inner layer, to which no calibration applies.
    pub fn is_inner(&self) -> bool {
        self.layer.is_some()
    }

    /// Numbers of an embedding.
    pub fn dimension(&self) -> usize {
        self.layer.as_ref().map_or(self.package.manifest().dimension, |layer| layer.dimension)
    }

    /// The package this encoder runs.
    pub fn package(&self) -> &Package {
        &self.package
    }

    /// The space that all its embeddings live in.
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// Limits on the size of pictures.
    pub fn limits(&self) -> &DecodeLimits {
        &self.limits
    }

    /// Builds the image tower now rather than at the first picture, on all threads of the rayon
    /// pool that this is called in, else of the global one.
    ///
    /// # Errors
    /// As [`Encoder::image`], for the model's part.
    pub fn load_image(&self) -> Result<(), EncodeError> {
        rayon::scope(|_| self.image_tower().map(drop))
    }

    /// Builds the text tower now rather than at the first text, on threads as
    /// [`Encoder::load_image`] does.
    ///
    /// # Errors
    /// As [`Encoder::text`], for the model's part.
    pub fn load_text(&self) -> Result<(), EncodeError> {
        rayon::scope(|_| self.text_encoder().map(drop))
    }

    /// Decodes and embeds a picture file.
    ///
    /// # Errors
    /// [`EncodeError`], naming the file.
    pub fn image_file(&self, path: &Path) -> Result<Embedding, EncodeError> {
        let picture = decode_file(path, &self.limits)?;
        self.image(&picture, &path.display().to_string())
    }

    /// Embeds a decoded picture; `source_name` is named in errors.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn image(&self, picture: &Picture, source_name: &str) -> Result<Embedding, EncodeError> {
        let pixels = self.pixels(picture);
        self.pixel_grid(&pixels, source_name)
    }

    /// Brings a picture to the tower's size.
    pub fn pixels(&self, picture: &Picture) -> PixelGrid {
        self.package.manifest().image.preprocess.pixels(picture)
    }

    /// Embeds pixels that already have the tower's size.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn pixel_grid(
        &self,
        pixels: &PixelGrid,
        source_name: &str,
    ) -> Result<Embedding, EncodeError> {
        let tower = self.image_tower()?;
        let outputs = tower.run_pixels(pixels, &self.package.manifest().image.preprocess)?;
        let values = match (&self.layer, outputs.first()) {
            (Some(layer), Some(output)) => layer.pooled(&self.package, output)?,
            _ => tower.vector(outputs, self.dimension())?,
        };
        self.embedding(Modality::Image, values, source_name)
    }

    /// Embeds each place of a picture, for packages with a spatial output.
    ///
    /// # Errors
    /// [`EncodeError`]; [`TowerError::NoOutput`] where the package declares no spatial output.
    pub fn places(&self, picture: &Picture, source_name: &str) -> Result<PlaceGrid, EncodeError> {
        self.place_grid(&self.pixels(picture), source_name)
    }

    /// The same for pixels that already have the tower's size.
    ///
    /// # Errors
    /// As [`Encoder::places`].
    pub fn place_grid(
        &self,
        pixels: &PixelGrid,
        source_name: &str,
    ) -> Result<PlaceGrid, EncodeError> {
        if self.layer.is_some() {
            let file = self.package.describe(&self.package.manifest().image.file);
            return Err(EncodeError::Tower(TowerError::NoOutput { file, what: "spatial" }));
        }
        let tower = self.place_tower()?;
        let dimension = self.package.manifest().dimension;
        let outputs = tower.run_pixels(pixels, &self.package.manifest().image.preprocess)?;
        let mut outputs = outputs.into_iter();
        let output = outputs.next().expect("a tower gives each output it was asked for");
        let wrong = |output: &str, found, expected| {
            let file = self.package.describe(&self.package.manifest().image.file);
            let output = output.to_owned();
            EncodeError::Tower(TowerError::Dimension { file, output, found, expected })
        };
        let (rows, columns) = match output.shape[..] {
            [1, depth, rows, columns] if depth == dimension => (rows, columns),
            _ => return Err(wrong("spatial", output.values.len(), dimension)),
        };
        let count = rows * columns;
        let strengths = match outputs.next() {
            Some(found) if found.values.len() != count => {
                return Err(wrong("strength", found.values.len(), count));
            }
            // Not finite, or negative: nothing that may be counted by.
            Some(found) => {
                found.values.iter().map(|s| if *s > 0.0 { s.min(f32::MAX) } else { 0.0 }).collect()
            }
            None => vec![1.0; count],
        };
        let embeddings = (0..count)
            .map(|place| {
                let values = (0..dimension).map(|d| output.values[d * count + place]).collect();
                self.embedding(Modality::Image, values, source_name)
            })
            .collect::<Result<_, _>>()?;
        Ok(PlaceGrid { rows, columns, embeddings, strengths })
    }

    /// Embeds a text.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn text(&self, text: &str) -> Result<Embedding, EncodeError> {
        let tokens = self.tokens(text)?;
        self.text_tokens(&tokens, text)
    }

    /// Tokenises a text, to see how a tower reads it.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn tokens(&self, text: &str) -> Result<Tokens, EncodeError> {
        if self.layer.is_some() {
            return Err(EncodeError::Wordless { text: text.to_owned() });
        }
        Ok(self.text_encoder()?.tokenizer.tokenise(text)?)
    }

    /// Embeds a tokenised text; `source_name` is named in errors.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn text_tokens(
        &self,
        tokens: &Tokens,
        source_name: &str,
    ) -> Result<Embedding, EncodeError> {
        if self.layer.is_some() {
            return Err(EncodeError::Wordless { text: source_name.to_owned() });
        }
        let encoder = self.text_encoder()?;
        let row = |values: &[i64]| -> TValue {
            let array = tract_ndarray::Array2::from_shape_fn((1, values.len()), |(_, i)| values[i]);
            Tensor::from(array).into()
        };
        let mut inputs = tvec!(row(&tokens.ids));
        if encoder.takes_mask {
            inputs.push(row(&tokens.mask));
        }
        if encoder.takes_types {
            inputs.push(row(&vec![0; tokens.ids.len()]));
        }
        let outputs = encoder.tower.run(inputs)?;
        let values = encoder.tower.vector(outputs, self.package.manifest().dimension)?;
        self.embedding(Modality::Text, values, source_name)
    }

    fn embedding(
        &self,
        modality: Modality,
        values: Vec<f32>,
        source_name: &str,
    ) -> Result<Embedding, EncodeError> {
        Embedding::new(self.space, modality, values).map_err(|reason| EncodeError::Embedding {
            source_name: source_name.to_owned(),
            reason,
        })
    }

    fn image_tower(&self) -> Result<&Tower, EncodeError> {
        once(&self.image, || match &self.layer {
            Some(layer) => layer.build(&self.package),
            None => self.build_image(vec![self.package.manifest().image.output.clone()]),
        })
    }

    fn place_tower(&self) -> Result<&Tower, EncodeError> {
        let image = &self.package.manifest().image;
        let Some(spatial) = &image.spatial else {
            let file = self.package.describe(&image.file);
            return Err(EncodeError::Tower(TowerError::NoOutput { file, what: "spatial" }));
        };
        let outputs = [Some(spatial.clone()), image.strength.clone()];
        once(&self.places, || self.build_image(outputs.into_iter().flatten().collect()))
    }

    fn build_image(&self, outputs: Vec<String>) -> Result<Tower, EncodeError> {
        let image = &self.package.manifest().image;
        let shape = InputShape::of(&image.preprocess);
        let spec = TowerSpec {
            file: self.package.describe(&image.file),
            inputs: vec![(image.input.clone(), shape)],
            outputs,
        };
        self.build_tower(&image.file, &image.sha256, &spec)
    }

    /// Builds a tower and checks its file's digest meanwhile.
    fn build_tower(
        &self,
        file: &str,
        sha256: &str,
        spec: &TowerSpec,
    ) -> Result<Tower, EncodeError> {
        let bytes = self.package.unchecked(file)?;
        let check = || self.package.check(file, sha256, &bytes);
        let build = || Tower::build_releasing(&bytes, spec, &|range| bytes.release(range));
        let (tower, checked) = match rayon::current_thread_index() {
            Some(_) => rayon::join(build, check),
            None => (build(), check()),
        };
        checked?;
        self.package.intact(file, &bytes)?;
        Ok(tower?)
    }

    fn text_encoder(&self) -> Result<&TextEncoder, EncodeError> {
        once(&self.text, || self.build_text())
    }

    fn build_text(&self) -> Result<TextEncoder, EncodeError> {
        let manifest = self.package.manifest();
        let Some(text) = &manifest.text else {
            return Err(PackageError::NoText { name: manifest.name.clone() }.into());
        };
        if cfg!(not(feature = "text")) {
            return Err(TextError::NotBuilt.into());
        }
        let tokenizer = || -> Result<TextTokenizer, EncodeError> {
            let json = self.package.read(&text.tokenizer, &text.tokenizer_sha256)?;
            Ok(TextTokenizer::new(&json, &self.package.describe(&text.tokenizer), text)?)
        };
        let spec = text.spec(self.package.describe(&text.file));
        let tower = || self.build_tower(&text.file, &text.sha256, &spec);
        let (tokenizer, tower) = match rayon::current_thread_index() {
            Some(_) => rayon::join(tokenizer, tower),
            None => (tokenizer(), tower()),
        };
        let (tokenizer, tower) = (tokenizer?, tower?);
        let takes_mask = text.attention_mask.is_some();
        let takes_types = text.token_type_ids.is_some();
        Ok(TextEncoder { tokenizer, tower, takes_mask, takes_types })
    }
}

/// `OnceLock::get_or_try_init`, which is not stable yet. Two threads may both build; one wins.
fn once<T, E>(cell: &OnceLock<T>, build: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = build()?;
    Ok(cell.get_or_init(|| value))
}
