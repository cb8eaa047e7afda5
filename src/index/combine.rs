//! Query arithmetic: a weighted sum of embeddings, corrected for the modality gap.

use crate::embedding::{Embedding, EmbeddingError, Modality};

/// Where the embeddings of each modality lie on average.
///
/// Pictures and texts of one space occupy two separate cones of the sphere; the vector between
/// their means is the modality gap (Liang et al. 2022, "Mind the Gap"). The mean of pictures is
/// at hand in an index ([`crate::index::Reader::mean`]); that of texts comes with a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Means {
    /// Mean of unit vectors of pictures.
    pub image: Option<Vec<f32>>,
    /// Mean of unit vectors of texts.
    pub text: Option<Vec<f32>>,
}

impl Means {
    fn of(&self, modality: Modality) -> Option<&[f32]> {
        match modality {
            Modality::Image => self.image.as_deref(),
            Modality::Text => self.text.as_deref(),
            Modality::Audio => None,
        }
    }
}

/// Adds embeddings by their weights and normalises the sum.
///
/// Terms of one modality are added as they are, and one term alone is left as it is. Where
/// modalities mix and the means of all of them are known, each term is first replaced by
/// its unit direction from the mean of its own modality, so that neither the gap nor the width
/// of a cone gives one of them more weight; the direction of their sum is then walked from
/// the mean of `target`, the modality of what is searched, as far as its embeddings lie from
/// it (the square root of one minus its squared length).
///
/// ```
/// use sextant::index::{Means, combine};
/// use sextant::{Embedding, Modality, SpaceId};
/// let of = |values| Embedding::new(SpaceId::from_bytes([1; 32]), Modality::Image, values).unwrap();
/// let terms = [(1.0, of(vec![1.0, 0.0])), (-0.5, of(vec![0.0, 1.0]))];
/// let sum = combine(&terms, &Means::default(), Modality::Image).unwrap();
/// assert!((sum.values()[0] / sum.values()[1] + 2.0).abs() < 1e-6);
/// ```
///
/// # Errors
/// [`EmbeddingError::SpaceMismatch`] when the terms are of different spaces,
/// [`EmbeddingError::Zero`] when there is no term or they cancel each other out.
pub fn combine(
    terms: &[(f32, Embedding)],
    means: &Means,
    target: Modality,
) -> Result<Embedding, EmbeddingError> {
    let Some((_, first)) = terms.first() else { return Err(EmbeddingError::Zero) };
    for (_, term) in terms {
        first.similarity(term)?;
    }
    let space = first.space();
    let mixed = terms.iter().any(|(_, term)| term.modality() != first.modality());
    let fits = |mean: &&[f32]| mean.len() == first.values().len();
    let mean_of = |modality| means.of(modality).filter(fits);
    let known = terms.iter().all(|(_, term)| mean_of(term.modality()).is_some());
    let mean = match mean_of(target) {
        Some(mean) if mixed && known => mean,
        _ => {
            let modality = if mixed { target } else { first.modality() };
            return Embedding::new(space, modality, weighted_sum(terms));
        }
    };
    let directions: Result<Vec<(f32, Embedding)>, EmbeddingError> = terms
        .iter()
        .map(|(weight, term)| {
            let centre = mean_of(term.modality()).unwrap_or(mean);
            let from_centre = term.values().iter().zip(centre).map(|(x, m)| x - m).collect();
            Ok((*weight, Embedding::new(space, term.modality(), from_centre)?))
        })
        .collect();
    let direction = Embedding::new(space, target, weighted_sum(&directions?))?;
    let length = mean.iter().map(|m| m * m).sum::<f32>();
    let distance = (1.0 - length).max(0.0).sqrt();
    let point = mean.iter().zip(direction.values()).map(|(m, x)| m + distance * x).collect();
    Embedding::new(space, target, point)
}

fn weighted_sum(terms: &[(f32, Embedding)]) -> Vec<f32> {
    let mut sum = vec![0f32; terms.first().map_or(0, |(_, term)| term.values().len())];
    for (weight, term) in terms {
        for (total, x) in sum.iter_mut().zip(term.values()) {
            *total += weight * x;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::SpaceId;

    fn of(modality: Modality, values: &[f32]) -> Embedding {
        Embedding::new(SpaceId::from_bytes([1; 32]), modality, values.to_vec()).unwrap()
    }

    /// Pictures around (0, 0, 1) and texts around (0, 0, -1); what they mean is in the rest.
    fn means() -> Means {
        Means { image: Some(vec![0.0, 0.0, 0.8]), text: Some(vec![0.0, 0.0, -0.9]) }
    }

    #[test]
    fn one_term_stays_what_it_is() {
        let text = of(Modality::Text, &[0.3, 0.1, -0.9]);
        let found = combine(&[(2.0, text.clone())], &means(), Modality::Image).unwrap();
        assert!(found.similarity(&text).unwrap() > 0.999_999);
    }

    #[test]
    fn picture_and_text_weigh_the_same_and_the_sum_lies_among_pictures() {
        let picture = of(Modality::Image, &[0.6, 0.0, 0.8]);
        let text = of(Modality::Text, &[0.0, 0.3, -0.9]);
        let terms = [(1.0, picture), (1.0, text)];
        let corrected = combine(&terms, &means(), Modality::Image).unwrap();
        let [x, y, z] = corrected.values() else { panic!() };
        assert!((x / y - 1.0).abs() < 0.1, "{x} {y}");
        assert!((z - 0.8).abs() < 0.1, "{z}");
        // Without the means the gap cancels out and the wider cone wins.
        let plain = combine(&terms, &Means::default(), Modality::Image).unwrap();
        assert!(plain.values()[0] > 1.5 * plain.values()[1]);
    }

    #[test]
    fn what_cancels_out_or_does_not_belong_together_is_an_error() {
        let a = of(Modality::Image, &[0.6, 0.0, 0.8]);
        let nothing = combine(&[(1.0, a.clone()), (-1.0, a.clone())], &means(), Modality::Image);
        assert_eq!(nothing, Err(EmbeddingError::Zero));
        assert_eq!(combine(&[], &means(), Modality::Image), Err(EmbeddingError::Zero));
        let other = Embedding::new(SpaceId::from_bytes([2; 32]), Modality::Text, vec![1.0; 3]);
        let mixed = combine(&[(1.0, a), (1.0, other.unwrap())], &means(), Modality::Image);
        assert!(matches!(mixed, Err(EmbeddingError::SpaceMismatch { .. })));
    }
}
