//! All integration tests in one binary: linking tract's dependents once is slow enough.

mod command;
mod first_light;
mod index;
mod preprocess;
