//! From the bytes of a picture file to the numbers an image tower takes.
//!
//! Two steps, each an exact counterpart of what the training side did with Pillow:
//! [`decode_file`] turns bytes into a [`Picture`] (upright, 8 bits, RGB or RGBA), and
//! [`Preprocess`], declared by the model package, turns a picture into a [`PixelGrid`] and that
//! into the tower's input.

mod decode;
mod frame;
mod planes;
mod preprocess;

pub(crate) use decode::decode_planes;
pub use decode::{DecodeError, DecodeLimits, decode_bytes, decode_file};
pub use frame::{Picture, PictureError, Pixels};
pub(crate) use planes::{Plane, Planes};
pub(crate) use preprocess::PlaneBuffers;
pub use preprocess::{
    Interpolation, PixelGrid, Preprocess, PreprocessError, PreprocessSpec, ResizeBuffers,
    ResizeMode,
};
