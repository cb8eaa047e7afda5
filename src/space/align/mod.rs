//! Fitting a space to pairs of pictures and captions, on a CPU, in a minute.
//!
//! The towers stay as they are; a linear map behind each of them is learned with the symmetric
//! contrastive loss, stopped early on held-out pairs and judged on others.

mod fit;
mod loss;
mod pairs;
mod recall;

pub use fit::{AlignOptions, AlignReport, Alignment, fit};
pub use pairs::Pairs;
pub use recall::{Recall, image_recall};
