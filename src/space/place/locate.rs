//! Features of a picture's places, gathered once and asked for many texts.

use rayon::prelude::*;

use super::focus::focus;
use super::heat::{HeatMap, TileMap};
use super::tiles::{Tile, tiles};
use crate::embedding::{Embedding, EmbeddingError, dot};
use crate::encode::{EncodeError, Encoder, PlaceGrid};
use crate::picture::{Picture, Pixels, Preprocess, ResizeMode};
use crate::space::arithmetic::combine;
use crate::space::error::SpaceError;

/// How closely a picture is looked at: the size of tiles as a part of the largest that fits. Each
/// is a pass of its own over the whole picture. Chosen on things framed by hand in photos and in
/// collages of photos; [`FOCUS_SCALES`] on labelled pictures pasted into other scenes.
pub const SCALES: [f64; 3] = [0.6, 0.35, 0.22];

/// The largest tiles only, for a quick look.
pub const COARSE_SCALES: [f64; 1] = [1.0];

/// Tiles for [`PlaceFeatures::focused`].
pub const FOCUS_SCALES: [f64; 1] = [0.6];

/// How much places that resemble a label outweigh others when a picture is focused.
const SHARPNESS: f32 = 40.0;

/// Embeddings of a picture's places at some scales.
///
/// The whole picture is covered whatever its proportions, also what the model's own crop would
/// cut off: each tile is brought to the tower's size as it is.
#[derive(Debug, Clone)]
pub struct PlaceFeatures {
    picture: [u32; 2],
    layers: Vec<Vec<(Tile, PlaceGrid)>>,
}

impl PlaceFeatures {
    /// Runs the image tower on every tile of every scale (see [`SCALES`]); `source_name` is named
    /// in errors.
    ///
    /// # Errors
    /// As [`Encoder::places`].
    pub fn new(
        encoder: &Encoder,
        picture: &Picture,
        source_name: &str,
        scales: &[f64],
    ) -> Result<Self, EncodeError> {
        let declared = &encoder.package().manifest().image.preprocess;
        let (width, height) = declared.output_size();
        let mut spec = declared.spec().clone();
        spec.resize = ResizeMode::Squash;
        spec.resize_size = [width, height];
        spec.crop = None;
        // The size was accepted before, so it is again.
        let whole = Preprocess::new(spec).unwrap_or_else(|_| declared.clone());
        let size = [picture.width(), picture.height()];
        let layer = |&scale: &f64| {
            tiles(size, [width, height], scale)
                .into_par_iter()
                .map(|tile| {
                    let pixels = whole.pixels(&cut(picture, tile));
                    Ok((tile, encoder.place_grid(&pixels, source_name)?))
                })
                .collect::<Result<Vec<_>, EncodeError>>()
        };
        let layers = scales.iter().map(layer).collect::<Result<_, _>>()?;
        Ok(Self { picture: size, layers })
    }

    /// Where a text is: the similarity of each place to it, times how much there is at the place
    /// where the package says so (in units of the picture's mean). Places of little content resemble
    /// a text no less than its thing does; the magnitude of a convolutional network's features tells
    /// them apart, as in the class activation maps of Zhou et al. (2016).
    ///
    /// # Errors
    /// [`EmbeddingError::SpaceMismatch`] when text and places come from different spaces.
    pub fn heat(&self, text: &Embedding) -> Result<HeatMap, EmbeddingError> {
        if let Some(place) = self.places().next() {
            text.similarity(place)?;
        }
        let mean = self.mean_strength();
        let value = |(place, strength): (&Embedding, &f32)| {
            dot(place.values(), text.values()) * (f64::from(*strength) / mean) as f32
        };
        let map = |(tile, grid): &(Tile, PlaceGrid)| TileMap {
            tile: *tile,
            rows: grid.rows,
            columns: grid.columns,
            values: grid.embeddings.iter().zip(&grid.strengths).map(value).collect(),
        };
        let layers: Vec<Vec<TileMap>> =
            self.layers.iter().map(|layer| layer.iter().map(map).collect()).collect();
        Ok(HeatMap::blend(self.picture, &layers))
    }

    /// Mean strength of all places; 1 where there is nothing anywhere.
    fn mean_strength(&self) -> f64 {
        let all = || self.layers.iter().flatten().flat_map(|(_, grid)| &grid.strengths);
        let sum: f64 = all().map(|&strength| f64::from(strength)).sum();
        if sum > 0.0 { sum / all().count() as f64 } else { 1.0 }
    }

    /// The picture as an embedding that looks past the background: the whole together with its
    /// places, pooled by how much they look like any of `texts` (see [`focus`]).
    ///
    /// # Errors
    /// As [`focus`] and [`combine`].
    pub fn focused(&self, whole: &Embedding, texts: &[&[f32]]) -> Result<Embedding, SpaceError> {
        let places: Vec<Embedding> = self.places().cloned().collect();
        let pooled = focus(&places, texts, SHARPNESS)?;
        combine(&[(1.0, whole), (1.0, &pooled)])
    }

    /// All places of all tiles.
    pub fn places(&self) -> impl Iterator<Item = &Embedding> {
        self.layers.iter().flatten().flat_map(|(_, grid)| &grid.embeddings)
    }
}

/// A part of a picture; the tile must lie within it.
fn cut(picture: &Picture, tile: Tile) -> Picture {
    if tile.width == picture.width() && tile.height == picture.height() {
        return picture.clone();
    }
    let channels = picture.pixels().channels();
    let stride = picture.width() as usize * channels;
    let (left, length) = (tile.left as usize * channels, tile.width as usize * channels);
    let rows = picture.pixels().bytes().chunks_exact(stride);
    let bytes: Vec<u8> = rows
        .skip(tile.top as usize)
        .take(tile.height as usize)
        .flat_map(|row| &row[left..left + length])
        .copied()
        .collect();
    let pixels = match picture.pixels() {
        Pixels::Rgb(_) => Pixels::Rgb(bytes),
        Pixels::Rgba(_) => Pixels::Rgba(bytes),
    };
    Picture::new(tile.width, tile.height, pixels).expect("rows of the tile's size were taken")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::{Modality, SpaceId};

    #[test]
    fn of_places_that_are_alike_the_stronger_one_is_the_peak() {
        let at = |values: [f32; 2]| {
            Embedding::new(SpaceId::from_bytes([1; 32]), Modality::Image, values.to_vec()).unwrap()
        };
        let places = [at([0.6, 0.8]), at([0.0, 1.0]), at([0.8, 0.6])];
        let tile = Tile { left: 0, top: 0, width: 90, height: 30 };
        let features = |strengths: [f32; 3]| {
            let (embeddings, strengths) = (places.to_vec(), strengths.to_vec());
            let grid = PlaceGrid { rows: 1, columns: 3, embeddings, strengths };
            PlaceFeatures { picture: [90, 30], layers: vec![vec![(tile, grid)]] }
        };
        let text = at([1.0, 0.0]);
        let peak = |strengths| features(strengths).heat(&text).unwrap().peak();
        assert!(peak([1.0; 3]).0.x > 60);
        assert!(peak([3.0, 1.0, 1.0]).0.x < 30);
        // The unit of the strengths is the package's own affair.
        assert!((peak([1.0; 3]).1 - peak([7.0; 3]).1).abs() < 1e-6);
        assert!(peak([0.0; 3]).1 == 0.0);
    }

    #[test]
    fn cutting_takes_the_pixels_of_the_tile() {
        let bytes: Vec<u8> = (0..5 * 4 * 3).collect();
        let picture = Picture::new(5, 4, Pixels::Rgb(bytes)).unwrap();
        let part = cut(&picture, Tile { left: 1, top: 2, width: 3, height: 2 });
        let row = |y: u8| (y * 15 + 3..y * 15 + 12).collect::<Vec<u8>>();
        assert_eq!(part.pixels().bytes(), [row(2), row(3)].concat());
    }
}
