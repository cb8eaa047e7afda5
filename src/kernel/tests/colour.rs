//! Colours of planes.

use super::*;

/// ITU-R BT.601 in floating point.
fn formula([luma, blue, red]: [u8; 3], colours: PlaneColours) -> [f64; 3] {
    let [luma, blue, red] = [luma, blue, red].map(f64::from);
    let (luma, colour) = match colours {
        PlaneColours::Full => (luma, 1.0),
        PlaneColours::Television => ((luma - 16.0).max(0.0) * 255.0 / 219.0, 255.0 / 224.0),
    };
    let (blue, red) = ((blue - 128.0) * colour, (red - 128.0) * colour);
    let (kr, kb) = (0.299, 0.114);
    let green = (kr * 2.0 * (1.0 - kr) * red + kb * 2.0 * (1.0 - kb) * blue) / (1.0 - kr - kb);
    [luma + 2.0 * (1.0 - kr) * red, luma - green, luma + 2.0 * (1.0 - kb) * blue]
}

#[test]
fn colours_are_those_of_the_formula() {
    let mut random = Random::new(32);
    for length in [1, 31, 32, 33, 260, 1000].into_iter().take(cases(6, 4)) {
        let planes = [random.bytes(length), random.bytes(length), random.bytes(length)];
        for colours in [PlaneColours::Full, PlaneColours::Television] {
            for machine in Machine::available() {
                let mut out = vec![0; 3 * length];
                rgb_of_planes(machine, [&planes[0], &planes[1], &planes[2]], colours, &mut out);
                for (at, pixel) in out.as_chunks::<3>().0.iter().enumerate() {
                    let sample = [planes[0][at], planes[1][at], planes[2][at]];
                    for (level, wanted) in pixel.iter().zip(formula(sample, colours)) {
                        let apart = (f64::from(*level) - wanted.clamp(0.0, 255.0)).abs();
                        assert!(apart <= 0.51, "{machine} {sample:?}: {level}, not {wanted}");
                    }
                }
            }
        }
    }
}
