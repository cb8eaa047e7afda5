//! The x86-64 machines.

pub(crate) type Avx2 = super::simd::Scalar;
pub(crate) type AvxVnni = super::simd::Scalar;
pub(crate) type Avx512 = super::simd::Scalar;
