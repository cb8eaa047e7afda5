//! Where a text is in a picture, as a map of numbers.

use super::tiles::Tile;

/// Cells along the longer side of a map.
const LONG_SIDE: usize = 64;

/// How far a tile's border counts, as a part of its size: places at the rim see less around them.
const RIM: f64 = 0.1;

/// Standard deviation of the smoothing of a map, in cells: places next to each other see nearly the
/// same, so what differs between them is mostly noise. Chosen, with hardly a difference between 0.7
/// and 2, on things framed by hand in photos and in collages of four.
const SMOOTHING: f64 = 1.2;

/// A number for each part of a picture, larger where the text fits better.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    picture: [u32; 2],
    columns: usize,
    rows: usize,
    values: Vec<f32>,
}

/// A point of a picture, in pixels from its left and top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Spot {
    /// Pixels from the left.
    pub x: u32,
    /// Pixels from the top.
    pub y: u32,
}

/// A rectangle of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Region {
    /// Pixels from the left.
    pub x: u32,
    /// Pixels from the top.
    pub y: u32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// Numbers of one tile on its own grid, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct TileMap {
    /// Where the tile lies.
    pub tile: Tile,
    /// Rows of the grid, at least 1.
    pub rows: usize,
    /// Columns of the grid, at least 1.
    pub columns: usize,
    /// `rows * columns` numbers.
    pub values: Vec<f32>,
}

impl HeatMap {
    /// Lays tile maps over a picture of `size` (width, height, at least 1 each). Each of the
    /// `layers` (tiles of one scale, together covering the picture) is blended where its tiles
    /// overlap, the middle of a tile counting more than its rim, the layers are averaged, and their
    /// mean is smoothed a little.
    pub fn blend(size: [u32; 2], layers: &[Vec<TileMap>]) -> Self {
        let [width, height] = size.map(f64::from);
        let cells = |side: f64| {
            ((side / width.max(height) * LONG_SIDE as f64).round() as usize).clamp(1, LONG_SIDE)
        };
        let mut map =
            Self { picture: size, columns: cells(width), rows: cells(height), values: Vec::new() };
        map.values = vec![0.0; map.columns * map.rows];
        for layer in layers {
            for row in 0..map.rows {
                for column in 0..map.columns {
                    let value = blended(layer, map.centre(column, row));
                    map.values[row * map.columns + column] += value / layers.len() as f32;
                }
            }
        }
        map.values = smoothed(&map.values, [map.columns, map.rows], SMOOTHING);
        map
    }

    /// Columns of the map.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Rows of the map.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The numbers, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Width and height of the picture.
    pub fn picture(&self) -> [u32; 2] {
        self.picture
    }

    /// Middle of a cell, in pixels.
    fn centre(&self, column: usize, row: usize) -> [f64; 2] {
        let along = |place: usize, cells: usize, side: u32| {
            (place as f64 + 0.5) / cells as f64 * f64::from(side)
        };
        [along(column, self.columns, self.picture[0]), along(row, self.rows, self.picture[1])]
    }

    /// The map's value at a pixel, interpolated between cells.
    pub fn at(&self, x: f64, y: f64) -> f32 {
        let u = x / f64::from(self.picture[0]) * self.columns as f64 - 0.5;
        let v = y / f64::from(self.picture[1]) * self.rows as f64 - 0.5;
        interpolated(&self.values, [self.columns, self.rows], u, v)
    }

    /// Place and value of the maximum, the first in reading order.
    pub fn peak(&self) -> (Spot, f32) {
        let (cell, value) = self.highest();
        let [x, y] = self.centre(cell % self.columns, cell / self.columns);
        (Spot { x: x as u32, y: y as u32 }, value)
    }

    fn highest(&self) -> (usize, f32) {
        let mut best = (0, f32::NEG_INFINITY);
        for (cell, &value) in self.values.iter().enumerate() {
            if value > best.1 {
                best = (cell, value);
            }
        }
        best
    }

    /// The median of the map: the level of what surrounds the thing.
    pub fn background(&self) -> f32 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f32::total_cmp);
        sorted[sorted.len() / 2]
    }

    /// The cells around the peak that reach `share` of the way from the background to it, and
    /// hang together with it (by edges).
    pub fn component(&self, share: f32) -> Vec<bool> {
        let (peak, top) = self.highest();
        let ground = self.background();
        let level = ground + share * (top - ground);
        let mut inside = vec![false; self.values.len()];
        let mut open = vec![peak];
        inside[peak] = true;
        while let Some(cell) = open.pop() {
            for next in self.beside(cell) {
                if !inside[next] && self.values[next] >= level {
                    inside[next] = true;
                    open.push(next);
                }
            }
        }
        inside
    }

    fn beside(&self, cell: usize) -> impl Iterator<Item = usize> {
        let (column, row) = (cell % self.columns, cell / self.columns);
        let left = (column > 0).then(|| cell - 1);
        let right = (column + 1 < self.columns).then_some(cell + 1);
        let above = (row > 0).then(|| cell - self.columns);
        let below = (row + 1 < self.rows).then_some(cell + self.columns);
        [left, right, above, below].into_iter().flatten()
    }

    /// The smallest rectangle of the picture around [`HeatMap::component`].
    pub fn region(&self, share: f32) -> Region {
        let inside = self.component(share);
        let cells = || (0..inside.len()).filter(|&cell| inside[cell]);
        let bounds = |place: &dyn Fn(usize) -> usize, count: usize, side: u32| {
            let low = cells().map(place).min().unwrap_or(0);
            let high = cells().map(place).max().unwrap_or(0) + 1;
            let pixel = |edge: usize| (edge as u64 * u64::from(side) / count as u64) as u32;
            let start = pixel(low).min(side - 1);
            (start, pixel(high).clamp(start + 1, side) - start)
        };
        let (x, width) = bounds(&|cell| cell % self.columns, self.columns, self.picture[0]);
        let (y, height) = bounds(&|cell| cell / self.columns, self.rows, self.picture[1]);
        Region { x, y, width, height }
    }
}

/// For each cell, the map with the largest value there, or `None` where no map rises above
/// `share` of the way from its background to its own peak: a coarse segmentation. The maps must
/// be of one picture.
pub fn segments(maps: &[HeatMap], share: f32) -> Vec<Option<usize>> {
    let levels: Vec<f32> = maps
        .iter()
        .map(|map| {
            let (ground, top) = (map.background(), map.highest().1);
            ground + share * (top - ground)
        })
        .collect();
    let cells = maps.first().map_or(0, |map| map.values.len());
    (0..cells)
        .map(|cell| {
            let standing = (0..maps.len()).filter(|&m| maps[m].values[cell] >= levels[m]);
            standing.max_by(|&a, &b| {
                maps[a].values[cell].total_cmp(&maps[b].values[cell]).then(b.cmp(&a))
            })
        })
        .collect()
}

/// The blend of a layer's tiles at a pixel.
fn blended(layer: &[TileMap], [x, y]: [f64; 2]) -> f32 {
    let (mut sum, mut weights) = (0f64, 0f64);
    for map in layer {
        let u = (x - f64::from(map.tile.left)) / f64::from(map.tile.width);
        let v = (y - f64::from(map.tile.top)) / f64::from(map.tile.height);
        if !(0.0..=1.0).contains(&u) || !(0.0..=1.0).contains(&v) {
            continue;
        }
        let weight = (u.min(1.0 - u) + RIM) * (v.min(1.0 - v) + RIM);
        let grid = [map.columns, map.rows];
        let (u, v) = (u * map.columns as f64 - 0.5, v * map.rows as f64 - 0.5);
        sum += weight * f64::from(interpolated(&map.values, grid, u, v));
        weights += weight;
    }
    if weights > 0.0 { (sum / weights) as f32 } else { 0.0 }
}

/// The values under a Gaussian of a standard deviation of `sigma` cells (above 0), cut off beyond
/// four of them; what lies over the border is as the border.
fn smoothed(values: &[f32], [columns, rows]: [usize; 2], sigma: f64) -> Vec<f32> {
    let reach = (4.0 * sigma).round() as isize;
    let weight = |offset: isize| (-0.5 * (offset as f64 / sigma).powi(2)).exp();
    let total: f64 = (-reach..=reach).map(weight).sum();
    let line = |at: &dyn Fn(usize) -> f32, place: usize, count: usize| {
        let term = |offset: isize| {
            let near = place.saturating_add_signed(offset).min(count - 1);
            weight(offset) / total * f64::from(at(near))
        };
        (-reach..=reach).map(term).sum::<f64>() as f32
    };
    let cells = || (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    let across: Vec<f32> = cells()
        .map(|(row, column)| line(&|near| values[row * columns + near], column, columns))
        .collect();
    cells().map(|(row, column)| line(&|near| across[near * columns + column], row, rows)).collect()
}

/// Bilinear interpolation at (`u`, `v`), where whole numbers are cell centres; beyond the
/// outermost centres the grid goes on level.
fn interpolated(values: &[f32], [columns, rows]: [usize; 2], u: f64, v: f64) -> f32 {
    let along = |place: f64, count: usize| {
        let place = place.clamp(0.0, (count - 1) as f64);
        let low = (place as usize).min(count - 1);
        (low, (low + 1).min(count - 1), (place - low as f64) as f32)
    };
    let (left, right, across) = along(u, columns);
    let (above, below, down) = along(v, rows);
    let row = |row: usize| {
        let (a, b) = (values[row * columns + left], values[row * columns + right]);
        a + (b - a) * across
    };
    row(above) + (row(below) - row(above)) * down
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bump(size: [u32; 2], at: [f64; 2]) -> HeatMap {
        let tile = Tile { left: 0, top: 0, width: size[0], height: size[1] };
        let value = |row: usize, column: usize| {
            let (x, y) = ((column as f64 + 0.5) / 16.0, (row as f64 + 0.5) / 16.0);
            (-40.0 * ((x - at[0]).powi(2) + (y - at[1]).powi(2))).exp() as f32
        };
        let values = (0..256).map(|cell| value(cell / 16, cell % 16)).collect();
        HeatMap::blend(size, &[vec![TileMap { tile, rows: 16, columns: 16, values }]])
    }

    #[test]
    fn the_peak_comes_back_in_pixels_of_the_picture() {
        let map = bump([640, 320], [0.75, 0.25]);
        let (spot, _) = map.peak();
        assert!(spot.x.abs_diff(480) <= 20 && spot.y.abs_diff(80) <= 10, "{spot:?}");
        let region = map.region(0.5);
        assert!((region.x..region.x + region.width).contains(&spot.x));
        assert!((region.y..region.y + region.height).contains(&spot.y));
        assert!(region.width < 220 && region.height < 110, "{region:?}");
    }

    #[test]
    fn tiles_meet_without_a_seam() {
        let flat = |left| TileMap {
            tile: Tile { left, top: 0, width: 60, height: 60 },
            rows: 3,
            columns: 3,
            values: vec![0.5; 9],
        };
        let map = HeatMap::blend([90, 60], &[vec![flat(0), flat(30)], vec![flat(0), flat(30)]]);
        assert!(map.values().iter().all(|v| (v - 0.5).abs() < 1e-6));
        assert_eq!(map.region(0.5), Region { x: 0, y: 0, width: 90, height: 60 });
    }

    #[test]
    fn smoothing_is_that_of_scipy() {
        let mut values = [0f32; 20];
        (values[6], values[16], values[15]) = (1.0, 2.0, -1.0);
        // scipy.ndimage.gaussian_filter(values.reshape(5, 4), 1.2, mode="nearest")
        let expected = [
            [0.02103, 0.05464, 0.07349, 0.04550],
            [0.04749, 0.08055, 0.08601, 0.02338],
            [0.14744, 0.09795, 0.01923, -0.09817],
            [0.44631, 0.20942, -0.01742, -0.19137],
            [0.88518, 0.42495, 0.05815, -0.13183],
        ];
        let found = smoothed(&values, [4, 5], 1.2);
        for (found, expected) in found.iter().zip(expected.as_flattened()) {
            assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
        }
    }

    #[test]
    fn a_single_pixel_has_a_place() {
        let map = bump([1, 1], [0.5, 0.5]);
        assert_eq!(map.peak().0, Spot { x: 0, y: 0 });
        assert_eq!(map.region(0.5), Region { x: 0, y: 0, width: 1, height: 1 });
    }

    #[test]
    fn each_cell_goes_to_the_text_that_fits_best() {
        let maps = [bump([100, 100], [0.2, 0.5]), bump([100, 100], [0.8, 0.5])];
        let found = segments(&maps, 0.5);
        let row = &found[32 * 64..33 * 64];
        assert_eq!((row[12], row[32], row[51]), (Some(0), None, Some(1)));
        assert!(segments(&[], 0.5).is_empty());
    }
}
