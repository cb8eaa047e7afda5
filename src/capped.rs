//! Reading whole files without trusting their size.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// All bytes of a file, or `None` where it holds more than `limit`. What a file says of its length
/// is not asked: a device or a pipe says 0 and may go on for ever.
pub(crate) fn read_capped(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_up_to_the_limit_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read_capped(&path, 5).unwrap().as_deref(), Some(&b"12345"[..]));
        assert_eq!(read_capped(&path, 4).unwrap(), None);
        assert!(read_capped(&folder.path().join("none"), 4).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_without_end_is_over_the_limit() {
        assert_eq!(read_capped(Path::new("/dev/zero"), 1000).unwrap(), None);
    }
}
