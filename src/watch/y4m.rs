//! YUV4MPEG2 streams, 8 bits a sample: what `ffmpeg -f yuv4mpegpipe` and mjpegtools write.

use std::io::{self, BufRead, Read};

use super::WatchError;
use super::colour::Bt601;
use crate::picture::{DecodeLimits, Picture, Pixels};

/// Longest line of a header.
const MAX_LINE: u64 = 1024;

/// How far apart colour samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chroma {
    across: usize,
    down: usize,
    grey: bool,
}

/// A stream of uncompressed frames.
#[derive(Debug)]
pub(super) struct Y4m<R> {
    input: R,
    name: String,
    width: usize,
    height: usize,
    /// Frames a second.
    pub rate: f64,
    chroma: Chroma,
    full_range: bool,
    planes: Vec<u8>,
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
        let (mut width, mut height, mut rate) = (0usize, 0usize, 25.0);
        let mut chroma = Chroma { across: 2, down: 2, grey: false };
        let mut full_range = false;
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
                "X" if value == "COLORRANGE=FULL" => full_range = true,
                _ => {}
            }
        }
        let pixels = (width as u64).saturating_mul(height as u64);
        if pixels == 0 {
            return Err(refuse("its header gives no size"));
        }
        if pixels > limits.max_pixels || width.max(height) > limits.max_side as usize {
            return Err(refuse("its frames are larger than --max-megapixels allows"));
        }
        let name = name.to_owned();
        Ok(Self { input, name, width, height, rate, chroma, full_range, planes: Vec::new() })
    }

    /// The next frame; `None` at the end. A last frame that is cut short is an error.
    pub fn next_picture(&mut self) -> Result<Option<Picture>, WatchError> {
        let mut line = Vec::new();
        read_line(&mut self.input, &mut line).map_err(|reason| unreadable(&self.name, reason))?;
        if line.is_empty() {
            return Ok(None);
        }
        if !line.starts_with(b"FRAME") {
            let rule = "a frame does not begin with FRAME";
            return Err(WatchError::Y4m { source_name: self.name.clone(), rule });
        }
        let colour = self.chroma_size().0 * self.chroma_size().1;
        let total = self.width * self.height + if self.chroma.grey { 0 } else { 2 * colour };
        self.planes.resize(total, 0);
        if let Err(reason) = self.input.read_exact(&mut self.planes) {
            if reason.kind() == io::ErrorKind::UnexpectedEof {
                let rule = "its last frame is cut short";
                return Err(WatchError::Y4m { source_name: self.name.clone(), rule });
            }
            return Err(unreadable(&self.name, reason));
        }
        let picture = Picture::new(self.width as u32, self.height as u32, Pixels::Rgb(self.rgb()));
        Ok(Some(picture.expect("three bytes a pixel were made")))
    }

    fn chroma_size(&self) -> (usize, usize) {
        (self.width.div_ceil(self.chroma.across), self.height.div_ceil(self.chroma.down))
    }

    /// The frame in RGB; colour samples are repeated.
    fn rgb(&self) -> Vec<u8> {
        let convert = Bt601::new(self.full_range);
        let (luma, colour) = self.planes.split_at(self.width * self.height);
        let (across, down) = self.chroma_size();
        let mut rgb = Vec::with_capacity(luma.len() * 3);
        for (row, line) in luma.chunks_exact(self.width).enumerate() {
            let start = row / self.chroma.down * across;
            let (us, vs) = if self.chroma.grey {
                (&[][..], &[][..])
            } else {
                (&colour[start..start + across], &colour[across * down + start..][..across])
            };
            for (column, &y) in line.iter().enumerate() {
                let at = column / self.chroma.across;
                let of = |samples: &[u8]| samples.get(at).copied().unwrap_or(128);
                rgb.extend(convert.rgb(y, of(us), of(vs)));
            }
        }
        rgb
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
        let picture = stream.next_picture().unwrap().unwrap();
        let [red, green, blue] = picture.pixels().bytes()[..3] else { unreachable!() };
        assert!(red >= 253 && green <= 2 && blue <= 2, "{red} {green} {blue}");
        assert!(stream.next_picture().unwrap().is_none());
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
        assert!(stream.next_picture().unwrap().is_some());
        assert!(matches!(stream.next_picture(), Err(WatchError::Y4m { .. })));
    }
}
