//! The bytes of a file, as a reader that remembers whether it was asked for more.

use std::cell::Cell;
use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom};
use std::rc::Rc;

/// Decoders report the end of a file in many ways, or as some other damage. Whether they came to
/// it is known here: a decoder that fails after it wanted more bytes has a file that is cut short.
pub(super) struct Source<'a> {
    bytes: Cursor<&'a [u8]>,
    exhausted: Rc<Cell<bool>>,
}

impl<'a> Source<'a> {
    /// A reader, and what becomes true once bytes were wanted beyond the end.
    pub(super) fn new(bytes: &'a [u8]) -> (Self, Rc<Cell<bool>>) {
        let exhausted = Rc::new(Cell::new(false));
        (Self { bytes: Cursor::new(bytes), exhausted: Rc::clone(&exhausted) }, exhausted)
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.exhausted.set(true);
        }
        Ok(count)
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let rest = self.bytes.fill_buf()?;
        if rest.is_empty() {
            self.exhausted.set(true);
        }
        Ok(rest)
    }

    fn consume(&mut self, count: usize) {
        self.bytes.consume(count);
    }
}

impl Seek for Source<'_> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(position)
    }
}
