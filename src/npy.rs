//! NumPy's array format, version 1.0 (numpy.lib.format), as far as embeddings need it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes `values` as a C-ordered little-endian `float32` array of shape
/// `(values.len() / columns, columns)`.
///
/// # Errors
/// What the operating system says.
pub fn write_npy(path: &Path, values: &[f32], columns: usize) -> io::Result<()> {
    let rows = values.len().checked_div(columns).unwrap_or(0);
    let mut header = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}"
    );
    // The data start at a multiple of 64 bytes, after magic, version, length and a line feed.
    let unpadded = 10 + header.len() + 1;
    header.push_str(&" ".repeat(unpadded.next_multiple_of(64) - unpadded));
    header.push('\n');
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&(header.len() as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for value in values {
        out.write_all(&value.to_le_bytes())?;
    }
    out.flush()
}
