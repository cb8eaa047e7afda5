//! Working memory that is allocated once and used again.

/// One cache line, the unit of aligned memory.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes that start on a cache line.
#[derive(Debug, Clone, Default)]
pub struct AlignedBytes {
    lines: Vec<Line>,
    length: usize,
}

impl AlignedBytes {
    /// `length` zero bytes.
    pub fn zeroed(length: usize) -> Self {
        Self { lines: vec![Line([0; 64]); length.div_ceil(64)], length }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `lines` holds at least `length` initialised bytes; u8 has no alignment.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }

    /// The bytes, writable.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }

    /// Makes room for `length` bytes; what they hold is unspecified, but initialised.
    pub fn reserve(&mut self, length: usize) -> &mut [u8] {
        if self.lines.len() * 64 < length {
            self.lines.resize(length.div_ceil(64), Line([0; 64]));
        }
        self.length = length;
        self.as_mut_slice()
    }

    /// Makes room for `length` numbers; what they hold is unspecified, but initialised.
    pub fn reserve_f32(&mut self, length: usize) -> &mut [f32] {
        let bytes = self.reserve(length.checked_mul(4).expect("scratch size overflows"));
        // SAFETY: cache lines are aligned for f32, any bit pattern is an f32, and `reserve`
        // returned exactly 4 * length bytes.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), length) }
    }
}

/// Working memory of one thread, handed to every kernel that needs some.
///
/// It grows to the largest size asked for and keeps it, so that a network which ran once does
/// not allocate again.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    pub(crate) rows: super::QuantisedRows,
    pub(crate) bytes: AlignedBytes,
    pub(crate) padded: AlignedBytes,
    pub(crate) numbers: AlignedBytes,
}

impl Scratch {
    /// Empty working memory.
    pub fn new() -> Self {
        Self::default()
    }
}
