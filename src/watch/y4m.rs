//! YUV4MPEG2 streams, 8 bits a sample: what `ffmpeg -f yuv4mpegpipe` and mjpegtools write.

use std::io::{self, BufRead, Read};

use super::WatchError;
use super::picture::Image;
use crate::kernel::PlaneColours;
use crate::picture::{DecodeLimits, Plane, Planes};

/// Longest line of a header.
const MAX_LINE: u64 = 1024;

/// How far apart colour samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chroma {
    across: u32,
    down: u32,
    grey: bool,
}

/// A stream of uncompressed frames.
#[derive(Debug)]
pub(super) struct Y4m<R> {
    input: R,
    name: String,
    size: [u32; 2],
    /// Frames a second.
    pub rate: f64,
    chroma: Chroma,
    colours: PlaneColours,
}

impl<R: BufRead> Y4m<R> {
    /// Reads the header.
    pub fn new(mut input: R, name: &str, limits: &DecodeLimits) -> Result<Self, WatchError> {
        let refuse = |rule| WatchError::Y4m { source_name: name.to_owned(), rule };
        let mut line = Vec::new();
        read_line(&mut input, &mut line).map_err(|reason| unreadable(name, reason))?;
        let line = std::str::from_utf8(&line).map_err(|_| refuse("its header is not text"))?;
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("YUV4MPEG2") {
            return Err(refuse("it does not begin with YUV4MPEG2"));
        }
        let (mut width, mut height, mut rate) = (0u32, 0u32, 25.0);
        let mut chroma = Chroma { across: 2, down: 2, grey: false };
        let mut colours = PlaneColours::Television;
        for word in words {
            let (key, value) = word.split_at_checked(1).unwrap_or((word, ""));
            match key {
                "W" => width = value.parse().unwrap_or(0),
                "H" => height = value.parse().unwrap_or(0),
                "F" => rate = parse_rate(value).unwrap_or(25.0),
                "C" => {
                    let samples = "its samples are not 8-bit 4:2:0, 4:2:2, 4:4:4 or grey";
                    chroma = parse_chroma(value).ok_or_else(|| refuse(samples))?;
                }
                "X" if value == "COLORRANGE=FULL" => colours = PlaneColours::Full,
                _ => {}
            }
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 {
            return Err(refuse("its header gives no size"));
        }
        if pixels > limits.max_pixels || width.max(height) > limits.max_side {
            return Err(refuse("its frames are larger than --max-megapixels allows"));
        }
        let name = name.to_owned();
        Ok(Self { input, name, size: [width, height], rate, chroma, colours })
    }

    /// The next frame; `None` at the end. A last frame that is cut short is an error.
    pub fn next_image(&mut self) -> Result<Option<Image>, WatchError> {
        let mut line = Vec::new();
        read_line(&mut self.input, &mut line).map_err(|reason| unreadable(&self.name, reason))?;
        if line.is_empty() {
            return Ok(None);
        }
        if !line.starts_with(b"FRAME") {
            let rule = "a frame does not begin with FRAME";
            return Err(WatchError::Y4m { source_name: self.name.clone(), rule });
        }
        let Chroma { across, down, grey } = self.chroma;
        let coarse = [self.size[0].div_ceil(across), self.size[1].div_ceil(down)];
        let luma = self.read_plane(self.size)?;
        let colour =
            if grey { None } else { Some([self.read_plane(coarse)?, self.read_plane(coarse)?]) };
        let planes = Planes::new(self.size, luma, colour, [across, down], self.colours);
        Ok(Some(Image::Planes(planes.expect("planes of the sizes that were read"))))
    }

    fn read_plane(&mut self, [width, height]: [u32; 2]) -> Result<Plane, WatchError> {
        let stride = width as usize;
        // A frame has no more pixels than the limits allow.
        let mut samples = vec![0; stride * height as usize];
        match self.input.read_exact(&mut samples) {
            Ok(()) => Ok(Plane { samples, stride }),
            Err(reason) if reason.kind() == io::ErrorKind::UnexpectedEof => {
                let rule = "its last frame is cut short";
                Err(WatchError::Y4m { source_name: self.name.clone(), rule })
            }
            Err(reason) => Err(unreadable(&self.name, reason)),
        }
    }
}

fn unreadable(name: &str, reason: io::Error) -> WatchError {
    WatchError::Source { source_name: name.to_owned(), reason }
}

fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<()> {
    input.take(MAX_LINE).read_until(b'\n', line).map(drop)
}

fn parse_rate(text: &str) -> Option<f64> {
    let (frames, seconds) = text.split_once(':')?;
    let rate = frames.parse::<f64>().ok()? / seconds.parse::<f64>().ok()?;
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

fn parse_chroma(text: &str) -> Option<Chroma> {
    let (across, down, grey) = match text {
        "420" | "420jpeg" | "420mpeg2" | "420paldv" => (2, 2, false),
        "422" => (2, 1, false),
        "444" => (1, 1, false),
        "mono" => (1, 1, true),
        _ => return None,
    };
    Some(Chroma { across, down, grey })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(bytes: &[u8]) -> Result<Y4m<&[u8]>, WatchError> {
        Y4m::new(bytes, "test", &DecodeLimits::default())
    }

    #[test]
    fn colours_are_those_of_bt_601() {
        // Red, as ffmpeg's own conversion of (255, 0, 0) gives it.
        let mut bytes = b"YUV4MPEG2 W2 H2 F25:2 Ip C420jpeg\nFRAME\n".to_vec();
        bytes.extend([81, 81, 81, 81, 90, 240]);
        let mut stream = open(&bytes).unwrap();
        assert_eq!(stream.rate, 12.5);
        let image = stream.next_image().unwrap().unwrap();
        let picture = image.rgb();
        let [red, green, blue] = picture.pixels().bytes()[..3] else { unreachable!() };
        assert!(red >= 253 && green <= 2 && blue <= 2, "{red} {green} {blue}");
        assert!(stream.next_image().unwrap().is_none());
    }

    #[test]
    fn bad_headers_and_cut_frames_name_their_rule() {
        for bad in [
            "",
            "RIFF",
            "YUV4MPEG2 W2\n",
            "YUV4MPEG2 W99999999 H99999999\n",
            "YUV4MPEG2 W2 H2 C420p10\n",
        ] {
            assert!(matches!(open(bad.as_bytes()), Err(WatchError::Y4m { .. })), "{bad:?}");
        }
        let mut stream = open(b"YUV4MPEG2 W3 H3 Cmono\nFRAME\nabcdefghiFRAME\nabc").unwrap();
        assert!(stream.next_image().unwrap().is_some());
        assert!(matches!(stream.next_image(), Err(WatchError::Y4m { .. })));
    }
}
