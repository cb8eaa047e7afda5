//! Luma and colour differences to RGB, as ITU-R BT.601 has it.

use super::Machine;
use super::simd::{Vector, entry_points};

/// What samples of luma and of colour differences mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaneColours {
    /// They use all of 0 to 255, as in JPEG files.
    Full,
    /// Luma from 16 to 235 and colour from 16 to 240, as television has it.
    Television,
}

/// The conversion in 16-bit fixed point.
#[derive(Clone, Copy)]
struct Bt601 {
    luma: i32,
    black: i32,
    red_of_red: i32,
    green_of_blue: i32,
    green_of_red: i32,
    blue_of_blue: i32,
}

/// Pixels that are converted at once.
const TOGETHER: usize = 32;

/// Converts samples, pixel by pixel: `planes` are luma and the differences of blue and of red,
/// `out` has three bytes a pixel. Results are within one level of the formula's.
///
/// # Panics
/// If the lengths do not agree.
pub fn rgb_of_planes(machine: Machine, planes: [&[u8]; 3], colours: PlaneColours, out: &mut [u8]) {
    machine.assert_available();
    let length = planes[0].len();
    assert!(planes.iter().all(|plane| plane.len() == length), "planes of one length");
    assert!(out.len() == 3 * length, "three bytes a pixel");
    // SAFETY: the machine is available.
    unsafe { convert_on(machine, planes, colours, out) }
}

entry_points! {
    /// [`rgb_of_planes`] on a machine.
    fn convert_on(planes: [&[u8]; 3], colours: PlaneColours, out: &mut [u8]) = convert_by;
}

/// [`convert`], compiled for a machine.
///
/// # Safety
/// The machine's instructions are enabled.
#[inline(always)]
unsafe fn convert_by<V: Vector>(planes: [&[u8]; 3], colours: PlaneColours, out: &mut [u8]) {
    convert(planes, &Bt601::new(colours), out);
}

impl Bt601 {
    #[inline(always)]
    fn new(colours: PlaneColours) -> Self {
        let [luma, black, red_of_red, green_of_blue, green_of_red, blue_of_blue] = match colours {
            PlaneColours::Full => [65536, 0, 91881, 22554, 46802, 116130],
            PlaneColours::Television => [76309, 16, 104597, 25675, 53279, 132201],
        };
        Self { luma, black, red_of_red, green_of_blue, green_of_red, blue_of_blue }
    }

    #[inline(always)]
    fn rgb(&self, luma: u8, blue: u8, red: u8) -> [u8; 3] {
        // Blacker than black is black, as OpenCV has it.
        let luma = (i32::from(luma) - self.black).max(0) * self.luma + (1 << 15);
        let (blue, red) = (i32::from(blue) - 128, i32::from(red) - 128);
        let byte = |value: i32| (value >> 16).clamp(0, 255) as u8;
        [
            byte(luma + self.red_of_red * red),
            byte(luma - self.green_of_blue * blue - self.green_of_red * red),
            byte(luma + self.blue_of_blue * blue),
        ]
    }
}

#[inline(always)]
fn convert([luma, blue, red]: [&[u8]; 3], bt601: &Bt601, out: &mut [u8]) {
    let (blocks, rest) = out.as_chunks_mut::<{ 3 * TOGETHER }>();
    let whole = blocks.len() * TOGETHER;
    let parts = luma.as_chunks::<TOGETHER>().0.iter().zip(blue.as_chunks::<TOGETHER>().0);
    for (((luma, blue), red), out) in parts.zip(red.as_chunks::<TOGETHER>().0).zip(blocks) {
        let mut colours = [[0u8; TOGETHER]; 3];
        for at in 0..TOGETHER {
            let [r, g, b] = bt601.rgb(luma[at], blue[at], red[at]);
            (colours[0][at], colours[1][at], colours[2][at]) = (r, g, b);
        }
        for (at, pixel) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            *pixel = [colours[0][at], colours[1][at], colours[2][at]];
        }
    }
    let parts = luma[whole..].iter().zip(&blue[whole..]).zip(&red[whole..]);
    for (((&luma, &blue), &red), pixel) in parts.zip(rest.as_chunks_mut::<3>().0) {
        *pixel = bt601.rgb(luma, blue, red);
    }
}
