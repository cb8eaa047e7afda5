//! Weights packed into panels: the order in which a machine's tiles read them.
//!
//! A panel holds `panel_vectors · lanes` output channels (the last one fewer vectors); in it,
//! group after group of `k_group` inputs, and in a group channel after channel. So one group of
//! one vector is exactly what a dot product instruction takes.

use super::scratch::AlignedBytes;
use super::simd::{Dot, Scalar};
use super::{KernelError, Machine};

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
}

impl PackedWeights {
    /// Packs `weights`, `outputs` rows of `inputs`.
    pub fn new(
        layout: Layout,
        weights: &[i8],
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, KernelError> {
        KernelError::check_dimension("outputs", outputs, MOST_OUTPUTS)?;
        KernelError::check_dimension("inputs", inputs, MOST_INPUTS)?;
        KernelError::check_length("weights", weights.len(), outputs.checked_mul(inputs))?;
        if weights.contains(&i8::MIN) {
            let index = weights.iter().position(|&w| w == i8::MIN).unwrap_or(0);
            return Err(KernelError::WeightRange { index });
        }
        let columns = outputs.next_multiple_of(layout.lanes);
        let inputs_padded = inputs.next_multiple_of(layout.k_group);
        let mut packed = Self {
            layout,
            outputs,
            inputs,
            inputs_padded,
            data: AlignedBytes::zeroed(columns * inputs_padded),
            sums: vec![0; columns],
        };
        for (sum, row) in packed.sums.iter_mut().zip(weights.chunks_exact(inputs)) {
            *sum = row.iter().map(|&w| i32::from(w)).sum();
        }
        for panel in 0..packed.panels() {
            packed.fill_panel(panel, weights);
        }
        Ok(packed)
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

    fn fill_panel(&mut self, panel: usize, weights: &[i8]) {
        let Layout { lanes, k_group, .. } = self.layout;
        let first = panel * self.layout.panel_columns();
        let width = self.vectors(panel) * lanes;
        let filled = width.min(self.outputs - first);
        let step = width * k_group;
        let data = &mut self.data.as_mut_slice()[first * self.inputs_padded..];
        let rows = &weights[first * self.inputs..(first + filled) * self.inputs];
        // A cache line of every row at a time, so that what is written stays in the cache.
        for start in (0..self.inputs).step_by(64) {
            let end = (start + 64).min(self.inputs);
            for (column, row) in rows.chunks_exact(self.inputs).enumerate() {
                let groups = data[start / k_group * step..].chunks_mut(step);
                for (group, inputs) in groups.zip(row[start..end].chunks(k_group)) {
                    let place = &mut group[column * k_group..];
                    for (to, &from) in place.iter_mut().zip(inputs) {
                        *to = from as u8;
                    }
                }
            }
        }
    }
}
