//! Pictures as cameras compress them: luma in full, two coarser planes of colour differences.

use super::frame::{Picture, Pixels};
use crate::kernel::{Machine, PlaneColours, rgb_of_planes};

/// One plane of samples; rows may be padded at their end, and more rows may follow.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Plane {
    /// Whole rows of `stride` samples.
    pub samples: Vec<u8>,
    /// Samples from the start of a row to that of the next.
    pub stride: usize,
}

/// A picture in luma and colour differences (ITU-R BT.601), 8 bits a sample.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Planes {
    width: u32,
    height: u32,
    luma: Plane,
    /// None where the picture is grey.
    colour: Option<[Plane; 2]>,
    /// Pixels across and down that share a sample of colour.
    shared: [u32; 2],
    range: PlaneColours,
}

impl Planes {
    /// Wraps planes. `None` where they are too small for the picture.
    pub fn new(
        [width, height]: [u32; 2],
        luma: Plane,
        colour: Option<[Plane; 2]>,
        shared: [u32; 2],
        range: PlaneColours,
    ) -> Option<Self> {
        if shared.contains(&0) {
            return None;
        }
        let coarse = [width.div_ceil(shared[0]), height.div_ceil(shared[1])];
        let mut planes = colour.iter().flatten();
        let enough = luma.holds([width, height]) && planes.all(|plane| plane.holds(coarse));
        enough.then_some(Self { width, height, luma, colour, shared, range })
    }

    /// Whether every sample of colour is shared by as many pixels as any other. If not, it is not
    /// plain at an edge where a sample stands.
    pub fn are_even(&self) -> bool {
        self.width.is_multiple_of(self.shared[0]) && self.height.is_multiple_of(self.shared[1])
    }

    /// Width and height in pixels.
    pub fn size(&self) -> [u32; 2] {
        [self.width, self.height]
    }

    /// Luma.
    pub fn luma(&self) -> &Plane {
        &self.luma
    }

    /// Colour differences, blue then red, unless it is grey.
    pub fn colour(&self) -> Option<&[Plane; 2]> {
        self.colour.as_ref()
    }

    /// Pixels across and down that share a sample of colour.
    pub fn shared(&self) -> [u32; 2] {
        self.shared
    }

    /// What the samples mean.
    pub fn range(&self) -> PlaneColours {
        self.range
    }

    /// The picture in RGB; samples of colour are repeated.
    pub fn picture(&self) -> Picture {
        let machine = Machine::active().unwrap_or(Machine::Scalar);
        let (width, [across, down]) = (self.width as usize, self.shared.map(|n| n as usize));
        let mut rgb = vec![0; 3 * width * self.height as usize];
        let mut colours = [vec![128; width], vec![128; width]];
        for (row, out) in rgb.chunks_exact_mut(3 * width).enumerate() {
            for (line, plane) in colours.iter_mut().zip(self.colour.iter().flatten()) {
                let places = line.chunks_mut(across).zip(plane.row(row / down));
                places.for_each(|(repeated, &sample)| repeated.fill(sample));
            }
            let [blue, red] = &colours;
            rgb_of_planes(machine, [&self.luma.row(row)[..width], blue, red], self.range, out);
        }
        Picture::new(self.width, self.height, Pixels::Rgb(rgb)).expect("three bytes a pixel")
    }
}

impl Plane {
    /// Row number `row`, padding included.
    pub fn row(&self, row: usize) -> &[u8] {
        &self.samples[row * self.stride..][..self.stride]
    }

    fn holds(&self, size: [u32; 2]) -> bool {
        let [width, height] = size.map(|side| side as usize);
        width > 0
            && height > 0
            && self.stride >= width
            && self.samples.len().is_multiple_of(self.stride)
            && self.samples.len() / self.stride >= height
    }
}

impl std::fmt::Debug for Plane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plane({} samples, {} a row)", self.samples.len(), self.stride)
    }
}

impl std::fmt::Debug for Planes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Planes({}×{}, {:?} pixels a colour)", self.width, self.height, self.shared)
    }
}
