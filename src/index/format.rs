//! Where each byte of an index lies: the arithmetic of `docs/format.md`.

use crate::index::IndexError;

/// Newest version of the format that this program reads and writes.
pub const FORMAT_VERSION: u32 = 1;
/// Most components of a vector.
pub const MAX_DIMENSION: usize = 4096;
/// Most rows: numbers below this fit 32 bits with room for "none".
pub const MAX_ROWS: u32 = u32::MAX - 1;
/// Longest key in bytes.
pub const MAX_KEY: usize = 65_535;

/// Rows of a block.
pub(crate) const BLOCK: usize = 1024;
/// Bytes of a row's record: where its key is, and the file it came from.
pub(crate) const RECORD: usize = 64;
/// Name of the header file.
pub(crate) const HEAD: &str = "head";
/// Name of the header file while the index is being made.
pub(crate) const NEW_HEAD: &str = "head.new";
/// Name of the file that writers lock.
pub(crate) const LOCK: &str = "lock";

/// The kinds of files that exist once for each generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Blocks of rows.
    Rows,
    /// Key after key.
    Keys,
    /// Tag groups and tombstones.
    Log,
    /// One bit for each component: derived from the rows, and may be missing.
    Sketch,
}

impl Part {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Rows, Self::Keys, Self::Log, Self::Sketch];

    /// The file name in a generation.
    pub fn file_name(self, generation: u64) -> String {
        let stem = match self {
            Self::Rows => "rows",
            Self::Keys => "keys",
            Self::Log => "log",
            Self::Sketch => "sketch",
        };
        format!("{stem}-{generation:06}")
    }

    /// Reads a file name back into kind and generation.
    pub fn parse(name: &str) -> Option<(Self, u64)> {
        let (_, number) = name.split_once('-')?;
        let generation = number.parse().ok()?;
        let part = Self::ALL.into_iter().find(|p| p.file_name(generation) == name)?;
        Some((part, generation))
    }
}

/// The columns of a block, in the order in which they lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// `stride` signed bytes: the components, then zeros.
    Vector,
    /// `f32`: what the components are multiplied by.
    Scale,
    /// `i64`: milliseconds since 1970, or [`NO_TIME`].
    Time,
    /// `u32`: number of the tag group.
    Group,
    /// [`RECORD`] bytes.
    Record,
    /// `u32`: CRC32C of all of the above and of the row's number.
    Check,
}

/// The time of a row that has none.
pub(crate) const NO_TIME: i64 = i64::MIN;

/// Offsets within the rows file, for one dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    dimension: usize,
    stride: usize,
}

impl Layout {
    /// The columns in file order.
    pub const COLUMNS: [Column; 6] =
        [Column::Vector, Column::Scale, Column::Time, Column::Group, Column::Record, Column::Check];

    /// The layout for vectors of `dimension` components.
    pub fn new(dimension: usize) -> Result<Self, IndexError> {
        if dimension == 0 || dimension > MAX_DIMENSION {
            return Err(IndexError::DimensionLimit { most: MAX_DIMENSION, found: dimension });
        }
        Ok(Self { dimension, stride: dimension.next_multiple_of(64) })
    }

    /// Components of a vector.
    pub fn dimension(self) -> usize {
        self.dimension
    }

    /// Bytes from one vector to the next: a multiple of 64.
    pub fn stride(self) -> usize {
        self.stride
    }

    /// Bytes of one row's entry in a column.
    pub fn width(self, column: Column) -> usize {
        match column {
            Column::Vector => self.stride,
            Column::Scale | Column::Group | Column::Check => 4,
            Column::Time => 8,
            Column::Record => RECORD,
        }
    }

    /// Bytes of a block: a multiple of 4096.
    pub fn block_bytes(self) -> usize {
        Self::COLUMNS.iter().map(|&column| self.width(column)).sum::<usize>() * BLOCK
    }

    /// Where a column begins within its block.
    pub fn column_start(self, column: Column) -> usize {
        let before = Self::COLUMNS.iter().take_while(|&&other| other != column);
        before.map(|&other| self.width(other)).sum::<usize>() * BLOCK
    }

    /// Where a row's entry in a column begins in the file.
    pub fn offset(self, column: Column, row: u32) -> u64 {
        let (block, within) = (row as usize / BLOCK, row as usize % BLOCK);
        block as u64 * self.block_bytes() as u64
            + (self.column_start(column) + within * self.width(column)) as u64
    }

    /// Least length of a file that holds `rows` rows: whole blocks.
    pub fn file_bytes(self, rows: u32) -> u64 {
        (rows as u64).div_ceil(BLOCK as u64) * self.block_bytes() as u64
    }
}

/// Reads a little-endian number at `at`; the caller has checked the length.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Reads a little-endian number at `at`; the caller has checked the length.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_follow_each_other_without_gaps() {
        for dimension in [1, 63, 64, 65, 384, 512, 4096] {
            let layout = Layout::new(dimension).unwrap();
            let mut end = 0;
            for column in Layout::COLUMNS {
                assert_eq!(layout.column_start(column), end);
                assert_eq!(end % 4096, 0, "{column:?} of {dimension}");
                end += layout.width(column) * BLOCK;
            }
            assert_eq!(layout.block_bytes(), end);
            assert_eq!(layout.file_bytes(1025), 2 * end as u64);
            assert_eq!(layout.offset(Column::Vector, 1024), end as u64);
        }
        assert!(Layout::new(0).is_err());
        assert!(Layout::new(MAX_DIMENSION + 1).is_err());
    }

    #[test]
    fn file_names_read_back() {
        for part in Part::ALL {
            for generation in [1, 999_999, 1_000_000] {
                let name = part.file_name(generation);
                assert_eq!(Part::parse(&name), Some((part, generation)));
            }
        }
        assert_eq!(Part::parse("rows-1"), None);
        assert_eq!(Part::parse("holiday-000001"), None);
    }
}
