//! Pooling a picture's places by how much a text is there, past the background.

use crate::embedding::{Embedding, EmbeddingError, dot};
use crate::space::error::SpaceError;

/// One embedding from those of many places: each counts by `exp(sharpness * s)`, where s is its
/// similarity to the text that fits it best. With `sharpness` 0 it is the plain mean of places;
/// the larger it is, the more the places that look like any of the texts count, and the less
/// what surrounds them.
///
/// Keeps the space; the result is a unit vector among pictures.
///
/// # Errors
/// [`SpaceError::NoTerms`] without places or texts; [`SpaceError::OutOfRange`] unless `sharpness`
/// is finite and at least 0; [`EmbeddingError::SpaceMismatch`]; [`SpaceError::Cancelled`] when the
/// places cancel each other.
pub fn focus(
    places: &[Embedding],
    texts: &[&[f32]],
    sharpness: f32,
) -> Result<Embedding, SpaceError> {
    let first = places.first().ok_or(SpaceError::NoTerms)?;
    if texts.is_empty() {
        return Err(SpaceError::NoTerms);
    }
    if !(sharpness.is_finite() && sharpness >= 0.0) {
        let (range, value) = ("a finite number of at least 0", f64::from(sharpness));
        return Err(SpaceError::OutOfRange { what: "the sharpness", range, value });
    }
    let dimension = first.values().len();
    if let Some(text) = texts.iter().find(|text| text.len() != dimension) {
        return Err(SpaceError::Dimension { left: dimension, right: text.len() });
    }
    for place in places {
        first.similarity(place)?;
    }
    let best = |place: &Embedding| {
        texts.iter().map(|text| dot(place.values(), text)).fold(f32::NEG_INFINITY, f32::max)
    };
    let heights: Vec<f32> = places.iter().map(best).collect();
    let top = heights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = vec![0f32; dimension];
    for (place, height) in places.iter().zip(&heights) {
        let weight = (sharpness * (height - top)).exp();
        sum.iter_mut().zip(place.values()).for_each(|(total, x)| *total += weight * x);
    }
    match Embedding::new(first.space(), first.modality(), sum) {
        Err(EmbeddingError::Zero) => Err(SpaceError::Cancelled),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::{Modality, SpaceId};

    fn at(values: [f32; 2]) -> Embedding {
        let space = SpaceId::from_bytes([1; 32]);
        Embedding::new(space, Modality::Image, values.to_vec()).unwrap()
    }

    #[test]
    fn the_thing_outweighs_a_large_background() {
        let mut places = vec![at([0.0, 1.0]); 30];
        places.push(at([1.0, 0.0]));
        let thing: &[f32] = &[1.0, 0.0];
        let plain = focus(&places, &[thing], 0.0).unwrap();
        let focused = focus(&places, &[thing], 10.0).unwrap();
        assert!(plain.values()[0] < 0.05 && focused.values()[0] > 0.99);
    }

    #[test]
    fn nothing_to_pool_is_refused() {
        let text: &[f32] = &[1.0, 0.0];
        assert_eq!(focus(&[], &[text], 1.0), Err(SpaceError::NoTerms));
        assert_eq!(focus(&[at([1.0, 0.0])], &[], 1.0), Err(SpaceError::NoTerms));
        let opposite = [at([1.0, 0.0]), at([-1.0, 0.0])];
        assert_eq!(focus(&opposite, &[text], 0.0), Err(SpaceError::Cancelled));
        assert!(focus(&opposite, &[text], f32::NAN).is_err());
    }
}
