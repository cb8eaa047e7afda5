//! Measurements of a set of points, or of two sets that should lie together.
//!
//! All of them are exact over the rows they are given and never NaN: a set without the answer
//! (one row, all rows equal) is a defined value or a [`SpaceError`](super::SpaceError). Sample
//! rows with [`sample`](super::sample) first when there are many; most take time that grows with
//! the square of the rows.

mod confusion;
mod gap;
mod hubs;
mod intrinsic;
mod rank;
mod similarity;
mod spread;

pub use confusion::{Confusion, confusions};
pub use gap::{Gap, modality_gap};
pub use hubs::{Hubness, hubness, hubness_within};
pub use intrinsic::{TwoNearest, maximum_likelihood_dimension, two_nearest_dimension};
pub use rank::{EffectiveRank, effective_rank};
pub use similarity::{Histogram, area_under_curve, paired_similarities, random_similarities};
pub use spread::{Concentration, alignment, concentration, uniformity};
