//! Resizing of pictures in planes, without a picture in RGB between.
//!
//! Resizing and the change of colours are both sums, so each may come first but for rounding, for
//! clamping, and for how samples of colour are spread over the pixels that share them: here the
//! filter does that, while decoders of still pictures interpolate first. What comes out is near
//! what [`Preprocess::pixels`] makes of the decoded picture, for two thirds of the work of both.

use super::geometry::{self, Window};
use super::resample::{Weights, resample_plane};
use super::{PixelGrid, Preprocess};
use crate::kernel::{Machine, ROWS_AT_ONCE, rgb_of_planes};
use crate::picture::planes::Planes;

/// Weights and rows that are kept from one picture to the next.
#[derive(Debug, Default)]
pub(crate) struct PlaneBuffers {
    luma: Option<Weights>,
    colour: Option<Weights>,
    between: Vec<u8>,
    scratch: Vec<[u8; ROWS_AT_ONCE]>,
    resized: [Vec<u8>; 3],
}

impl Preprocess {
    /// Resizes a picture in planes and cuts or fills it to [`Preprocess::output_size`]; `None` for
    /// planes that are not even.
    pub(crate) fn pixels_of_planes(
        &self,
        planes: &Planes,
        buffers: &mut PlaneBuffers,
    ) -> Option<PixelGrid> {
        if !planes.are_even() {
            return None;
        }
        // A machine that does not exist is refused where the towers are built.
        let machine = Machine::active().unwrap_or(Machine::Scalar);
        let spec = &self.spec;
        let windows =
            geometry::windows(spec.resize, planes.size(), spec.resize_size, self.output());
        let [shared_across, shared_down] = planes.shared();
        let coarse = |window: Window, shared| Window { source: window.source / shared, ..window };
        let coarse = [coarse(windows[0], shared_across), coarse(windows[1], shared_down)];
        let PlaneBuffers { luma, colour, between, scratch, resized } = buffers;
        let length = windows[0].length as usize * windows[1].length as usize;
        resized.iter_mut().for_each(|plane| plane.resize(length, 128));
        let [grey, blue, red] = resized;
        let weights = Weights::kept(luma, windows, spec.interpolation);
        resample_plane(machine, planes.luma(), weights, (between, scratch), grey);
        match planes.colour() {
            Some([blue_plane, red_plane]) => {
                let weights = Weights::kept(colour, coarse, spec.interpolation);
                resample_plane(machine, blue_plane, weights, (between, scratch), blue);
                resample_plane(machine, red_plane, weights, (between, scratch), red);
            }
            None => [&mut *blue, red].into_iter().for_each(|plane| plane.fill(128)),
        }
        let mut samples = vec![0; 3 * length];
        rgb_of_planes(machine, [grey, blue, red], planes.range(), &mut samples);
        Some(self.framed(windows, samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::PlaneColours;
    use crate::picture::{DecodeLimits, Plane, PreprocessSpec, decode_bytes, decode_planes};
    use crate::picture::{Interpolation, ResizeMode};

    fn preprocess(resize: ResizeMode, fill: [u8; 3]) -> Preprocess {
        let spec = PreprocessSpec {
            resize,
            resize_size: [260, 260],
            crop: None,
            interpolation: Interpolation::Bicubic,
            mean: [0.5; 3],
            std: [0.5; 3],
            fill,
            background: [255; 3],
        };
        Preprocess::new(spec).unwrap()
    }

    #[test]
    fn planes_give_nearly_what_the_decoded_picture_gives() {
        for name in ["astronaut", "coffee", "galaxies"] {
            let path = format!("{}/examples/photos/{name}.jpg", env!("CARGO_MANIFEST_DIR"));
            let (bytes, limits) = (std::fs::read(path).unwrap(), DecodeLimits::default());
            let picture = decode_bytes(&bytes, name, &limits).unwrap();
            let Some(planes) = decode_planes(&bytes, name, &limits).unwrap() else {
                panic!("{name}")
            };
            let mut buffers = PlaneBuffers::default();
            for mode in [ResizeMode::Squash, ResizeMode::Shortest, ResizeMode::Longest] {
                let preprocess = preprocess(mode, [1, 2, 3]);
                let exact = preprocess.pixels(&picture);
                let near = preprocess.pixels_of_planes(&planes, &mut buffers).unwrap();
                let pairs = near.bytes().iter().zip(exact.bytes());
                let apart: Vec<f64> = pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).collect();
                let mean = apart.iter().sum::<f64>() / apart.len() as f64;
                assert!(mean < 1.0, "{name} {mode:?}: {mean} levels apart");
            }
        }
    }

    #[test]
    fn grey_planes_are_grey_and_uneven_ones_are_none() {
        let plane = |value, width: usize, height: usize| Plane {
            samples: vec![value; width * height],
            stride: width,
        };
        let grey = Planes::new([30, 20], plane(77, 32, 24), None, [1, 1], PlaneColours::Full);
        let mut buffers = PlaneBuffers::default();
        let preprocess = preprocess(ResizeMode::Squash, [0; 3]);
        let grid = preprocess.pixels_of_planes(&grey.unwrap(), &mut buffers).unwrap();
        assert!(grid.bytes().iter().all(|&level| level == 77));
        let colour = || Some([plane(128, 3, 2), plane(128, 3, 2)]);
        let uneven = Planes::new([5, 3], plane(9, 5, 3), colour(), [2, 2], PlaneColours::Full);
        let uneven = uneven.unwrap();
        assert!(preprocess.pixels_of_planes(&uneven, &mut buffers).is_none());
        assert!(uneven.picture().pixels().bytes().iter().all(|&level| level == 9));
        let short = Planes::new([7, 3], plane(9, 7, 3), colour(), [2, 2], PlaneColours::Full);
        assert!(short.is_none(), "a plane of colour is too small");
    }
}
