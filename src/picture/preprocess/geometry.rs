//! Which part of the resized picture the tower sees.
//!
//! The arithmetic is that of torchvision's `Resize` and `CenterCrop` and of open_clip's
//! `ResizeKeepRatio` and `CenterCropOrPad`, to the rounding: a window one pixel off moves every
//! pixel. Each axis is independent once the resized size is known.

use super::spec::ResizeMode;

/// One axis: the source is resized to `resized` pixels, of which `start..start + length` are
/// wanted; they go to `offset` of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) source: u32,
    pub(super) resized: u64,
    pub(super) start: u64,
    pub(super) length: u32,
    pub(super) offset: u32,
}

impl Window {
    /// The middle `output` pixels of an axis; a shorter axis is centred in the output, the odd
    /// pixel of padding going to the end.
    fn centre(source: u32, resized: u64, output: u32) -> Self {
        let wanted = u64::from(output);
        if resized < wanted {
            let length = resized as u32;
            return Self { source, resized, start: 0, length, offset: (output - length) / 2 };
        }
        // torchvision: int(round((size - crop) / 2.0)).
        let start = round_half_even((resized - wanted) as f64 / 2.0);
        Self { source, resized, start, length: output, offset: 0 }
    }

    /// By how many pixels the whole axis shrinks; negative where it grows.
    pub(super) fn shrinkage(&self) -> i64 {
        // A resized side is at most 4096 times 2³², which fits.
        i64::from(self.source) - self.resized as i64
    }
}

/// The windows of both axes (horizontal, vertical) for a picture of `size` (width, height).
pub(super) fn windows(
    mode: ResizeMode,
    size: [u32; 2],
    target: [u32; 2],
    output: [u32; 2],
) -> [Window; 2] {
    let resized = match mode {
        ResizeMode::Squash => target.map(u64::from),
        ResizeMode::Shortest if target[0] == target[1] => fit_shortest(size, target[0]),
        ResizeMode::Shortest => keep_ratio(size, target, f64::min),
        ResizeMode::Longest => keep_ratio(size, target, f64::max),
    };
    [0, 1].map(|axis| Window::centre(size[axis], resized[axis], output[axis]))
}

/// torchvision's `Resize(side)`: the long side is `int(side * long / short)`.
fn fit_shortest([width, height]: [u32; 2], side: u32) -> [u64; 2] {
    let (short, long) = (width.min(height), width.max(height));
    let product = u64::from(side) * u64::from(long);
    let long = (product as f64 / f64::from(short)) as u64;
    if width <= height { [side.into(), long] } else { [long, side.into()] }
}

/// open_clip's and timm's `ResizeKeepRatio`: both sides divided by one ratio and rounded. A side
/// that would vanish keeps one pixel (Pillow refuses there).
fn keep_ratio(size: [u32; 2], target: [u32; 2], choose: fn(f64, f64) -> f64) -> [u64; 2] {
    let ratios = [0, 1].map(|axis| f64::from(size[axis]) / f64::from(target[axis]));
    let ratio = choose(ratios[0], ratios[1]);
    size.map(|side| round_half_even(f64::from(side) / ratio).max(1))
}

/// Python's `round`: halves go to the even neighbour.
fn round_half_even(value: f64) -> u64 {
    value.round_ties_even() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(mode: ResizeMode, size: [u32; 2], target: [u32; 2]) -> [(u64, u64, u32, u32); 2] {
        windows(mode, size, target, target).map(|w| (w.resized, w.start, w.length, w.offset))
    }

    #[test]
    fn shortest_cuts_the_long_side() {
        // int(224 * 641 / 480) = 299; (299 - 224) / 2 = 37.5, to the even 38.
        let expected = [(299, 38, 224, 0), (224, 0, 224, 0)];
        assert_eq!(axes(ResizeMode::Shortest, [641, 480], [224, 224]), expected);
        // 1,119,776 / 2 is whole.
        let expected = [(224, 0, 224, 0), (1_120_000, 559_888, 224, 0)];
        assert_eq!(axes(ResizeMode::Shortest, [1, 5000], [224, 224]), expected);
        // 36.5 goes to the even 36.
        assert_eq!(axes(ResizeMode::Shortest, [297, 224], [224, 224])[0], (297, 36, 224, 0));
    }

    #[test]
    fn longest_pads_the_short_side_with_the_odd_pixel_at_the_end() {
        let expected = [(224, 0, 224, 0), (167, 0, 167, 28)];
        assert_eq!(axes(ResizeMode::Longest, [640, 478], [224, 224]), expected);
        assert_eq!(axes(ResizeMode::Longest, [5000, 1], [224, 224])[1], (1, 0, 1, 111));
    }

    #[test]
    fn oblong_targets_keep_the_ratio_of_the_picture() {
        let expected = [(320, 32, 256, 0), (192, 0, 192, 0)];
        assert_eq!(axes(ResizeMode::Shortest, [100, 60], [256, 192]), expected);
        let expected = [(256, 0, 256, 0), (192, 0, 192, 0)];
        assert_eq!(axes(ResizeMode::Squash, [100, 60], [256, 192]), expected);
    }
}
