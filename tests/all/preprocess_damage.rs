//! Picture files that are missing, cut, damaged or too large: an error that says so, or the whole
//! picture, never a part of one and never a panic.

use std::path::{Path, PathBuf};

use sextant::picture::{DecodeError, DecodeLimits, Picture, decode_bytes, decode_file};

fn sources() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/preprocess/source");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

fn decode(bytes: &[u8], name: &str) -> Result<Picture, DecodeError> {
    let limits = DecodeLimits { max_pixels: 1 << 20, ..DecodeLimits::default() };
    decode_bytes(bytes, name, &limits)
}

/// The error for a file with this content.
fn refusal(bytes: &[u8]) -> DecodeError {
    decode_bytes(bytes, "photo", &DecodeLimits::default()).unwrap_err()
}

/// A small generator of numbers (xorshift), so that a failure can be repeated.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_or_whole() {
    for (name, bytes) in sources() {
        let whole = decode(&bytes, &name).unwrap();
        for length in (0..bytes.len()).step_by(1 + bytes.len() / 300) {
            if let Ok(picture) = decode(&bytes[..length], &name) {
                assert!(picture == whole, "{name} cut to {length} of {} bytes", bytes.len());
            }
        }
    }
}

#[test]
fn a_file_cut_in_half_is_called_cut_short() {
    for (name, bytes) in sources() {
        let half = &bytes[..bytes.len() / 2];
        // The first frame of an animation lies before the middle.
        if let Err(error) = decode(half, &name) {
            assert!(matches!(error, DecodeError::Truncated { .. }), "{error}");
        } else {
            assert!(name.starts_with("animated"), "{name}");
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let mut numbers = Numbers(0x5EED);
    for (name, bytes) in sources() {
        for _ in 0..150 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + numbers.below(4) {
                let at = numbers.below(damaged.len());
                damaged[at] = numbers.below(256) as u8;
            }
            if let Ok(picture) = decode(&damaged, &name) {
                assert!(picture.width() > 0 && picture.height() > 0);
            }
        }
    }
}

#[test]
fn inks_of_unusual_sampling_are_refused() {
    for name in ["cmyk.jpg", "ycck.jpg"] {
        let (_, bytes) = sources().into_iter().find(|(other, _)| other == name).unwrap();
        let frame = bytes.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
        for plane in 0..4 {
            for sampling in [0x12, 0x21, 0x22, 0x41, 0x43, 0x33] {
                let mut changed = bytes.clone();
                changed[frame + 11 + 3 * plane] = sampling;
                decode(&changed, name).unwrap_err();
            }
        }
    }
}

#[test]
fn what_is_no_picture_is_named() {
    assert!(matches!(refusal(b""), DecodeError::Empty { .. }));
    assert!(matches!(refusal(b"cat, dog\n"), DecodeError::NotPicture { .. }));
    assert!(matches!(refusal(&[0; 5000]), DecodeError::NotPicture { .. }));
    let phone = refusal(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    assert_eq!(
        phone.to_string(),
        "photo: is HEIC, which is not read: convert it to JPEG or PNG first"
    );
    assert!(matches!(refusal(b"\xFF\xD8\xFF"), DecodeError::Truncated { .. }));
    assert!(matches!(refusal(b"\x89PNG\r\n\x1a\n"), DecodeError::Truncated { .. }));
}

#[test]
fn files_and_folders_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let limits = DecodeLimits::default();
    let missing = decode_file(&folder.path().join("no\x1b[2J.png"), &limits).unwrap_err();
    assert!(matches!(missing, DecodeError::Missing { .. }));
    assert!(missing.to_string().ends_with("no\u{FFFD}[2J.png: no such file"), "{missing}");
    let error = decode_file(folder.path(), &limits).unwrap_err();
    assert!(matches!(error, DecodeError::Folder { .. }), "{error}");
    let long = folder.path().join("long.bmp");
    std::fs::write(&long, [b"BM".as_slice(), &[0; 5000]].concat()).unwrap();
    let limits = DecodeLimits { max_file_bytes: 4999, ..limits };
    let error = decode_file(&long, &limits).unwrap_err();
    assert!(matches!(error, DecodeError::FileTooLarge { limit: 4999, .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn a_path_need_not_be_utf_8() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xE9.jpg"));
    let (_, bytes) = sources().into_iter().find(|(name, _)| name == "444.jpg").unwrap();
    std::fs::write(&path, &bytes).unwrap();
    assert!(decode_file(&path, &DecodeLimits::default()).is_ok());
    std::fs::write(&path, &bytes[..100]).unwrap();
    let error = decode_file(&path, &DecodeLimits::default()).unwrap_err();
    assert!(error.to_string().contains("caf\u{FFFD}.jpg: is cut short"), "{error}");
}

/// The size that a file declares, in the place where each format has it.
fn claim(width: u32, height: u32, extension: &str) -> Vec<u8> {
    let (_, mut bytes) =
        sources().into_iter().find(|(name, _)| *name == format!("rgb.{extension}")).unwrap();
    match extension {
        "png" => {
            bytes[16..20].copy_from_slice(&width.to_be_bytes());
            bytes[20..24].copy_from_slice(&height.to_be_bytes());
        }
        "bmp" => {
            bytes[18..22].copy_from_slice(&width.to_le_bytes());
            bytes[22..26].copy_from_slice(&height.to_le_bytes());
        }
        "jpg" => {
            let frame = bytes.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
            bytes[frame + 5..frame + 7].copy_from_slice(&(height as u16).to_be_bytes());
            bytes[frame + 7..frame + 9].copy_from_slice(&(width as u16).to_be_bytes());
        }
        other => panic!("no rule for {other}"),
    }
    bytes
}

#[test]
fn a_claimed_size_is_checked_before_anything_is_done_about_it() {
    for extension in ["png", "bmp", "jpg"] {
        let error = refusal(&claim(60_000, 60_000, extension));
        assert!(
            matches!(error, DecodeError::TooManyPixels { width: 60_000, height: 60_000, .. }),
            "{error}"
        );
        let expected = "photo: declares 60000×60000 pixels, over the limit of 200 megapixels \
                        (raise it with --max-megapixels)";
        assert_eq!(error.to_string(), expected);
    }
    // The header alone is enough to say so.
    let error = refusal(&claim(60_000, 60_000, "png")[..33]);
    assert!(matches!(error, DecodeError::TooManyPixels { .. }), "{error}");
    let error = refusal(&claim(2_000_000, 3, "png"));
    assert!(matches!(error, DecodeError::SideTooLong { width: 2_000_000, .. }), "{error}");
    // Within the limit, but the samples are not there.
    for extension in ["png", "bmp", "jpg"] {
        let error = refusal(&claim(10_000, 10_000, extension));
        let known = matches!(error, DecodeError::Truncated { .. } | DecodeError::Corrupt { .. });
        assert!(known, "{error}");
    }
}

#[test]
fn a_size_of_nothing_is_refused() {
    for extension in ["png", "bmp", "jpg"] {
        let error = refusal(&claim(0, 10, extension));
        let known = matches!(error, DecodeError::ZeroSized { .. } | DecodeError::Corrupt { .. });
        assert!(known, "{error}");
    }
}
