//! NumPy's `.npy`: a matrix of float32 or float16, row by row.
//!
//! The header is a Python literal. It is read by a parser for just the three entries that it
//! has, of at most 64 KiB, because a general parser recurses as deep as a hostile file says.
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use half::f16;

use crate::index::IndexError;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header that is read; NumPy writes 118 bytes.
const MAX_HEADER: usize = 65_535;

/// How the components are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Component {
    Single,
    Half,
}

impl Component {
    fn bytes(self) -> usize {
        match self {
            Self::Single => 4,
            Self::Half => 2,
        }
    }
}

/// A `.npy` file opened for reading.
#[derive(Debug)]
pub struct NpyReader {
    path: PathBuf,
    input: BufReader<File>,
    component: Component,
    rows: u64,
    columns: usize,
    left: u64,
    buffer: Vec<u8>,
}

impl NpyReader {
    /// Opens a matrix of float32 or float16 in C order. A vector counts as one row.
    ///
    /// # Errors
    /// [`IndexError::NpyFortran`], [`IndexError::NpyType`] or [`IndexError::Npy`] with the
    /// rule that is broken; the file must be exactly as long as its header says.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let io = |e| IndexError::io("reading", path, e);
        let rule = |rule| IndexError::Npy { path: path.into(), rule };
        let file = File::open(path).map_err(|e| IndexError::io("opening", path, e))?;
        let length = file.metadata().map_err(io)?.len();
        let mut input = BufReader::with_capacity(1 << 20, file);
        let text = header_text(&mut input).map_err(io)?.map_err(rule)?;
        let header = parse_header(&text).map_err(rule)?;
        if header.fortran && header.shape.len() > 1 {
            return Err(IndexError::NpyFortran { path: path.into() });
        }
        let component = match header.kind.as_str() {
            "<f4" => Component::Single,
            "<f2" => Component::Half,
            _ => return Err(IndexError::NpyType { path: path.into(), found: header.kind }),
        };
        let (rows, columns) = match header.shape[..] {
            [columns] => (1, columns),
            [rows, columns] => (rows, columns),
            _ => return Err(rule("the array has to have one or two dimensions")),
        };
        let columns = usize::try_from(columns).ok().filter(|&c| c > 0 && c <= 1 << 20);
        let columns = columns.ok_or_else(|| rule("a row has 1 to 1048576 components"))?;
        let start = input.stream_position().map_err(io)?;
        let bytes = rows.checked_mul((columns * component.bytes()) as u64);
        if bytes.and_then(|bytes| bytes.checked_add(start)) != Some(length) {
            return Err(rule("the file is not as long as its header says (truncated?)"));
        }
        let buffer = vec![0; columns * component.bytes()];
        Ok(Self { path: path.into(), input, component, rows, columns, left: rows, buffer })
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Components of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Appends up to `most` further rows to `values` and says how many: 0 at the end.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read_rows(&mut self, most: usize, values: &mut Vec<f32>) -> Result<usize, IndexError> {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(most);
        values.reserve(count * self.columns);
        for _ in 0..count {
            let read = self.input.read_exact(&mut self.buffer);
            read.map_err(|e| IndexError::io("reading", &self.path, e))?;
            match self.component {
                Component::Single => {
                    values.extend(self.buffer.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)));
                }
                Component::Half => {
                    let halves = self.buffer.as_chunks().0.iter();
                    values.extend(halves.map(|b| f16::from_le_bytes(*b).to_f32()));
                }
            }
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Reads magic, version and length, and returns the text of the header.
fn header_text(input: &mut impl Read) -> io::Result<Result<Vec<u8>, &'static str>> {
    let short = Ok(Err("it ends within the header"));
    let mut start = Vec::new();
    input.by_ref().take(8).read_to_end(&mut start)?;
    if start.len() < 8 || start[..6] != *MAGIC {
        return Ok(Err("it does not begin as .npy files do"));
    }
    let width = match start[6] {
        1 => 2,
        2 | 3 => 4,
        _ => return Ok(Err("its version is not 1, 2 or 3")),
    };
    let mut length = Vec::new();
    if input.by_ref().take(width).read_to_end(&mut length)? < width as usize {
        return short;
    }
    let length = length.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte));
    if length > MAX_HEADER {
        return Ok(Err("its header is longer than 65535 bytes"));
    }
    let mut text = Vec::new();
    if input.by_ref().take(length as u64).read_to_end(&mut text)? < length {
        return short;
    }
    Ok(Ok(text))
}

#[derive(Debug, PartialEq, Eq)]
struct Header {
    kind: String,
    fortran: bool,
    shape: Vec<u64>,
}

/// Parses `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse_header(text: &[u8]) -> Result<Header, &'static str> {
    let rule = "its header is not a dictionary of descr, fortran_order and shape";
    let mut rest = std::str::from_utf8(text).map_err(|_| rule)?.trim();
    let (mut kind, mut fortran, mut shape) = (None, None, None);
    let inner = rest.strip_prefix('{').and_then(|r| r.strip_suffix('}')).ok_or(rule)?;
    rest = inner.trim_start();
    while !rest.is_empty() {
        let (name, after) = quoted(rest).ok_or(rule)?;
        rest = after.trim_start().strip_prefix(':').ok_or(rule)?.trim_start();
        match name {
            "descr" if kind.is_none() => {
                let (value, after) =
                    quoted(rest).ok_or("the array has fields, and vectors have none")?;
                kind = Some(value.to_owned());
                rest = after;
            }
            "fortran_order" if fortran.is_none() => {
                let (value, after) = match rest.strip_prefix("True") {
                    Some(after) => (true, after),
                    None => (false, rest.strip_prefix("False").ok_or(rule)?),
                };
                fortran = Some(value);
                rest = after;
            }
            "shape" if shape.is_none() => {
                let (value, after) =
                    rest.strip_prefix('(').and_then(|r| r.split_once(')')).ok_or(rule)?;
                shape = Some(sizes(value).ok_or(rule)?);
                rest = after;
            }
            _ => return Err(rule),
        }
        rest = rest.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if rest.is_empty() => rest,
            None => return Err(rule),
        };
    }
    match (kind, fortran, shape) {
        (Some(kind), Some(fortran), Some(shape)) => Ok(Header { kind, fortran, shape }),
        _ => Err(rule),
    }
}

/// Splits a quoted string without escapes from what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| ['\'', '"'].contains(c))?;
    text[1..].split_once(quote).filter(|(inner, _)| !inner.contains('\\'))
}

/// The numbers of a tuple.
fn sizes(text: &str) -> Option<Vec<u64>> {
    let mut parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.last() == Some(&"") {
        parts.pop();
    }
    // Python 2 wrote long integers with an L.
    let number = |part: &str| part.strip_suffix('L').unwrap_or(part).parse().ok();
    (parts.len() <= 32).then(|| parts.into_iter().map(number).collect()).flatten()
}

/// Writes a float32 matrix of `rows` × `columns` row by row.
#[derive(Debug)]
pub struct NpyWriter<W: Write> {
    output: BufWriter<W>,
}

impl<W: Write> NpyWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// What the output says.
    pub fn new(output: W, rows: u64, columns: usize) -> io::Result<Self> {
        let mut output = BufWriter::new(output);
        let mut text =
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
        // The data begins at a multiple of 64, and the header ends with a line feed.
        let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
        text.extend(std::iter::repeat_n(' ', length - text.len() - 1));
        text.push('\n');
        output.write_all(MAGIC)?;
        output.write_all(&[1, 0])?;
        output.write_all(&(length as u16).to_le_bytes())?;
        output.write_all(text.as_bytes())?;
        Ok(Self { output })
    }

    /// Writes a row; the caller keeps to the number and length of rows that were announced.
    ///
    /// # Errors
    /// What the output says.
    pub fn row(&mut self, row: &[f32]) -> io::Result<()> {
        row.iter().try_for_each(|x| self.output.write_all(&x.to_le_bytes()))
    }

    /// Writes what is still in memory, and gives the output back.
    ///
    /// # Errors
    /// What the output says.
    pub fn finish(self) -> io::Result<W> {
        self.output.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(bytes: &[u8]) -> Result<(u64, usize, Vec<f32>), IndexError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        std::fs::write(&path, bytes).unwrap();
        let mut reader = NpyReader::open(&path)?;
        let mut values = Vec::new();
        while reader.read_rows(2, &mut values)? > 0 {}
        Ok((reader.rows(), reader.columns(), values))
    }

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let length = (header.len() as u16).to_le_bytes();
        [&MAGIC[..], &[1, 0], &length, header.as_bytes(), data].concat()
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut writer = NpyWriter::new(Vec::new(), 3, 2).unwrap();
        for row in [[1.0, 2.0], [3.0, 4.0], [5.0, f32::MIN]] {
            writer.row(&row).unwrap();
        }
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes.len(), 128 + 24);
        assert_eq!(open(&bytes).unwrap(), (3, 2, vec![1.0, 2.0, 3.0, 4.0, 5.0, f32::MIN]));
        for length in 0..bytes.len() {
            assert!(matches!(open(&bytes[..length]), Err(IndexError::Npy { .. })), "{length}");
        }
    }

    #[test]
    fn half_precision_and_single_rows_are_read() {
        let header = "{\"shape\":(2L,),'fortran_order':True,'descr':'<f2'}";
        assert_eq!(open(&file(header, &[0, 0x3C, 0, 0xC0])).unwrap(), (1, 2, vec![1.0, -2.0]));
    }

    #[test]
    fn what_is_not_a_matrix_of_floats_is_refused_by_name() {
        let header = |kind: &str, order: &str, shape: &str| {
            file(
                &format!("{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}"),
                &[0; 16],
            )
        };
        let fortran = open(&header("'<f4'", "True", "(2, 2)")).unwrap_err();
        assert!(fortran.to_string().contains("ascontiguousarray"), "{fortran}");
        let double = open(&header("'<f8'", "False", "(1, 2)")).unwrap_err();
        assert!(double.to_string().contains("\"<f8\""), "{double}");
        assert!(double.to_string().contains("astype('float32')"), "{double}");
        for (kind, order, shape) in [
            ("[('a', '<f4')]", "False", "(2, 2)"),
            ("'<f4'", "Maybe", "(2, 2)"),
            ("'<f4'", "False", "(2, -2)"),
            ("'<f4'", "False", "(2, 0)"),
            ("'<f4'", "False", "()"),
            ("'<f4'", "False", "(1, 2, 2)"),
            ("'<f4'", "False", "(18446744073709551615, 4)"),
            ("'<f4'", "False", "((((((((2, 2))))))))"),
        ] {
            let error = open(&header(kind, order, shape)).unwrap_err();
            assert!(matches!(error, IndexError::Npy { .. }), "{kind} {order} {shape}: {error}");
        }
        assert!(open(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}").is_err());
        assert!(open(b"PK\x03\x04 a zip file").is_err());
    }
}
