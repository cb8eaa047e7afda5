//! Where in a picture a text is: heat maps from the image tower's places.

mod blur;
mod finder;
mod focus;
mod heat;
mod locate;
mod overlay;
mod tiles;

pub use blur::blur_outside;
pub use finder::Finder;
pub use focus::focus;
pub use heat::{HeatMap, Region, Spot, TileMap, segments};
pub use locate::{COARSE_SCALES, FOCUS_SCALES, PlaceFeatures, SCALES};
pub use overlay::{draw_heat, draw_segments, segment_colour};
pub use tiles::{Tile, tiles};
