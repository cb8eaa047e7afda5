//! Animated GIF.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use image::codecs::gif::GifDecoder;
use image::{AnimationDecoder, ImageDecoder, Limits};

use super::WatchError;
use super::picture::Image;
use super::source::{Payload, Sink, SourceOptions};
use crate::picture::{Picture, Pixels};

/// What viewers make of a frame that says it is shown for no time, in seconds.
const NO_DELAY: f64 = 0.1;

/// Reads all frames; each is shown from where the ones before it end.
pub(super) fn read(
    path: &Path,
    options: &SourceOptions,
    sink: &mut Sink,
) -> Result<(), WatchError> {
    let name = sink.name.clone();
    let damaged = |reason: String| WatchError::Gif { source_name: name.clone(), reason };
    let file = File::open(path)
        .map_err(|reason| WatchError::Source { source_name: name.clone(), reason })?;
    let mut decoder = GifDecoder::new(BufReader::new(file)).map_err(|e| damaged(e.to_string()))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > options.limits.max_pixels {
        return Err(damaged(format!(
            "its frames of {width}×{height} pixels are larger than --max-megapixels allows"
        )));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(options.limits.max_pixels.saturating_mul(16));
    decoder.set_limits(limits).map_err(|e| damaged(e.to_string()))?;
    let mut position = 0.0;
    for (number, frame) in decoder.into_frames().enumerate() {
        let frame = frame.map_err(|e| damaged(e.to_string()))?;
        let (numerator, denominator) = frame.delay().numer_denom_ms();
        let delay = f64::from(numerator) / f64::from(denominator.max(1)) / 1000.0;
        let samples = frame.into_buffer().into_raw();
        let picture = Picture::new(width, height, Pixels::Rgba(samples))
            .map_err(|e| damaged(e.to_string()))?;
        let time = options.input_rate.map_or(position, |rate| number as f64 / rate);
        if !sink.put(Payload::Image(Image::Rgb(picture)), time) {
            break;
        }
        position += if delay > 0.0 { delay } else { NO_DELAY };
    }
    Ok(())
}
