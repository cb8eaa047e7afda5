//! What a tile's sums lack where a machine takes another offset from activations that meet negative weights.

use super::pack::PackedWeights;
use super::simd::Dot;

impl PackedWeights {
    /// What the sums of a tile start from for a vector of output channels, if activations were
    /// multiplied as they are: see [`PackedWeights::lacking`].
    ///
    /// # Safety
    /// The machine's instructions are enabled, and the weights are packed for it; `column` is a vector's first.
    #[inline(always)]
    pub unsafe fn lacking<V: Dot>(&self, column: usize) -> V::I {
        // SAFETY: as the caller promises; there is a number for every column.
        unsafe {
            match V::OFFSET == V::NEGATIVE_OFFSET {
                true => V::splat_i(0),
                false => V::load_i(self.lacking[column..].as_ptr()),
            }
        }
    }

    /// The sum of each output channel's negative weights.
    pub(super) fn sums_of_negatives(&self) -> Vec<i32> {
        /// As many bytes may be added in 16 bits.
        const GROUPS: usize = i16::MAX as usize / 128;
        let mut sums = vec![0; self.sums.len()];
        for panel in 0..self.panels() {
            let first = panel * self.layout.panel_columns();
            let width = self.vectors(panel) * self.layout.lanes;
            let row = width * self.layout.k_group;
            let panel =
                &self.data.as_slice()[first * self.inputs_padded..][..width * self.inputs_padded];
            let mut partial = vec![0i16; row];
            for groups in panel.chunks(GROUPS * row) {
                for group in groups.chunks_exact(row) {
                    for (sum, &weight) in partial.iter_mut().zip(group) {
                        *sum += i16::from((weight as i8).min(0));
                    }
                }
                let columns = partial.chunks_exact_mut(self.layout.k_group);
                for (total, column) in sums[first..].iter_mut().zip(columns) {
                    *total +=
                        column.iter_mut().map(|sum| i32::from(std::mem::take(sum))).sum::<i32>();
                }
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::WeightMatrix;
    use crate::kernel::pack::Layout;

    #[test]
    fn negative_weights_are_summed_by_output_channel() {
        let bytes: Vec<i8> = (0..60_000u32)
            .map(|i| ((i.wrapping_mul(2_654_435_761) >> 11) as i8).max(-127))
            .collect();
        // The last is the worst case of the sums in 16 bits.
        let worst = vec![-127i8; 3 * 20_000];
        for (values, outputs, inputs) in [
            (&bytes, 1, 1),
            (&bytes, 8, 4),
            (&bytes, 19, 131),
            (&bytes, 40, 1030),
            (&worst, 3, 20_000),
        ] {
            let values = &values[..outputs * inputs];
            let weights = WeightMatrix::dense(values, outputs, inputs).unwrap();
            let layout = Layout {
                lanes: 8,
                k_group: 4,
                panel_vectors: 2,
                tile_rows: [1; 4],
                offset: 128,
                negative_offset: 127,
            };
            let packed = PackedWeights::new(layout, &weights).unwrap();
            for (output, row) in values.chunks_exact(inputs).enumerate() {
                let negative: i32 = row.iter().map(|&w| i32::from(w.min(0))).sum();
                assert_eq!(packed.lacking[output], -negative, "{outputs} × {inputs}");
            }
            assert!(packed.lacking[outputs..].iter().all(|lacking| *lacking == 0));
        }
    }
}
