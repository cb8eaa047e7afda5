//! The pixels of a frame, on their way to the encoder and for those who want to see them.

use std::borrow::Cow;

use crate::picture::{DecodeLimits, Picture, Planes, decode_bytes, decode_planes};

/// A frame's pixels as they came: most cameras give luma and colour apart.
#[derive(Debug)]
pub(super) enum Image {
    Rgb(Picture),
    Planes(Planes),
}

impl Image {
    /// Decodes a JPEG picture of a stream to planes, where it has such.
    pub fn of_jpeg(bytes: &[u8], name: &str, limits: &DecodeLimits) -> Result<Self, String> {
        match decode_planes(bytes, name, limits) {
            Ok(Some(planes)) => Ok(Self::Planes(planes)),
            Ok(None) => Self::of_file(bytes, name, limits),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Decodes a picture file, exactly.
    pub fn of_file(bytes: &[u8], name: &str, limits: &DecodeLimits) -> Result<Self, String> {
        decode_bytes(bytes, name, limits).map(Self::Rgb).map_err(|error| error.to_string())
    }

    /// The same in RGB.
    pub fn rgb(&self) -> Cow<'_, Picture> {
        match self {
            Self::Rgb(picture) => Cow::Borrowed(picture),
            Self::Planes(planes) => Cow::Owned(planes.picture()),
        }
    }
}

/// The picture of a frame, kept as it came and decoded when somebody wants to see it.
#[derive(Debug)]
pub struct FramePicture(Kept);

#[derive(Debug)]
enum Kept {
    Image(Image),
    Jpeg(Vec<u8>, DecodeLimits),
}

impl FramePicture {
    /// Keeps pixels.
    pub(super) fn of_image(image: Image) -> Self {
        Self(Kept::Image(image))
    }

    /// Keeps a JPEG picture that could be decoded.
    pub(super) fn of_jpeg(bytes: Vec<u8>, limits: &DecodeLimits) -> Self {
        Self(Kept::Jpeg(bytes, limits.clone()))
    }

    /// The picture in RGB; `None` where it cannot be decoded after all.
    pub fn picture(&self) -> Option<Cow<'_, Picture>> {
        match &self.0 {
            Kept::Image(image) => Some(image.rgb()),
            Kept::Jpeg(bytes, limits) => decode_bytes(bytes, "frame", limits).ok().map(Cow::Owned),
        }
    }
}
