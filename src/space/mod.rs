//! The representation space itself: arithmetic with its points, and measurements of its shape.
//!
//! Pictures and texts are points of one sphere. [`combine`], [`interpolate`] and [`Direction`]
//! calculate with them; [`geometry`] says how good the space is. Everything is exact and the
//! same on every machine, takes unit rows ([`Points`]) and gives a value or a [`SpaceError`],
//! never NaN.

pub mod align;
mod arithmetic;
mod error;
pub mod examples;
mod fusion;
pub mod geometry;
mod hubs;
mod linear;
mod logistic;
mod neighbours;
pub mod place;
mod points;
mod principal;
#[cfg(feature = "workbench")]
pub mod report;
mod sample;
#[cfg(test)]
mod testing;
mod travel;

pub use arithmetic::{Centres, centred, combine, combine_centred};
pub use error::SpaceError;
pub use fusion::Fusion;
pub(crate) use hubs::{BANK_SCALE, CSLS_NEIGHBOURS};
pub use hubs::{HubCorrection, QueryBank, Similarities, hub_discounts, local_scaling};
pub use logistic::logistic;
pub use neighbours::{Neighbour, nearest};
pub use points::Points;
pub use principal::{Principal, neighbour_recall};
pub use sample::sample;
pub use travel::{Direction, interpolate, interpolate_centred};
