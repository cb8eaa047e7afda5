//! Luma and colour differences to RGB, as ITU-R BT.601 has it.

/// The conversion in 16-bit fixed point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bt601 {
    luma_scale: i32,
    offset: i32,
    red_v: i32,
    green_u: i32,
    green_v: i32,
    blue_u: i32,
}

impl Bt601 {
    /// For samples that use all of 0 to 255, or 16 to 235 as television does.
    pub fn new(full_range: bool) -> Self {
        let (luma_scale, offset) = if full_range { (65536, 0) } else { (76309, 16) };
        let [red_v, green_u, green_v, blue_u] =
            if full_range { [91881, 22554, 46802, 116130] } else { [104597, 25675, 53279, 132201] };
        Self { luma_scale, offset, red_v, green_u, green_v, blue_u }
    }

    /// One pixel.
    pub fn rgb(&self, y: u8, u: u8, v: u8) -> [u8; 3] {
        // Blacker than black is black, as OpenCV has it.
        let y = (i32::from(y) - self.offset).max(0) * self.luma_scale + 32768;
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        let byte = |value: i32| (value >> 16).clamp(0, 255) as u8;
        [
            byte(y + self.red_v * v),
            byte(y - self.green_u * u - self.green_v * v),
            byte(y + self.blue_u * u),
        ]
    }
}
