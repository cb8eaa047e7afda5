//! Adding and subtracting points of a space.
//!
//! Every result is a unit vector again; what else an operation keeps is said with it.

use super::error::SpaceError;
use crate::embedding::{Embedding, EmbeddingError, Modality};

/// The sum of weighted unit vectors may shrink to this part of the sum of the weights before it
/// counts as cancelled: what is left below is rounding noise without a direction.
pub(super) const CANCELLED: f64 = 1e-5;

/// The means of a space's modalities, for closing the modality gap.
///
/// Pictures and texts lie in cones of their own; a sum of both is then pulled by the distance of
/// the cones as much as by what they say. Taking the mean of its kind from every point first
/// (and putting one back) lets the sum work on meaning alone (Liang et al. 2022).
#[derive(Debug, Clone, Copy, Default)]
pub struct Centres<'a> {
    /// Mean of picture embeddings.
    pub image: Option<&'a [f32]>,
    /// Mean of text embeddings.
    pub text: Option<&'a [f32]>,
}

impl<'a> Centres<'a> {
    /// The mean of one modality, if it is known.
    pub fn of(&self, modality: Modality) -> Option<&'a [f32]> {
        match modality {
            Modality::Image => self.image,
            Modality::Text => self.text,
            Modality::Audio => None,
        }
    }
}

/// Adds weighted embeddings and brings the sum back onto the sphere.
///
/// Keeps the space; the order of terms and a positive factor on all weights do not matter. The
/// result counts as a picture if any term was one with a positive weight, else as the first
/// term's kind. `a - a` is [`SpaceError::Cancelled`].
///
/// ```
/// use sextant::space::combine;
/// use sextant::{Embedding, Modality, SpaceId};
/// let at = |x, y| {
///     Embedding::new(SpaceId::from_bytes([0; 32]), Modality::Image, vec![x, y]).unwrap()
/// };
/// let (a, b) = (at(1.0, 0.0), at(0.0, 1.0));
/// let sum = combine(&[(1.0, &a), (1.0, &b)]).unwrap();
/// assert!((sum.values()[0] - 0.5f32.sqrt()).abs() < 1e-6);
/// assert!(combine(&[(1.0, &a), (-1.0, &a)]).is_err());
/// ```
///
/// # Errors
/// [`SpaceError::NoTerms`], [`SpaceError::Weight`], [`SpaceError::Cancelled`],
/// [`EmbeddingError::SpaceMismatch`].
pub fn combine(terms: &[(f32, &Embedding)]) -> Result<Embedding, SpaceError> {
    let (sum, _) = weighted_sum(terms)?;
    let shows_picture =
        |&(weight, term): &(f32, &Embedding)| weight > 0.0 && term.modality() == Modality::Image;
    let (_, first) = *terms.first().ok_or(SpaceError::NoTerms)?;
    let modality = if terms.iter().any(shows_picture) { Modality::Image } else { first.modality() };
    rebuilt(first, modality, sum)
}

/// The same with the modality gap closed, for finding points of the modality `target`: what
/// `sextant search` does with a query.
///
/// Terms of one modality are added as they are. Where modalities mix and the means of all of
/// them are known, each term is first replaced by its unit direction from the mean of its own
/// kind, so that neither the gap nor the width of a cone gives one of them more weight. From the
/// mean of `target` the direction of their sum is then walked as far as points lie from it: the
/// square root of one minus its squared length.
///
/// Keeps a lone term where it is; a positive factor on all weights does not matter.
///
/// ```
/// use sextant::space::{Centres, combine_centred};
/// use sextant::{Embedding, Modality, SpaceId};
/// let at = |kind, values| Embedding::new(SpaceId::from_bytes([0; 32]), kind, values).unwrap();
/// // Pictures lie around (0, 0, 0.8), texts around (0, 0, -0.8).
/// let picture = at(Modality::Image, vec![0.6, 0.0, 0.8]);
/// let text = at(Modality::Text, vec![0.0, 0.6, -0.8]);
/// let centres = Centres { image: Some(&[0.0, 0.0, 0.8]), text: Some(&[0.0, 0.0, -0.8]) };
/// let both = [(1.0, &picture), (1.0, &text)];
/// let found = combine_centred(&both, centres, Modality::Image).unwrap();
/// // Among the pictures, and as near to what the one says as to what the other does.
/// assert!((found.values()[0] - found.values()[1]).abs() < 1e-6);
/// assert!((found.values()[2] - 0.8).abs() < 1e-6);
/// ```
///
/// # Errors
/// As [`combine`]; [`SpaceError::Dimension`] when a mean has another length.
pub fn combine_centred(
    terms: &[(f32, &Embedding)],
    centres: Centres<'_>,
    target: Modality,
) -> Result<Embedding, SpaceError> {
    let (_, first) = *terms.first().ok_or(SpaceError::NoTerms)?;
    let is_mixed = terms.iter().any(|(_, term)| term.modality() != first.modality());
    let dimension = first.values().len();
    let mut known = mean_of(centres, target, dimension)?;
    for (_, term) in terms {
        known = mean_of(centres, term.modality(), dimension)?.and(known);
    }
    let mean = match known {
        Some(mean) if is_mixed => mean,
        _ => {
            let (sum, _) = weighted_sum(terms)?;
            return rebuilt(first, if is_mixed { target } else { first.modality() }, sum);
        }
    };
    let directions: Vec<(f32, Embedding)> = terms
        .iter()
        .map(|&(weight, term)| Ok((weight, centred(term, centres)?)))
        .collect::<Result<_, SpaceError>>()?;
    let directions: Vec<(f32, &Embedding)> =
        directions.iter().map(|(w, term)| (*w, term)).collect();
    let (sum, length) = weighted_sum(&directions)?;
    let direction = sum.iter().map(|x| x / length);
    rebuilt(first, target, placed(direction, mean))
}

/// The point of the sphere in a unit direction from `mean`, as far from it as points lie: the
/// square root of one minus its squared length.
pub(super) fn placed(direction: impl Iterator<Item = f64>, mean: &[f32]) -> Vec<f64> {
    let squared: f64 = mean.iter().map(|&m| f64::from(m).powi(2)).sum();
    let reach = (1.0 - squared).max(0.0).sqrt();
    direction.zip(mean).map(|(x, &m)| f64::from(m) + reach * x).collect()
}

/// The sum and its length, if it has a direction.
fn weighted_sum(terms: &[(f32, &Embedding)]) -> Result<(Vec<f64>, f64), SpaceError> {
    let (_, first) = *terms.first().ok_or(SpaceError::NoTerms)?;
    let mut sum = vec![0f64; first.values().len()];
    let mut weights = 0f64;
    for (place, &(weight, term)) in terms.iter().enumerate() {
        if !weight.is_finite() {
            return Err(SpaceError::Weight { term: place + 1, weight });
        }
        same_space(first, term)?;
        for (total, &x) in sum.iter_mut().zip(term.values()) {
            *total += f64::from(weight) * f64::from(x);
        }
        weights += f64::from(weight.abs());
    }
    let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
    if length <= CANCELLED * weights {
        return Err(SpaceError::Cancelled);
    }
    Ok((sum, length))
}

pub(super) fn mean_of<'a>(
    centres: Centres<'a>,
    modality: Modality,
    dimension: usize,
) -> Result<Option<&'a [f32]>, SpaceError> {
    match centres.of(modality) {
        Some(mean) if mean.len() != dimension => {
            Err(SpaceError::Dimension { left: dimension, right: mean.len() })
        }
        mean => Ok(mean),
    }
}

pub(super) fn same_space(left: &Embedding, right: &Embedding) -> Result<(), SpaceError> {
    if left.space() == right.space() && left.values().len() == right.values().len() {
        return Ok(());
    }
    let (left, right) = (left.space().short(), right.space().short());
    Err(EmbeddingError::SpaceMismatch { left, right }.into())
}

/// A sum as an embedding of `like`'s space.
pub(super) fn rebuilt(
    like: &Embedding,
    modality: Modality,
    sum: Vec<f64>,
) -> Result<Embedding, SpaceError> {
    let values = sum.into_iter().map(|x| x as f32).collect();
    match Embedding::new(like.space(), modality, values) {
        Err(EmbeddingError::Zero) => Err(SpaceError::Cancelled),
        result => Ok(result?),
    }
}

/// Takes the mean of its modality from an embedding and brings it back onto the sphere
/// ("I0T", post-hoc form: centred spaces have no gap).
///
/// Keeps differences between points of one modality (before they are scaled to the sphere).
///
/// # Errors
/// [`SpaceError::Dimension`]; [`SpaceError::Cancelled`] when the embedding is the mean.
pub fn centred(embedding: &Embedding, centres: Centres<'_>) -> Result<Embedding, SpaceError> {
    let values = embedding.values();
    let Some(mean) = mean_of(centres, embedding.modality(), values.len())? else {
        return Ok(embedding.clone());
    };
    let difference: Vec<f64> =
        values.iter().zip(mean).map(|(&x, &m)| f64::from(x) - f64::from(m)).collect();
    if difference.iter().map(|x| x * x).sum::<f64>().sqrt() <= CANCELLED {
        return Err(SpaceError::Cancelled);
    }
    rebuilt(embedding, embedding.modality(), difference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::SpaceId;
    use crate::space::testing::{at, close};

    #[test]
    fn weights_add_up_and_factors_do_not_matter() {
        let (a, b) = (at(Modality::Image, &[1.0, 0.0, 0.0]), at(Modality::Text, &[0.0, 1.0, 0.0]));
        close(&combine(&[(2.0, &a), (1.0, &b)]).unwrap(), &[2.0, 1.0, 0.0]);
        close(&combine(&[(200.0, &a), (100.0, &b)]).unwrap(), &[2.0, 1.0, 0.0]);
        close(&combine(&[(1.0, &a), (-1.0, &b)]).unwrap(), &[1.0, -1.0, 0.0]);
        assert_eq!(combine(&[(1.0, &b), (1.0, &a)]).unwrap().modality(), Modality::Image);
        assert_eq!(combine(&[(1.0, &b), (-1.0, &a)]).unwrap().modality(), Modality::Text);
    }

    #[test]
    fn what_has_no_direction_is_refused() {
        let a = at(Modality::Image, &[0.3, 0.4, 0.5]);
        assert_eq!(combine(&[]), Err(SpaceError::NoTerms));
        assert_eq!(combine(&[(1.0, &a), (-1.0, &a)]), Err(SpaceError::Cancelled));
        assert_eq!(combine(&[(0.0, &a)]), Err(SpaceError::Cancelled));
        let thirds = [(0.1, &a), (0.2, &a), (-0.3, &a)];
        assert_eq!(combine(&thirds), Err(SpaceError::Cancelled));
        assert!(matches!(combine(&[(f32::NAN, &a)]), Err(SpaceError::Weight { term: 1, .. })));
        let foreign =
            Embedding::new(SpaceId::from_bytes([2; 32]), Modality::Image, vec![1.0, 0.0, 0.0]);
        assert!(combine(&[(1.0, &a), (1.0, &foreign.unwrap())]).is_err());
    }

    #[test]
    fn centring_takes_the_gap_out_of_mixed_sums() {
        let (image, text) = ([0.0, 0.0, 0.8], [0.0, 0.0, -0.8]);
        let centres = Centres { image: Some(&image), text: Some(&text) };
        let picture = at(Modality::Image, &[0.6, 0.0, 0.8]);
        let word = at(Modality::Text, &[0.0, 0.6, -0.8]);
        let sum = |terms: &[(f32, &Embedding)]| combine_centred(terms, centres, Modality::Image);
        close(&sum(&[(1.0, &picture)]).unwrap(), &[0.6, 0.0, 0.8]);
        close(&sum(&[(2.0, &word)]).unwrap(), &[0.0, 0.6, -0.8]);
        let both = [(1.0, &picture), (1.0, &word)];
        let half = 0.6 * 0.5f32.sqrt();
        close(&sum(&both).unwrap(), &[half, half, 0.8]);
        close(&sum(&both.map(|(_, term)| (30.0, term))).unwrap(), &[half, half, 0.8]);
        close(&sum(&[(1.0, &picture), (-1.0, &word)]).unwrap(), &[half, -half, 0.8]);
        let texts = combine_centred(&both, centres, Modality::Text).unwrap();
        close(&texts, &[half, half, -0.8]);
        assert_eq!(texts.modality(), Modality::Text);
        // A picture far from its mean does not drown a text near its own.
        let (far, near) =
            (at(Modality::Image, &[1.0, 0.0, 0.0]), at(Modality::Text, &[0.0, 0.1, -0.8]));
        let found = sum(&[(1.0, &far), (1.0, &near)]).unwrap();
        assert!(found.values()[1] > 0.3 * found.values()[0], "{found:?}");
        // Without means, or without all of them, the cones' offsets cancel and take the result
        // out of the pictures' cone.
        close(&combine(&both).unwrap(), &[0.6, 0.6, 0.0]);
        let only = Centres { image: Some(&image), text: None };
        close(&combine_centred(&both, only, Modality::Image).unwrap(), &[0.6, 0.6, 0.0]);
        close(&centred(&picture, centres).unwrap(), &[1.0, 0.0, 0.0]);
        assert_eq!(sum(&[(1.0, &picture), (-1.0, &picture)]), Err(SpaceError::Cancelled));
        let short = Centres { image: Some(&image[..2]), text: None };
        assert!(combine_centred(&[(1.0, &picture)], short, Modality::Image).is_err());
    }
}
