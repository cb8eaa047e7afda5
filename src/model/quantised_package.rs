//! Int8 packages made from packages in single precision.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tract_onnx::prelude::*;

use super::derive;
use super::import::ImportError;
use super::manifest::{Manifest, TextTower};
use super::package::{Package, PackageError, hex};
use super::quantise::{Progress, QuantiseError, QuantiseOptions, QuantiseReport, quantise};
use super::tower::{InputShape, TowerSpec, input_spec, pixels};
use crate::encode::TextTokenizer;
use crate::picture::{DecodeLimits, decode_file};

/// Why no int8 package was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantisePackageError {
    /// The folder to make is there already.
    #[error("{folder}: exists already: give the folder of a new package")]
    Exists {
        /// The folder.
        folder: String,
    },
    /// The package does not fit.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A tower cannot be quantised.
    #[error("{file}: {reason}")]
    Tower {
        /// The tower's file.
        file: String,
        /// The rule it breaks.
        reason: QuantiseError,
    },
    /// The tokenizer cannot be used on calibration texts.
    #[error(transparent)]
    Text(#[from] crate::encode::TextError),
    /// The new package cannot be written.
    #[error(transparent)]
    Write(#[from] ImportError),
}

/// How a package is quantised.
#[derive(Debug, Clone)]
pub struct QuantisePackageOptions {
    /// Name of the new package.
    pub name: String,
    /// Pictures to calibrate the image tower with; none means rounding weights alone.
    pub pictures: Vec<PathBuf>,
    /// Texts to calibrate the text tower with.
    pub texts: Vec<String>,
    /// Limits on the size of pictures.
    pub limits: DecodeLimits,
    /// A layer whose own results would keep less than this cosine stays in 16 bits.
    pub smallest_cosine: f64,
}

/// What became of a package.
#[derive(Debug)]
pub struct QuantisedPackage {
    /// The new package's manifest.
    pub manifest: Manifest,
    /// Each tower's file name, and what was done to it.
    pub towers: Vec<(String, QuantiseReport)>,
    /// Pictures that could not be decoded, and why.
    pub skipped: Vec<String>,
}

/// Writes the package to the new folder `destination` with towers in int8. Everything else,
/// calibration of scores included, is taken over; the fingerprint follows from the files.
///
/// `progress` is called now and then with the tower's file and what is being done.
///
/// # Errors
/// [`QuantisePackageError`], such as [`QuantiseError::AlreadyQuantised`]; nothing is left behind.
pub fn quantise_package(
    package: &Package,
    destination: &Path,
    options: &QuantisePackageOptions,
    progress: &mut dyn FnMut(&str, Progress),
) -> Result<QuantisedPackage, QuantisePackageError> {
    if destination.exists() {
        return Err(QuantisePackageError::Exists { folder: destination.display().to_string() });
    }
    let old = package.manifest();
    let mut manifest = old.clone();
    manifest.name.clone_from(&options.name);
    let (mut files, mut towers, mut skipped) = (Vec::new(), Vec::new(), Vec::new());

    let image = &old.image;
    let bytes = package.read(&image.file, &image.sha256)?;
    let spec = TowerSpec {
        file: package.describe(&image.file),
        inputs: vec![(image.input.clone(), InputShape::of(&image.preprocess))],
        outputs: [Some(image.output.clone()), image.spatial.clone(), image.strength.clone()]
            .into_iter()
            .flatten()
            .collect(),
    };
    let samples = options.pictures.iter().filter_map(|path| {
        picture_sample(path, options, image).map_err(|error| skipped.push(error)).ok()
    });
    // `filter_map` knows no length, and a progress bar wants one.
    let mut samples = Counted { samples, most: options.pictures.len() };
    let samples = (!options.pictures.is_empty()).then_some(&mut samples as _);
    let (bytes, report) =
        one_tower(&bytes, &spec, samples, options, &mut |p| progress(&image.file, p))?;
    manifest.image.sha256 = hex(&Sha256::digest(&bytes));
    towers.push((image.file.clone(), report));
    files.push((image.file.clone(), bytes));

    if let (Some(text), Some(new)) = (&old.text, &mut manifest.text) {
        let bytes = package.read(&text.file, &text.sha256)?;
        let spec = text.spec(package.describe(&text.file));
        let json = package.read(&text.tokenizer, &text.tokenizer_sha256)?;
        let tokenizer = TextTokenizer::new(&json, &package.describe(&text.tokenizer), text)?;
        let mut samples = options
            .texts
            .iter()
            .map(|line| text_sample(line, &tokenizer, text))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter();
        let samples = (!options.texts.is_empty()).then_some(&mut samples as _);
        let (bytes, report) =
            one_tower(&bytes, &spec, samples, options, &mut |p| progress(&text.file, p))?;
        new.sha256 = hex(&Sha256::digest(&bytes));
        towers.push((text.file.clone(), report));
        files.push((text.file.clone(), bytes));
        files.push((text.tokenizer.clone(), json.to_vec()));
    }
    let toml = manifest.to_toml();
    Manifest::parse(&toml, "model.toml")?;
    files.push(("model.toml".to_owned(), toml.into_bytes()));
    derive::write(&files, destination).inspect_err(|_| {
        let _ = std::fs::remove_dir_all(destination);
    })?;
    Ok(QuantisedPackage { manifest, towers, skipped })
}

fn one_tower<'a>(
    bytes: &[u8],
    spec: &TowerSpec,
    samples: Option<&'a mut (dyn Iterator<Item = TVec<TValue>> + 'a)>,
    options: &QuantisePackageOptions,
    progress: &'a mut (dyn FnMut(Progress) + 'a),
) -> Result<(Vec<u8>, QuantiseReport), QuantisePackageError> {
    let options = QuantiseOptions {
        inputs: spec.inputs.iter().map(input_spec).collect(),
        outputs: spec.outputs.clone(),
        pixels: spec.inputs.first().and_then(|(_, shape)| pixels(shape)),
        samples,
        smallest_cosine: options.smallest_cosine,
        progress,
    };
    quantise(bytes, options)
        .map_err(|reason| QuantisePackageError::Tower { file: spec.file.clone(), reason })
}

/// An iterator that says how much may come.
struct Counted<I> {
    samples: I,
    most: usize,
}

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.samples.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.most))
    }
}

fn picture_sample(
    path: &Path,
    options: &QuantisePackageOptions,
    image: &super::ImageTower,
) -> Result<TVec<TValue>, String> {
    let picture = decode_file(path, &options.limits).map_err(|error| error.to_string())?;
    let grid = image.preprocess.pixels(&picture);
    let shape = (1, 3, grid.height() as usize, grid.width() as usize);
    let array = tract_ndarray::Array4::from_shape_vec(shape, image.preprocess.tensor(&grid))
        .map_err(|error| error.to_string())?;
    Ok(tvec!(Tensor::from(array).into()))
}

fn text_sample(
    line: &str,
    tokenizer: &TextTokenizer,
    text: &TextTower,
) -> Result<TVec<TValue>, crate::encode::TextError> {
    let tokens = tokenizer.tokenise(line)?;
    let row = |values: &[i64]| -> TValue {
        Tensor::from(tract_ndarray::Array2::from_shape_fn((1, values.len()), |(_, i)| values[i]))
            .into()
    };
    let mut inputs = tvec!(row(&tokens.ids));
    if text.attention_mask.is_some() {
        inputs.push(row(&tokens.mask));
    }
    if text.token_type_ids.is_some() {
        inputs.push(row(&vec![0; tokens.ids.len()]));
    }
    Ok(inputs)
}
