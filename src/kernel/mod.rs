//! Vector kernels: 8-bit matrix products and convolutions, attention, normalisation, index scans.
//!
//! Plain functions on slices; nothing here knows of models or threads. Each takes or holds a
//! [`Machine`], the vector instructions to use, chosen once with [`Machine::active`]. To
//! use several threads, the caller gives each a range of rows, heads or panels and a [`Scratch`].
//!
//! # What is exact
//! Integer results (accumulators, index scans, Hamming distances) are exact and so the same
//! on all machines. Requantised bytes are the same too: all machines do the same
//! single-precision operations in the same order, with fused multiply-adds and ties to even. Floating
//! point results differ between machines only in the order of sums and by the bounds that each
//! function documents.
//!
//! # Safety
//! Public functions are safe: they check every length and that the processor has the machine's
//! instructions, and only then call the unsafe functions behind them. Lengths that
//! disagree are mistakes of the program and panic; weights and parameters, which come from files,
//! are checked when a layer is built and give a [`KernelError`].

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod activation;
mod attention;
mod colour;
mod convolution;
mod depthwise;
mod depthwise_direct;
mod depthwise_float;
mod depthwise_output;
mod depthwise_rows;
mod dot;
mod error;
mod gemm;
mod gemm_output;
mod hamming;
mod linear;
mod machine;
mod matrix;
mod negatives;
mod norm;
mod pack;
mod pack_loops;
mod peak;
mod pool;
mod product;
mod quantise;
mod requantise;
mod resample;
mod scratch;
mod simd;
mod softmax;
#[cfg(test)]
mod tests;
mod weights;
mod window;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activation::{Activation, activate};
pub use attention::{Mask, attention};
pub use colour::{PlaneColours, rgb_of_planes};
pub use convolution::Convolution;
pub use depthwise::Depthwise;
pub use depthwise_float::DepthwiseFloat;
pub use dot::DotQueries;
pub use error::KernelError;
pub use hamming::{TILE_ROWS, hamming_tiles};
pub use linear::Linear;
pub use machine::{FORCE_VARIABLE, Machine, MachineError};
pub use matrix::{Matrix, MatrixMut};
pub use norm::{add_assign, l2_normalise_rows, layer_norm};
pub use pack::{MOST_INPUTS, MOST_OUTPUTS};
pub use peak::peak_multiply_adds;
pub use pool::{MOST_PIXELS_POOLED, global_average, global_average_static};
pub use quantise::{Quantisation, QuantisedRows, quantise_slice, range_with_zero};
pub use requantise::{Requantisation, StaticOutput};
pub use resample::{
    PLANE_ROWS_AT_ONCE, ROWS_AT_ONCE, Taps, WEIGHT_BITS, blend_rows, narrow_plane, narrow_rows,
};
pub use scratch::{AlignedBytes, Arena, Scratch};
pub use softmax::softmax_rows;
pub use weights::WeightMatrix;
pub use window::{Band, Window};
