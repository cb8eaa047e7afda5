//! Model packages and the towers inside them.

mod builtin;
mod derive;
mod import;
mod int8;
mod layers;
mod manifest;
mod package;
mod presets;
mod quantise;
mod quantised_package;
mod tower;

pub use builtin::{DEFAULT_MODEL, find, list, model_folders};
pub use derive::{Derived, derive};
pub use import::{ImportError, ImportOptions, PixelOverrides, import};
pub use int8::{Int8Error, Report};
pub use layers::{InnerLayer, LayerShape};
pub(crate) use layers::{inner_layers, with_inner_output};
pub use manifest::{Calibration, ImageTower, Manifest, Padding, Scoring, TextTower};
pub use package::{Package, PackageError};
pub use presets::{Preset, TextDefaults};
pub use quantise::{
    LayerReport, Progress as QuantiseProgress, QuantiseError, QuantiseReport, Stored,
};
pub use quantised_package::{
    QuantisePackageError, QuantisePackageOptions, QuantisedPackage, quantise_package,
};
pub use tower::{InputShape, Tower, TowerError, TowerOutput, TowerSpec};
