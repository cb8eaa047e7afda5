//! Heat maps and segments drawn over the picture.

use image::{Rgb, RgbImage};

use super::heat::{HeatMap, Region, Spot};

/// How much of a pixel's colour is the map's where the map is at its peak.
const OPACITY: f32 = 0.65;

/// Colours from the background's level to the peak: the picture shows through the first.
const RAMP: [[f32; 3]; 5] = [
    [20.0, 20.0, 90.0],
    [60.0, 60.0, 200.0],
    [30.0, 180.0, 160.0],
    [250.0, 210.0, 40.0],
    [220.0, 30.0, 30.0],
];

/// Colours of segments, one a text, repeated beyond the last; distinct to colour-blind eyes
/// (Okabe and Ito 2008).
const SEGMENTS: [[u8; 3]; 8] = [
    [230, 159, 0],
    [86, 180, 233],
    [0, 158, 115],
    [240, 228, 66],
    [0, 114, 178],
    [213, 94, 0],
    [204, 121, 167],
    [255, 255, 255],
];

/// Draws a heat map over its picture: cold at the background's level and below, hot at the peak,
/// with a frame around `region` and a cross on `peak`. A picture of another size than the map's
/// is taken to be the same picture, scaled.
pub fn draw_heat(picture: &mut RgbImage, map: &HeatMap, region: Region, peak: Spot) {
    let (ground, (_, top)) = (map.background(), map.peak());
    let range = (top - ground).max(f32::MIN_POSITIVE);
    over(picture, map.picture(), |x, y| {
        let heat = ((map.at(x, y) - ground) / range).clamp(0.0, 1.0);
        (ramp(heat), OPACITY * heat.sqrt())
    });
    let scale = scale(picture, map.picture());
    frame(picture, region, scale);
    cross(picture, peak, scale);
}

/// Draws segments (see [`segments`](super::segments)) over the picture of `map`, whose grid they
/// share.
pub fn draw_segments(picture: &mut RgbImage, map: &HeatMap, segments: &[Option<usize>]) {
    let [width, height] = map.picture().map(f64::from);
    let cell = |along: f64, side: f64, count: usize| {
        ((along / side * count as f64) as usize).min(count - 1)
    };
    over(picture, map.picture(), |x, y| {
        let (column, row) = (cell(x, width, map.columns()), cell(y, height, map.rows()));
        match segments.get(row * map.columns() + column).copied().flatten() {
            Some(text) => (segment_colour(text).map(f32::from), OPACITY),
            None => ([0.0; 3], 0.0),
        }
    });
}

/// The colour of the n-th text's segment, red, green and blue.
pub fn segment_colour(text: usize) -> [u8; 3] {
    SEGMENTS[text % SEGMENTS.len()]
}

/// Mixes a colour into every pixel; `colour` is asked at pixel centres of the map's picture.
fn over(picture: &mut RgbImage, size: [u32; 2], colour: impl Fn(f64, f64) -> ([f32; 3], f32)) {
    let [across, down] = scale(picture, size);
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let (wanted, share) = colour((f64::from(x) + 0.5) / across, (f64::from(y) + 0.5) / down);
        for (old, new) in pixel.0.iter_mut().zip(wanted) {
            *old = (f32::from(*old) * (1.0 - share) + new * share).round() as u8;
        }
    }
}

/// Pixels of the drawing for a pixel of the map's picture, across and down.
fn scale(picture: &RgbImage, size: [u32; 2]) -> [f64; 2] {
    [
        f64::from(picture.width()) / f64::from(size[0]),
        f64::from(picture.height()) / f64::from(size[1]),
    ]
}

fn ramp(heat: f32) -> [f32; 3] {
    let place = heat * (RAMP.len() - 1) as f32;
    let low = (place as usize).min(RAMP.len() - 2);
    let share = place - low as f32;
    std::array::from_fn(|c| RAMP[low][c] + (RAMP[low + 1][c] - RAMP[low][c]) * share)
}

/// Line width for a drawing of this size.
fn line(picture: &RgbImage) -> i64 {
    i64::from(picture.width().max(picture.height()) / 300).max(1)
}

fn frame(picture: &mut RgbImage, region: Region, [across, down]: [f64; 2]) {
    let at = |edge: u32, scale: f64| (f64::from(edge) * scale).round() as i64;
    let (left, top) = (at(region.x, across), at(region.y, down));
    let right = at(region.x.saturating_add(region.width), across);
    let bottom = at(region.y.saturating_add(region.height), down);
    let line = line(picture);
    for (x, y, w, h) in [
        (left, top, right - left, line),
        (left, bottom - line, right - left, line),
        (left, top, line, bottom - top),
        (right - line, top, line, bottom - top),
    ] {
        fill(picture, [x, y], [w, h], [255, 255, 255]);
    }
}

fn cross(picture: &mut RgbImage, spot: Spot, [across, down]: [f64; 2]) {
    let line = line(picture);
    let (x, y) = ((f64::from(spot.x) * across) as i64, (f64::from(spot.y) * down) as i64);
    for (colour, arm, thick) in [([0; 3], 6 * line, 3 * line), ([255; 3], 5 * line, line)] {
        fill(picture, [x - arm, y - thick / 2], [2 * arm + 1, thick], colour);
        fill(picture, [x - thick / 2, y - arm], [thick, 2 * arm + 1], colour);
    }
}

/// Fills a rectangle, as far as it lies in the picture.
fn fill(picture: &mut RgbImage, [x, y]: [i64; 2], [w, h]: [i64; 2], colour: [u8; 3]) {
    let (width, height) = (i64::from(picture.width()), i64::from(picture.height()));
    for row in y.max(0)..(y + h).min(height) {
        for column in x.max(0)..(x + w).min(width) {
            picture.put_pixel(column as u32, row as u32, Rgb(colour));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::place::{Tile, TileMap};

    fn map() -> HeatMap {
        let tile = Tile { left: 0, top: 0, width: 40, height: 20 };
        let values = vec![0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        HeatMap::blend([40, 20], &[vec![TileMap { tile, rows: 2, columns: 4, values }]])
    }

    #[test]
    fn the_peak_is_hot_and_the_background_is_left_alone() {
        let map = map();
        let mut picture = RgbImage::from_pixel(40, 20, Rgb([100, 100, 100]));
        let (peak, _) = map.peak();
        draw_heat(&mut picture, &map, map.region(0.5), peak);
        assert_eq!(picture.get_pixel(39, 2), &Rgb([100, 100, 100]));
        assert_eq!(picture.get_pixel(peak.x, peak.y), &Rgb([255, 255, 255]));
    }

    #[test]
    fn drawing_reaches_no_pixel_outside() {
        let map = map();
        for (width, height) in [(1, 1), (3, 90)] {
            let mut picture = RgbImage::new(width, height);
            let region = Region { x: 39, y: 0, width: u32::MAX, height: 20 };
            draw_heat(&mut picture, &map, region, Spot { x: 39, y: 19 });
            draw_segments(&mut picture, &map, &[Some(9); 3]);
        }
    }
}
