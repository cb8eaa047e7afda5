//! The kernels and their tests, without the rest of the crate: see `tests/scripts/sanitise`.

#[path = "../../src/kernel/mod.rs"]
pub mod kernel;
