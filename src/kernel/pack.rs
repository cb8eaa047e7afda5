//! Weights packed into panels: the order in which a machine's tiles read them.
//!
//! A panel holds `panel_vectors · lanes` output channels (the last one fewer vectors); in it,
//! group after group of `k_group` inputs, and in a group channel after channel. So one group of
//! one vector is exactly what a dot product instruction takes.

use std::ops::Range;

use super::pack_loops::{add_row, interleave, sum_of};
use super::scratch::AlignedBytes;
use super::simd::{Dot, Scalar};
use super::{KernelError, Machine, WeightMatrix};

/// The largest number of inputs of an output channel: sums of 255 · 127 stay within i32.
pub const MOST_INPUTS: usize = 65_536;

/// The largest number of output channels.
pub const MOST_OUTPUTS: usize = 1 << 24;

/// What a machine asks of packed weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Output channels in a vector.
    pub lanes: usize,
    /// Inputs side by side.
    pub k_group: usize,
    /// Vectors in a full panel.
    pub panel_vectors: usize,
    /// Rows of a tile with panels of 1 to 4 vectors.
    pub tile_rows: [usize; 4],
    /// What the machine subtracts from activations.
    pub offset: i32,
    /// What its tile subtracts from those that meet a negative weight.
    pub negative_offset: i32,
}

impl Layout {
    /// The layout of a machine.
    pub const fn of<V: Dot>() -> Self {
        Self {
            lanes: V::LANES,
            k_group: V::K_GROUP,
            panel_vectors: V::PANEL_VECTORS,
            tile_rows: V::TILE_ROWS,
            offset: V::OFFSET,
            negative_offset: V::NEGATIVE_OFFSET,
        }
    }

    /// Output channels in a full panel.
    pub const fn panel_columns(&self) -> usize {
        self.lanes * self.panel_vectors
    }
}

impl Machine {
    /// What this machine asks of packed weights.
    pub(crate) const fn layout(self) -> Layout {
        match self {
            #[cfg(target_arch = "x86_64")]
            Machine::Avx2 => Layout::of::<super::x86::Avx2>(),
            #[cfg(target_arch = "x86_64")]
            Machine::AvxVnni => Layout::of::<super::x86::AvxVnni>(),
            #[cfg(target_arch = "x86_64")]
            Machine::Avx512Vnni => Layout::of::<super::x86::Avx512>(),
            #[cfg(target_arch = "aarch64")]
            Machine::Neon => Layout::of::<super::aarch64::Neon>(),
            #[cfg(target_arch = "aarch64")]
            Machine::NeonDot => Layout::of::<super::aarch64::NeonDot>(),
            #[cfg(target_arch = "aarch64")]
            Machine::NeonI8mm => Layout::of::<super::aarch64::NeonI8mm>(),
            _ => Layout::of::<Scalar>(),
        }
    }
}

/// Packed weights and the sums of each output channel's weights.
#[derive(Debug, Clone)]
pub(crate) struct PackedWeights {
    pub layout: Layout,
    pub outputs: usize,
    pub inputs: usize,
    /// Inputs rounded up to whole groups.
    pub inputs_padded: usize,
    /// The panels.
    pub data: AlignedBytes,
    /// Sum of each output channel's weights, padded with zeros to whole vectors.
    pub sums: Vec<i32>,
    /// What a tile's sums lack beside the offset times the sum of the weights, by output channel like `sums`;
    /// empty where they lack nothing.
    pub lacking: Vec<i32>,
}

impl PackedWeights {
    /// Packs a matrix into memory of its own.
    pub fn new(layout: Layout, weights: &WeightMatrix) -> Result<Self, KernelError> {
        let length = Self::length(layout, weights.outputs(), weights.inputs());
        Self::within(layout, weights, AlignedBytes::zeroed(length))
    }

    /// Bytes of the packed weights of valid dimensions.
    pub const fn length(layout: Layout, outputs: usize, inputs: usize) -> usize {
        outputs.next_multiple_of(layout.lanes) * inputs.next_multiple_of(layout.k_group)
    }

    /// Packs a matrix into as many zero bytes as [`PackedWeights::length`] says.
    pub fn within(
        layout: Layout,
        weights: &WeightMatrix,
        data: AlignedBytes,
    ) -> Result<Self, KernelError> {
        let (outputs, inputs) = (weights.outputs(), weights.inputs());
        let length = Self::length(layout, outputs, inputs);
        KernelError::check_length("memory", data.as_slice().len(), Some(length))?;
        let columns = outputs.next_multiple_of(layout.lanes);
        let inputs_padded = inputs.next_multiple_of(layout.k_group);
        let mut packed = Self {
            layout,
            outputs,
            inputs,
            inputs_padded,
            data,
            sums: vec![0; columns],
            lacking: vec![],
        };
        let valid = match layout.k_group {
            4 => packed.fill::<4>(weights),
            8 => packed.fill::<8>(weights),
            16 => packed.fill::<16>(weights),
            _ => unreachable!("machines sum over groups of 4, 8 or 16 inputs"),
        };
        if layout.negative_offset != layout.offset {
            packed.lacking = packed.sums_of_negatives();
            for sum in &mut packed.lacking {
                *sum *= layout.negative_offset - layout.offset;
            }
        }
        match valid {
            true => Ok(packed),
            false => Err(lowest_weight(weights)),
        }
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.outputs.div_ceil(self.layout.panel_columns())
    }

    /// Vectors in a panel.
    pub fn vectors(&self, panel: usize) -> usize {
        let rest = self.outputs - panel * self.layout.panel_columns();
        rest.div_ceil(self.layout.lanes).min(self.layout.panel_vectors)
    }

    /// Fills panels and sums, `G` being the inputs of a group; gives whether all weights are valid.
    fn fill<const G: usize>(&mut self, weights: &WeightMatrix) -> bool {
        if weights.has_outputs_side_by_side() {
            self.fill_by_columns::<G>(weights)
        } else if weights.has_inputs_side_by_side() {
            self.fill_by_rows::<G>(weights)
        } else {
            self.fill_one_by_one::<G>(weights)
        }
    }

    /// From weights of which those of an input lie side by side.
    fn fill_by_columns<const G: usize>(&mut self, weights: &WeightMatrix) -> bool {
        let flip = weights.flip();
        // What is turned into zeros.
        let padding = vec![flip; self.layout.panel_columns()];
        let mut sums = vec![0; self.outputs];
        let mut valid = true;
        for block in blocks(self.inputs) {
            // Reading whole rows first also brings them into the cache in the order of memory.
            for input in block.clone() {
                valid &= add_row(weights.outputs_of(input, 0, self.outputs), flip, &mut sums);
            }
            for (total, sum) in self.sums.iter_mut().zip(&mut sums) {
                *total += i32::from(std::mem::take(sum));
            }
            for panel in 0..self.panels() {
                let Panel { groups, first, columns, width } = self.panel::<G>(panel);
                let groups = groups[block.start / G * width..].chunks_mut(width);
                for (start, group) in block.clone().step_by(G).zip(groups) {
                    let rows = std::array::from_fn(|g| match start + g {
                        input if input < block.end => weights.outputs_of(input, first, columns),
                        _ => &padding[..columns],
                    });
                    interleave(rows, flip, &mut group[..columns]);
                }
            }
        }
        valid
    }

    /// From weights of which those of an output lie side by side.
    fn fill_by_rows<const G: usize>(&mut self, weights: &WeightMatrix) -> bool {
        let flip = weights.flip();
        let mut sums = vec![0; self.outputs];
        let mut valid = true;
        for panel in 0..self.panels() {
            let Panel { groups, first, columns, width } = self.panel::<G>(panel);
            // What is written of a block stays in the cache from column to column.
            for block in blocks(weights.inputs()) {
                let groups = &mut groups[block.start / G * width..];
                for column in 0..columns {
                    let row = weights.inputs_of(first + column, block.start, block.len());
                    for (group, from) in groups.chunks_mut(width).zip(row.chunks(G)) {
                        for (to, from) in group[column].iter_mut().zip(from) {
                            *to = from ^ flip;
                        }
                    }
                    let (sum, all_valid) = sum_of(row, flip);
                    sums[first + column] += sum;
                    valid &= all_valid;
                }
            }
        }
        self.sums[..self.outputs].copy_from_slice(&sums);
        valid
    }

    /// From weights that lie otherwise.
    fn fill_one_by_one<const G: usize>(&mut self, weights: &WeightMatrix) -> bool {
        let mut valid = true;
        for panel in 0..self.panels() {
            let Panel { groups, first, columns, width } = self.panel::<G>(panel);
            let mut sums = vec![0; columns];
            for (column, sum) in sums.iter_mut().enumerate() {
                for input in 0..weights.inputs() {
                    let weight = weights.get(first + column, input);
                    groups[input / G * width + column][input % G] = weight as u8;
                    *sum += i32::from(weight);
                    valid &= weight != i8::MIN;
                }
            }
            self.sums[first..first + columns].copy_from_slice(&sums);
        }
        valid
    }

    /// One panel, to be filled.
    fn panel<const G: usize>(&mut self, panel: usize) -> Panel<'_, G> {
        let first = panel * self.layout.panel_columns();
        let width = self.vectors(panel) * self.layout.lanes;
        let range = first * self.inputs_padded..(first + width) * self.inputs_padded;
        let groups = self.data.as_mut_slice()[range].as_chunks_mut().0;
        Panel { groups, first, columns: width.min(self.outputs - first), width }
    }
}

/// One panel of packed weights.
struct Panel<'a, const G: usize> {
    /// A group's columns side by side, group after group.
    groups: &'a mut [[u8; G]],
    /// Output channel of the first column.
    first: usize,
    /// Columns that are output channels.
    columns: usize,
    /// Columns, those of padding included.
    width: usize,
}

/// Why weights are not valid: one of them is -128.
#[cold]
fn lowest_weight(weights: &WeightMatrix) -> KernelError {
    let (outputs, inputs) = (weights.outputs(), weights.inputs());
    let lowest = |index: &usize| weights.get(index / inputs, index % inputs) == i8::MIN;
    KernelError::WeightRange { index: (0..outputs * inputs).find(lowest).unwrap_or(0) }
}

/// Inputs packed at a time: a multiple of every group, and so few that sums of their weights fit
/// into 16 bits.
pub(super) const BLOCK: usize = 64;

/// `0..inputs` in blocks.
fn blocks(inputs: usize) -> impl Iterator<Item = Range<usize>> {
    (0..inputs).step_by(BLOCK).map(move |start| start..(start + BLOCK).min(inputs))
}

/// -128, which symmetric weights do not use.
pub(super) const LOWEST: u8 = i8::MIN as u8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a weight belongs: panel, group, column, place in the group.
    fn packed_at(packed: &PackedWeights, output: usize, input: usize) -> i8 {
        let Layout { lanes, k_group, .. } = packed.layout;
        let panel = output / packed.layout.panel_columns();
        let first = panel * packed.layout.panel_columns();
        let width = packed.vectors(panel) * lanes;
        let group = input / k_group * width + (output - first);
        packed.data.as_slice()[first * packed.inputs_padded + group * k_group + input % k_group]
            as i8
    }

    fn check(layout: Layout, weights: &WeightMatrix) {
        let packed = PackedWeights::new(layout, weights).unwrap();
        let columns = weights.outputs().next_multiple_of(layout.lanes);
        for output in 0..columns {
            let mut sum = 0;
            for input in 0..packed.inputs_padded {
                let inside = output < weights.outputs() && input < weights.inputs();
                let expected = if inside { weights.get(output, input) } else { 0 };
                assert_eq!(packed_at(&packed, output, input), expected, "{layout:?} {weights:?}");
                sum += i32::from(expected);
            }
            assert_eq!(packed.sums[output], sum);
        }
    }

    #[test]
    fn every_order_of_storing_packs_the_same_way() {
        let bytes: Vec<u8> = (0..40_000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .map(|b| b.max(129))
            .collect();
        for (lanes, panel_vectors, k_group) in [(16, 4, 4), (8, 2, 4), (4, 2, 8), (4, 4, 16)] {
            let layout = Layout {
                lanes,
                k_group,
                panel_vectors,
                tile_rows: [1; 4],
                offset: 0,
                negative_offset: 0,
            };
            for outputs in [1, 3, 16, 17, 63, 64, 65, 130] {
                for inputs in [1, 2, 4, 7, 63, 64, 65, 130] {
                    for strides in [
                        [inputs, 1],
                        [1, outputs],
                        [1, outputs + 5],
                        [inputs + 3, 1],
                        [2, 2 * outputs],
                    ] {
                        let weights =
                            WeightMatrix::strided(&bytes, [outputs, inputs], strides).unwrap();
                        check(layout, &weights);
                        // 129 to 255 are 1 to 127 with 128 added.
                        check(layout, &weights.offset_by_128());
                    }
                }
            }
        }
    }

    #[test]
    fn the_lowest_weight_is_refused_wherever_it_lies() {
        let layout = Machine::Scalar.layout();
        for (outputs, inputs) in [(5, 70), (33, 9), (1, 1)] {
            for index in 0..outputs * inputs {
                let mut bytes = vec![7; outputs * inputs];
                bytes[index] = 0x80;
                let rows = WeightMatrix::strided(&bytes, [outputs, inputs], [inputs, 1]).unwrap();
                let expected = Some(KernelError::WeightRange { index });
                assert_eq!(PackedWeights::new(layout, &rows).err(), expected);
                let columns =
                    WeightMatrix::strided(&bytes, [inputs, outputs], [1, inputs]).unwrap();
                let index = index % inputs * outputs + index / inputs;
                let expected = Some(KernelError::WeightRange { index });
                assert_eq!(PackedWeights::new(layout, &columns).err(), expected);
            }
        }
    }
}
