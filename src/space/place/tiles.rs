//! Cutting a picture into overlapping tiles of the tower's shape.

/// A rectangle of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Tile {
    /// Left edge.
    pub left: u32,
    /// Top edge.
    pub top: u32,
    /// Width, at least 1.
    pub width: u32,
    /// Height, at least 1.
    pub height: u32,
}

/// Tiles along one axis: beyond this, tiles grow instead of becoming more, so that a panorama
/// costs no more than a photo.
const MOST_ALONG: u32 = 6;

/// Tiles of the proportions `shape` (width and height of the tower's input) that cover a picture
/// of `size`, each as large as `scale` (above 0, at most 1) of the largest that fits, and
/// overlapping its neighbours by half or more. Row by row; at most 36.
pub fn tiles(size: [u32; 2], shape: [u32; 2], scale: f64) -> Vec<Tile> {
    let fit = [0, 1].map(|axis| f64::from(size[axis]) / f64::from(shape[axis]));
    let unit = fit[0].min(fit[1]) * scale.clamp(0.01, 1.0);
    let [across, down] = [0, 1].map(|axis| spans(size[axis], unit * f64::from(shape[axis])));
    let row = |(top, height): &(u32, u32)| {
        let (top, height) = (*top, *height);
        across.iter().map(move |&(left, width)| Tile { left, top, width, height })
    };
    down.iter().flat_map(row).collect()
}

/// Starts and lengths of spans of about `wanted` that cover `whole`.
fn spans(whole: u32, wanted: f64) -> Vec<(u32, u32)> {
    let length = f64::from(whole);
    let steps = ((length - wanted) / (wanted / 2.0) - 1e-9).ceil().max(0.0) + 1.0;
    let (count, wanted) = if steps > f64::from(MOST_ALONG) {
        (MOST_ALONG, length * 2.0 / f64::from(MOST_ALONG + 1))
    } else {
        (steps as u32, wanted)
    };
    let span = (wanted.round() as u32).clamp(1, whole);
    let gap = f64::from(whole - span) / f64::from(count.max(2) - 1);
    (0..count).map(|i| ((f64::from(i) * gap).round() as u32, span)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_picture() {
        let sizes = [[1, 1], [1, 5000], [640, 480], [480, 640], [300, 300], [7, 3], [60000, 2]];
        for size in sizes {
            for shape in [[260, 260], [384, 192]] {
                for scale in [1.0, 0.6, 0.3] {
                    let found = tiles(size, shape, scale);
                    assert!(!found.is_empty() && found.len() <= 36, "{size:?}: {}", found.len());
                    covers(size, &found);
                }
            }
        }
    }

    fn covers([width, height]: [u32; 2], tiles: &[Tile]) {
        let ends = |t: &Tile| [t.left + t.width, t.top + t.height];
        assert!(tiles.iter().all(|t| ends(t)[0] <= width && ends(t)[1] <= height));
        for x in [0, width / 3, width / 2, width - 1] {
            for y in [0, height / 3, height / 2, height - 1] {
                let holds = |t: &Tile| {
                    (t.left..ends(t)[0]).contains(&x) && (t.top..ends(t)[1]).contains(&y)
                };
                assert!(tiles.iter().any(holds), "{x}, {y} of {width}×{height}");
            }
        }
    }

    #[test]
    fn a_square_is_one_tile_and_a_photo_two() {
        let whole = Tile { left: 0, top: 0, width: 300, height: 300 };
        assert_eq!(tiles([300, 300], [260, 260], 1.0), [whole]);
        let halves = tiles([640, 480], [260, 260], 1.0);
        assert_eq!(halves.iter().map(|t| t.left).collect::<Vec<_>>(), [0, 160]);
    }
}
