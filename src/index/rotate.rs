//! The rotation that a vector goes through before it is rounded.
//!
//! Embeddings have a few components much larger than the rest, and the largest one sets the
//! step to which all are rounded. A rotation keeps every similarity and spreads what is in one
//! component over all, so that the step is about a third as large. It is made of fast
//! Walsh-Hadamard transforms with random signs, as in Ailon and Chazelle (2009), "The fast
//! Johnson-Lindenstrauss transform": one over the first 2ᵏ components and one over the last,
//! with 2ᵏ the largest power of two that fits.

/// A rotation of vectors of one dimension. It is fixed by the dimension alone.
#[derive(Debug)]
pub(crate) struct Rotation {
    /// Signs before the transform of the first and of the last components.
    signs: [Vec<f32>; 2],
    /// Length of the transforms.
    length: usize,
}

impl Rotation {
    /// The rotation for vectors of `dimension` components.
    pub fn new(dimension: usize) -> Self {
        let signs = [0, 1]
            .map(|stage| (0..dimension as u64).map(|at| random_sign(stage << 32 | at)).collect());
        Self { signs, length: 1 << dimension.max(1).ilog2() }
    }

    /// Rotates a vector.
    pub fn apply(&self, vector: &mut [f32]) {
        flip(vector, &self.signs[0]);
        transform(&mut vector[..self.length]);
        if self.length < vector.len() {
            flip(vector, &self.signs[1]);
            let start = vector.len() - self.length;
            transform(&mut vector[start..]);
        }
    }

    /// Rotates a vector back. Each transform and each flip is its own inverse.
    pub fn undo(&self, vector: &mut [f32]) {
        if self.length < vector.len() {
            let start = vector.len() - self.length;
            transform(&mut vector[start..]);
            flip(vector, &self.signs[1]);
        }
        transform(&mut vector[..self.length]);
        flip(vector, &self.signs[0]);
    }
}

/// One or minus one, from the top bit of SplitMix64 (Steele et al. 2014) at a position.
fn random_sign(position: u64) -> f32 {
    let mut z = (position + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    if (z ^ z >> 31) >> 63 == 0 { 1.0 } else { -1.0 }
}

fn flip(vector: &mut [f32], signs: &[f32]) {
    vector.iter_mut().zip(signs).for_each(|(x, sign)| *x *= sign);
}

/// The orthonormal Walsh-Hadamard transform; the length is a power of two.
fn transform(vector: &mut [f32]) {
    // The first two steps at once, as they work within a vector register.
    let mut half = match vector.as_chunks_mut::<4>() {
        (fours, []) => {
            for four in fours {
                let [a, b, c, d] = *four;
                let (a, b, c, d) = (a + b, a - b, c + d, c - d);
                *four = [a + c, b + d, a - c, b - d];
            }
            4
        }
        _ => 1,
    };
    while half < vector.len() {
        for pair in vector.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let factor = 1.0 / (vector.len() as f32).sqrt();
    vector.iter_mut().for_each(|x| *x *= factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_angles_stay_and_undoing_gives_the_vector_back() {
        for dimension in [1, 2, 3, 64, 100, 384, 512, 1000] {
            let rotation = Rotation::new(dimension);
            let make = |seed: usize| -> Vec<f32> {
                (0..dimension).map(|i| ((i * seed) % 17) as f32 - 7.5).collect()
            };
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
            let (a, b) = (make(5), make(11));
            let (mut ra, mut rb) = (a.clone(), b.clone());
            rotation.apply(&mut ra);
            rotation.apply(&mut rb);
            let scale = dot(&a, &a).max(dot(&b, &b));
            assert!((dot(&ra, &ra) - dot(&a, &a)).abs() < 1e-5 * scale, "{dimension}");
            assert!((dot(&ra, &rb) - dot(&a, &b)).abs() < 1e-5 * scale, "{dimension}");
            rotation.undo(&mut ra);
            assert!(ra.iter().zip(&a).all(|(x, y)| (x - y).abs() < 1e-4), "{dimension}");
        }
    }

    #[test]
    fn one_large_component_is_spread_over_all() {
        for dimension in [384, 512] {
            for at in [0, 100, dimension - 1] {
                let mut vector = vec![0.0; dimension];
                vector[at] = 1.0;
                Rotation::new(dimension).apply(&mut vector);
                let largest = vector.iter().fold(0f32, |m, x| m.max(x.abs()));
                assert!(largest * (dimension as f32).sqrt() < 5.0, "{largest}");
            }
        }
    }

    #[test]
    fn the_signs_are_those_of_the_format() {
        let signs = &Rotation::new(384).signs;
        let bits = |signs: &[f32]| signs.iter().fold(0u16, |w, s| w << 1 | u16::from(*s < 0.0));
        // From another program's SplitMix64; other signs would make every index unreadable.
        assert_eq!([bits(&signs[0][..16]), bits(&signs[1][..16])], [0x915F, 0x6CC4]);
    }
}
