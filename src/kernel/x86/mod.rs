//! The x86-64 machines.
//!
//! Each method is one or a few instructions of the features that the machine is chosen for, and
//! accesses exactly what the trait says its pointers are good for; that, argued once here, is all there
//! is to say for the safety of the intrinsics, so they stand without blocks of their own.
#![allow(unsafe_op_in_unsafe_fn)]

mod avx2;
mod avx2_tile;
mod avx512;

pub(crate) use avx2::{Avx2, AvxVnni};
pub(crate) use avx512::Avx512;
