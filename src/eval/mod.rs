//! Measuring a model offline: zero-shot classification and caption retrieval.

mod calibration;
mod classify;
mod compose;
mod places;
mod retrieve;
mod table;
mod watch;

pub use calibration::expected_calibration_error;
pub use classify::{ClassifyReport, ClassifyTally};
pub use compose::{ComposeReport, ComposeTally, ComposedQuery, read_composed};
pub use places::{PlaceReport, PlaceTally, Thing, read_instances};
pub use retrieve::{RetrieveReport, retrieve, retrieve_corrected};
pub use table::{EvalError, read_captions, read_pairs, read_truth};
pub use watch::{LabelReport, Visit, WatchReport, compare_visits, read_visits};
