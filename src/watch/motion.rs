//! Has anything moved? A cheap look at a coarse grey picture before the encoder takes a dear one.

use super::picture::Image;
use crate::kernel::PlaneColours;
use crate::picture::{Picture, Planes};

/// Cells across and down.
const SIDE: usize = 32;
const CELLS: usize = SIDE * SIDE;

/// Compares frames with the last one that was looked at.
///
/// The picture is sampled on a grid of 32 × 32 cells of grey means. A cell moved when it differs
/// by more than `sensitivity` levels after the change of the whole picture (clouds, exposure) is
/// taken off; a scene moved when a few cells did.
#[derive(Debug, Clone)]
pub struct MotionGate {
    sensitivity: f32,
    longest_still: f64,
    reference: Option<Box<[f32; CELLS]>>,
    looked: f64,
}

impl MotionGate {
    /// A gate for cells that change by more than `sensitivity` of 255 levels. However still the
    /// scene is, a frame passes every `longest_still` seconds.
    pub fn new(sensitivity: f32, longest_still: f64) -> Self {
        Self { sensitivity, longest_still, reference: None, looked: f64::NEG_INFINITY }
    }

    /// Whether the frame at `time` seconds is to be looked at.
    pub fn passes(&mut self, picture: &Picture, time: f64) -> bool {
        self.passes_cells(grey_cells(picture), time)
    }

    /// The same for a frame as it came.
    pub(super) fn passes_image(&mut self, image: &Image, time: f64) -> bool {
        match image {
            Image::Rgb(picture) => self.passes(picture, time),
            Image::Planes(planes) => self.passes_cells(luma_cells(planes), time),
        }
    }

    fn passes_cells(&mut self, cells: [f32; CELLS], time: f64) -> bool {
        let moved = match &self.reference {
            None => true,
            Some(reference) => self.moved(reference, &cells),
        };
        if !moved && (0.0..self.longest_still).contains(&(time - self.looked)) {
            return false;
        }
        match &mut self.reference {
            Some(reference) => **reference = cells,
            None => self.reference = Some(Box::new(cells)),
        }
        self.looked = time;
        true
    }

    fn moved(&self, reference: &[f32; CELLS], cells: &[f32; CELLS]) -> bool {
        let shift: f32 =
            cells.iter().zip(reference).map(|(a, b)| a - b).sum::<f32>() / CELLS as f32;
        let differs = |(a, b): (&f32, &f32)| (a - b - shift).abs() > self.sensitivity;
        cells.iter().zip(reference).filter(|pair| differs(*pair)).count() >= 2
    }
}

/// Mean green of up to sixteen samples a cell: green is most of what the eye calls grey.
fn grey_cells(picture: &Picture) -> [f32; CELLS] {
    let (channels, bytes) = (picture.pixels().channels(), picture.pixels().bytes());
    let size = [picture.width(), picture.height()].map(|side| side as usize);
    let row = |y: usize| &bytes[y * size[0] * channels..][..size[0] * channels];
    cells(size, |x, y| row(y)[x * channels + 1])
}

/// Mean luma of up to sixteen samples a cell.
fn luma_cells(planes: &Planes) -> [f32; CELLS] {
    let cells = cells(planes.size().map(|side| side as usize), |x, y| planes.luma().row(y)[x]);
    match planes.range() {
        PlaneColours::Full => cells,
        // Black lies elsewhere as well, but what counts is how far cells are apart.
        PlaneColours::Television => cells.map(|level| level * (255.0 / 219.0)),
    }
}

fn cells([width, height]: [usize; 2], level: impl Fn(usize, usize) -> u8) -> [f32; CELLS] {
    const TAPS: usize = 4;
    let place = |index: usize, length: usize| (2 * index + 1) * length / (2 * SIDE * TAPS);
    let columns: [usize; SIDE * TAPS] = std::array::from_fn(|x| place(x, width));
    let mut sums = [0f32; CELLS];
    for y in 0..SIDE * TAPS {
        let row = place(y, height);
        for (x, &column) in columns.iter().enumerate() {
            sums[y / TAPS * SIDE + x / TAPS] += f32::from(level(column, row));
        }
    }
    sums.map(|sum| sum / (TAPS * TAPS) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Pixels;

    fn scene(light: u8, thing: Option<usize>) -> Picture {
        let (width, height) = (160usize, 90usize);
        let mut bytes = vec![light; width * height * 3];
        if let Some(left) = thing {
            for y in 40..60 {
                bytes[(y * width + left) * 3..][..60].fill(250);
            }
        }
        Picture::new(width as u32, height as u32, Pixels::Rgb(bytes)).unwrap()
    }

    #[test]
    fn things_that_move_pass_and_light_does_not() {
        let mut gate = MotionGate::new(8.0, 1e9);
        assert!(gate.passes(&scene(90, None), 0.0));
        assert!(!gate.passes(&scene(90, None), 0.1));
        assert!(!gate.passes(&scene(97, None), 0.2));
        assert!(gate.passes(&scene(97, Some(20)), 0.3));
        assert!(!gate.passes(&scene(97, Some(20)), 0.4));
        assert!(gate.passes(&scene(97, Some(40)), 0.5));
    }

    #[test]
    fn a_still_scene_is_looked_at_now_and_then() {
        let mut gate = MotionGate::new(8.0, 2.0);
        let looks = (0..100).filter(|&i| gate.passes(&scene(90, None), f64::from(i) / 10.0));
        assert_eq!(looks.count(), 5);
    }

    #[test]
    fn pictures_of_any_size_have_cells() {
        let tiny = Picture::new(1, 1, Pixels::Rgb(vec![9, 9, 9])).unwrap();
        assert_eq!(grey_cells(&tiny), [9.0; CELLS]);
    }
}
