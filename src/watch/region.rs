//! Parts of the picture that are watched on their own.

use std::str::FromStr;

use super::WatchError;
use crate::picture::{Picture, Pixels};

/// A named rectangle: `x,y,w,h` or `name=x,y,w,h`.
///
/// Numbers up to 1 with a decimal point are shares of the picture, others are pixels. A region is
/// cut to the picture, so that a stream that changes its size goes on.
///
/// ```
/// use sextant::watch::Region;
/// let region: Region = "gate=0.5,0.0,0.5,1.0".parse().unwrap();
/// assert_eq!(region.name(), "gate");
/// assert_eq!(region.place(640, 480), [320, 0, 320, 480]);
/// assert!("1,2,3".parse::<Region>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    name: String,
    place: [f64; 4],
    shares: bool,
}

impl FromStr for Region {
    type Err = WatchError;

    fn from_str(text: &str) -> Result<Self, WatchError> {
        let refuse = |rule| WatchError::Region { text: text.chars().take(80).collect(), rule };
        let (name, numbers) = text.split_once('=').unwrap_or((text, text));
        if name.is_empty() || name.len() > 80 {
            return Err(refuse("the name before `=` has 1 to 80 bytes"));
        }
        let parts: Vec<&str> = numbers.split(',').map(str::trim).collect();
        let parsed: Option<Vec<f64>> = parts.iter().map(|part| part.parse().ok()).collect();
        let place: [f64; 4] = parsed
            .and_then(|numbers| numbers.try_into().ok())
            .ok_or_else(|| refuse("a region is four numbers: x,y,w,h"))?;
        if place.iter().any(|n| !n.is_finite() || *n < 0.0) || place[2] == 0.0 || place[3] == 0.0 {
            return Err(refuse("no number is negative, and width and height are not zero"));
        }
        let decimal = parts.iter().any(|part| part.contains('.'));
        let shares = decimal && place.iter().all(|&n| n <= 1.0);
        Ok(Self { name: name.to_owned(), place, shares })
    }
}

impl Region {
    /// What it is called; without a name of its own, as it was written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `[x, y, width, height]` in pixels of a picture, at least one pixel and within it.
    pub fn place(&self, width: u32, height: u32) -> [u32; 4] {
        let scale = |side: u32| if self.shares { f64::from(side) } else { 1.0 };
        let cut = |start: f64, length: f64, side: u32| {
            let first = ((start * scale(side)).round() as u32).min(side - 1);
            let length = ((length * scale(side)).round() as u32).clamp(1, side - first);
            (first, length)
        };
        let (x, w) = cut(self.place[0], self.place[2], width);
        let (y, h) = cut(self.place[1], self.place[3], height);
        [x, y, w, h]
    }

    /// The part of the picture within the region.
    pub fn cut(&self, picture: &Picture) -> Picture {
        let [x, y, w, h] = self.place(picture.width(), picture.height()).map(|n| n as usize);
        let channels = picture.pixels().channels();
        let rows = picture.pixels().bytes().chunks_exact(picture.width() as usize * channels);
        let mut bytes = Vec::with_capacity(w * h * channels);
        for row in rows.skip(y).take(h) {
            bytes.extend_from_slice(&row[x * channels..(x + w) * channels]);
        }
        let pixels = match picture.pixels() {
            Pixels::Rgb(_) => Pixels::Rgb(bytes),
            Pixels::Rgba(_) => Pixels::Rgba(bytes),
        };
        Picture::new(w as u32, h as u32, pixels).expect("the rectangle lies within the picture")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_stay_within_any_picture() {
        let region: Region = "100,100,5000,5000".parse().unwrap();
        assert_eq!(region.place(640, 480), [100, 100, 540, 380]);
        assert_eq!(region.place(1, 1), [0, 0, 1, 1]);
        let picture = Picture::new(3, 2, Pixels::Rgb((0..18).collect())).unwrap();
        let part = "1,1,2,1".parse::<Region>().unwrap().cut(&picture);
        assert_eq!(part.pixels().bytes(), [12, 13, 14, 15, 16, 17]);
    }

    #[test]
    fn bad_regions_name_their_rule() {
        for bad in ["", "a,b,c,d", "1,2,0,4", "-1,0,2,2", "=1,2,3,4", "1,2,3,4,5", "nan,0,1,1"] {
            assert!(matches!(bad.parse::<Region>(), Err(WatchError::Region { .. })), "{bad}");
        }
    }
}
