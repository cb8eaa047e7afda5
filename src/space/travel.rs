//! Going from one point of a space towards another.

use super::arithmetic::{CANCELLED, Centres, centred, mean_of, placed, rebuilt, same_space};
use super::error::SpaceError;
use crate::embedding::{Embedding, Modality};

/// The point `share` of the way from `from` to `to` on the great circle through both
/// (spherical interpolation, Shoemake 1985): 0 gives `from`, 1 gives `to`, values outside go on.
///
/// Keeps the plane of the two points and moves at an even angle, which a weighted sum does not.
///
/// # Errors
/// [`SpaceError::OutOfRange`] when `share` is not finite; [`SpaceError::Antipodal`] when the
/// points are opposite; [`EmbeddingError::SpaceMismatch`].
pub fn interpolate(from: &Embedding, to: &Embedding, share: f32) -> Result<Embedding, SpaceError> {
    same_space(from, to)?;
    if !share.is_finite() {
        let value = f64::from(share);
        return Err(SpaceError::OutOfRange { what: "the share", range: "a finite number", value });
    }
    let pair =
        || from.values().iter().zip(to.values()).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    // The half-angle form keeps its precision for close and for opposite points.
    let chord = pair().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    let sum = pair().map(|(a, b)| (a + b) * (a + b)).sum::<f64>().sqrt();
    if sum < 1e-4 {
        return Err(SpaceError::Antipodal);
    }
    let angle = 2.0 * chord.atan2(sum);
    if angle < 1e-7 {
        return Ok(from.clone());
    }
    let share = f64::from(share);
    let (left, right) = (((1.0 - share) * angle).sin(), (share * angle).sin());
    rebuilt(from, from.modality(), pair().map(|(a, b)| left * a + right * b).collect())
}

/// The same with the modality gap closed, for finding points of the modality `target`. Between
/// points of two modalities whose means are known, the way goes between their unit directions
/// from the means of their own kinds, and the point on it is put where points of `target` lie
/// (see [`combine_centred`]). Otherwise it is [`interpolate`].
///
/// # Errors
/// As [`interpolate`] and [`combine_centred`].
///
/// [`combine_centred`]: super::combine_centred
pub fn interpolate_centred(
    from: &Embedding,
    to: &Embedding,
    share: f32,
    centres: Centres<'_>,
    target: Modality,
) -> Result<Embedding, SpaceError> {
    same_space(from, to)?;
    let dimension = from.values().len();
    let known = |modality| mean_of(centres, modality, dimension);
    let mean = match (known(from.modality())?, known(to.modality())?, known(target)?) {
        (Some(_), Some(_), Some(mean)) if from.modality() != to.modality() => mean,
        _ => return interpolate(from, to, share),
    };
    let on_way = interpolate(&centred(from, centres)?, &centred(to, centres)?, share)?;
    let direction = on_way.values().iter().map(|&x| f64::from(x));
    rebuilt(from, target, placed(direction, mean))
}

/// A direction of change: what leads from one set of points to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Direction {
    from: Embedding,
    change: Vec<f64>,
}

impl Direction {
    /// The difference of the means of `to` and `from`: `to = sunny`, `from = snowy` gives what
    /// makes a picture sunnier. Both sets should be of one modality, so that the gap cancels.
    ///
    /// # Errors
    /// [`SpaceError::NoTerms`] when a set is empty; [`SpaceError::Cancelled`] when the means are
    /// equal; [`EmbeddingError::SpaceMismatch`].
    pub fn between(from: &[Embedding], to: &[Embedding]) -> Result<Self, SpaceError> {
        let start = from.first().ok_or(SpaceError::NoTerms)?.clone();
        let (left, right) = (mean(&start, from)?, mean(&start, to)?);
        let change: Vec<f64> = right.iter().zip(&left).map(|(b, a)| b - a).collect();
        if change.iter().map(|x| x * x).sum::<f64>().sqrt() <= CANCELLED {
            return Err(SpaceError::Cancelled);
        }
        Ok(Self { from: start, change })
    }

    /// Moves `point` by `amount` times the change and back onto the sphere. Keeps the point's
    /// modality, and everything about it that is at right angles to the change, up to scale.
    ///
    /// # Errors
    /// [`SpaceError::OutOfRange`] when `amount` is not finite; [`SpaceError::Cancelled`];
    /// [`EmbeddingError::SpaceMismatch`].
    pub fn apply(&self, point: &Embedding, amount: f32) -> Result<Embedding, SpaceError> {
        same_space(&self.from, point)?;
        if !amount.is_finite() {
            let value = f64::from(amount);
            let range = "a finite number";
            return Err(SpaceError::OutOfRange { what: "the amount", range, value });
        }
        let step = |(&x, change): (&f32, &f64)| f64::from(x) + f64::from(amount) * change;
        let moved: Vec<f64> = point.values().iter().zip(&self.change).map(step).collect();
        rebuilt(point, point.modality(), moved)
    }
}

fn mean(like: &Embedding, set: &[Embedding]) -> Result<Vec<f64>, SpaceError> {
    let mut sum = vec![0f64; like.values().len()];
    for point in set {
        same_space(like, point)?;
        sum.iter_mut().zip(point.values()).for_each(|(total, &x)| *total += f64::from(x));
    }
    if set.is_empty() {
        return Err(SpaceError::NoTerms);
    }
    sum.iter_mut().for_each(|total| *total /= set.len() as f64);
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::combine;
    use crate::space::testing::{at, close};

    #[test]
    fn interpolation_moves_at_an_even_angle() {
        let (a, b) = (at(Modality::Image, &[1.0, 0.0]), at(Modality::Image, &[0.0, 1.0]));
        for (share, degrees) in [(0.0, 0f32), (1.0, 90.0), (1.0 / 3.0, 30.0), (2.0, 180.0)] {
            let radians = degrees.to_radians();
            close(&interpolate(&a, &b, share).unwrap(), &[radians.cos(), radians.sin()]);
        }
        let opposite = at(Modality::Image, &[-1.0, 0.0]);
        assert_eq!(interpolate(&a, &opposite, 0.5), Err(SpaceError::Antipodal));
        close(&interpolate(&a, &a, 0.7).unwrap(), &[1.0, 0.0]);
        assert!(interpolate(&a, &b, f32::NAN).is_err());
    }

    #[test]
    fn directions_lead_from_one_set_to_the_other() {
        let snowy = [at(Modality::Text, &[1.0, 0.0, 0.0])];
        let sunny = [at(Modality::Text, &[0.0, 1.0, 0.0])];
        let sunnier = Direction::between(&snowy, &sunny).unwrap();
        let picture = at(Modality::Image, &[0.0, 0.0, 1.0]);
        close(&sunnier.apply(&picture, 0.5).unwrap(), &[-0.5, 0.5, 1.0]);
        assert_eq!(sunnier.apply(&picture, 0.5).unwrap().modality(), Modality::Image);
        assert_eq!(Direction::between(&snowy, &snowy), Err(SpaceError::Cancelled));
        assert_eq!(Direction::between(&snowy, &[]), Err(SpaceError::NoTerms));
    }

    #[test]
    fn a_way_between_modalities_stays_in_the_cone_of_what_is_searched() {
        let (image, text) = ([0.0, 0.0, 0.8], [0.0, 0.0, -0.8]);
        let centres = Centres { image: Some(&image), text: Some(&text) };
        let picture = at(Modality::Image, &[0.6, 0.0, 0.8]);
        let word = at(Modality::Text, &[0.0, 0.6, -0.8]);
        let way =
            |share| interpolate_centred(&picture, &word, share, centres, Modality::Image).unwrap();
        for (share, degrees) in [(0.0, 0f32), (1.0 / 3.0, 30.0), (1.0, 90.0)] {
            let radians = degrees.to_radians();
            close(&way(share), &[0.6 * radians.cos(), 0.6 * radians.sin(), 0.8]);
            assert_eq!(way(share).modality(), Modality::Image);
        }
        // Of one modality, or without means, it is the plain way.
        let plain = |a, b, centres| {
            let found = interpolate_centred(a, b, 0.3, centres, Modality::Image).unwrap();
            close(&found, interpolate(a, b, 0.3).unwrap().values());
        };
        let other = at(Modality::Image, &[0.0, 0.6, 0.8]);
        plain(&picture, &other, centres);
        plain(&picture, &word, Centres::default());
        plain(&picture, &word, Centres { image: Some(&image), text: None });
    }

    #[test]
    fn a_direction_is_a_sum_of_sets() {
        let text = |values: &[f32]| at(Modality::Text, values);
        let sunny = [text(&[0.2, 0.9, 0.1]), text(&[0.5, 0.5, 0.4]), text(&[0.1, 0.3, 0.0])];
        let snowy = [text(&[0.9, 0.1, 0.3]), text(&[0.7, -0.2, 0.3])];
        let picture = at(Modality::Image, &[0.4, 0.1, -0.8]);
        let moved = Direction::between(&snowy, &sunny).unwrap().apply(&picture, 0.7).unwrap();
        let mut terms = vec![(1.0, &picture)];
        terms.extend(sunny.iter().map(|point| (0.7 / 3.0, point)));
        terms.extend(snowy.iter().map(|point| (-0.7 / 2.0, point)));
        close(&moved, combine(&terms).unwrap().values());
    }
}
