//! A logistic curve through yes and no.

use super::error::SpaceError;

/// Rounds of Newton's method; ten are usual.
const ROUNDS: usize = 100;

/// Penalty on the squared scale, so that cleanly divided values do not ask for an infinite one.
const PENALTY: f64 = 1e-6;

/// `[scale, bias]` so that `1 / (1 + exp(-(scale * value + bias)))` is the most likely
/// probability of yes (logistic regression by Newton's method; for scores, Platt scaling).
///
/// # Errors
/// [`SpaceError::Unpaired`]; [`SpaceError::TooFewRows`] unless there are a yes and a no;
/// [`SpaceError::Singular`] when all values are equal or the method does not settle.
pub fn logistic(values: &[f32], answers: &[bool]) -> Result<[f32; 2], SpaceError> {
    const WHAT: &str = "a logistic curve";
    if values.len() != answers.len() {
        return Err(SpaceError::Unpaired { left: values.len(), right: answers.len() });
    }
    let yes = answers.iter().filter(|&&answer| answer).count();
    let found = yes.min(answers.len() - yes);
    if found == 0 {
        return Err(SpaceError::TooFewRows { what: WHAT, needed: 1, found });
    }
    let (mut scale, mut bias) = (0f64, 0f64);
    for _ in 0..ROUNDS {
        let mut slope = [-PENALTY * scale, 0.0];
        let mut curve = [PENALTY, 0.0, 0.0];
        for (&value, &answer) in values.iter().zip(answers) {
            let x = f64::from(value);
            let p = 1.0 / (1.0 + (-(scale * x + bias)).exp());
            let error = f64::from(u8::from(answer)) - p;
            slope = [slope[0] + error * x, slope[1] + error];
            let weight = p * (1.0 - p);
            curve = [curve[0] + weight * x * x, curve[1] + weight * x, curve[2] + weight];
        }
        let determinant = curve[0] * curve[2] - curve[1] * curve[1];
        if determinant.is_nan() || determinant <= 1e-300 {
            return Err(SpaceError::Singular { what: WHAT });
        }
        let step = [
            (curve[2] * slope[0] - curve[1] * slope[1]) / determinant,
            (curve[0] * slope[1] - curve[1] * slope[0]) / determinant,
        ];
        // A long first step can overshoot where values are far from balanced.
        let shorter = (50.0 / step[0].abs().max(step[1].abs())).min(1.0);
        scale += step[0] * shorter;
        bias += step[1] * shorter;
        if step.iter().all(|s| s.abs() < 1e-9 * (1.0 + scale.abs())) {
            return Ok([scale as f32, bias as f32]);
        }
    }
    Err(SpaceError::Singular { what: WHAT })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_curve_is_found_again() {
        // Three values with known shares of yes: 1 in 4, 2 in 4, 3 in 4 at -1, 0 and 1.
        let (mut values, mut answers) = (Vec::new(), Vec::new());
        for (value, yes) in [(-1.0, 1), (0.0, 2), (1.0, 3)] {
            for place in 0..4 {
                values.push(value);
                answers.push(place < yes);
            }
        }
        let [scale, bias] = logistic(&values, &answers).unwrap();
        assert!((scale - 3f32.ln()).abs() < 1e-4 && bias.abs() < 1e-4, "{scale} {bias}");
    }

    #[test]
    fn one_sided_and_equal_values_are_refused() {
        assert!(logistic(&[0.1, 0.2], &[true, true]).is_err());
        assert!(logistic(&[0.1], &[true, false]).is_err());
        let equal = logistic(&[0.0; 4], &[true, false, true, false]);
        assert!(equal.is_err() || equal.unwrap().iter().all(|x| x.is_finite()));
    }
}
