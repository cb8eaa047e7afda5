//! Is a JPEG file complete?
//!
//! JPEG decoders, ours among them, fill what is missing with grey and report success. A picture
//! that is half grey gets confident wrong labels, so the file's skeleton is walked first, as in
//! ITU-T T.81 annex B: marker segments have lengths, entropy-coded data runs to the next marker,
//! and a complete file reaches the end-of-image marker.

const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;

/// Whether the first picture in `bytes` (which begin with a start-of-image marker) reaches its
/// end-of-image marker. What follows that, such as the further pictures of a multi-picture file,
/// does not matter.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let mut position = 2;
    while let Some(marker) = next_marker(bytes, &mut position) {
        match marker {
            END_OF_IMAGE => return true,
            // Markers without a segment: TEM, RST0 to RST7, SOI.
            0x01 | 0xD0..=0xD8 => {}
            _ => {
                let Some(length) = bytes.get(position..position + 2) else { return false };
                // A length counts itself; a smaller one is damage, which the decoder reports.
                position += usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
                if marker == START_OF_SCAN {
                    skip_entropy_coded(bytes, &mut position);
                }
            }
        }
    }
    false
}

/// Moves behind the next marker and gives its second byte.
fn next_marker(bytes: &[u8], position: &mut usize) -> Option<u8> {
    loop {
        *position += bytes.get(*position..)?.iter().position(|&byte| byte == 0xFF)?;
        // Any number of fill bytes 0xFF may stand before a marker.
        *position += bytes[*position..].iter().position(|&byte| byte != 0xFF)?;
        let code = bytes[*position];
        *position += 1;
        if code != 0 {
            return Some(code);
        }
    }
}

/// Moves to the first marker that ends a scan: 0xFF00 is a data byte and RST0 to RST7 stand
/// inside a scan.
fn skip_entropy_coded(bytes: &[u8], position: &mut usize) {
    while let Some(offset) =
        bytes.get(*position..).and_then(|rest| rest.iter().position(|&byte| byte == 0xFF))
    {
        *position += offset;
        match bytes.get(*position + 1) {
            Some(0 | 0xD0..=0xD7) => *position += 2,
            Some(0xFF) => *position += 1,
            _ => return,
        }
    }
    *position = bytes.len();
}

#[cfg(test)]
mod tests {
    use super::is_complete;

    #[test]
    fn end_marker_counts_only_outside_segments_and_data() {
        let header = [0xFF, 0xD8, 0xFF, 0xE1, 0, 4, 0xFF, 0xD9, 0xFF, 0xDA, 0, 3, 9];
        let with = |tail: &[u8]| [&header, tail].concat();
        assert!(is_complete(&with(&[1, 0xFF, 0, 2, 0xFF, 0xD0, 3, 0xFF, 0xFF, 0xD9])));
        assert!(is_complete(&with(&[0xFF, 0xD9, 7, 7])));
        assert!(!is_complete(&with(&[1, 2, 3])));
        assert!(!is_complete(&with(&[1, 0xFF, 0, 0xD9])));
        assert!(!is_complete(&with(&[1, 0xFF])));
        assert!(!is_complete(&header[..5]));
        assert!(!is_complete(&header[..8]));
        assert!(!is_complete(&[]));
    }
}
