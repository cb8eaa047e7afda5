//! Model packages and the towers inside them.

mod builtin;
mod manifest;
mod package;
mod import;
mod int8;
mod presets;
mod tower;

pub use builtin::{DEFAULT_MODEL, find, list, model_folders};
pub use manifest::{Calibration, ImageTower, Manifest, Padding, Scoring, TextTower};
pub use package::{Package, PackageError};
pub use int8::{Int8Error, Report};
pub use import::{ImportError, ImportOptions, import};
pub use presets::Preset;
pub use tower::{InputShape, Tower, TowerError, TowerOutput, TowerSpec};
