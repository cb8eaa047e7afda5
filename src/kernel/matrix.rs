//! Views of row-major matrices with a row stride, which can be split for several threads.

use std::marker::PhantomData;

/// A read-only matrix inside a slice: row `i` starts at element `i * stride`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A matrix of `rows` × `columns` in `data`, `stride` elements from row to row.
    ///
    /// A stride of 0 repeats one row.
    ///
    /// # Panics
    /// If the slice is too short.
    pub fn new(data: &'a [T], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(needed(rows, columns, stride) <= data.len(), "matrix exceeds its slice");
        Self { data, rows, columns, stride }
    }

    /// A matrix whose rows follow one another.
    pub fn dense(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self::new(data, rows, columns, columns)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Elements from the start of a row to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `index`.
    pub fn row(&self, index: usize) -> &'a [T] {
        assert!(index < self.rows, "row out of range");
        &self.data[index * self.stride..][..self.columns]
    }

    pub(crate) fn as_ptr(&self) -> *const T {
        self.data.as_ptr()
    }
}

/// A writable matrix inside a slice, which may be split by rows or by columns.
#[derive(Debug)]
pub struct MatrixMut<'a, T> {
    data: *mut T,
    rows: usize,
    columns: usize,
    stride: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: a MatrixMut is an exclusive borrow of its elements, as &mut [T] is.
unsafe impl<T: Send> Send for MatrixMut<'_, T> {}
// SAFETY: a shared MatrixMut gives no access to its elements.
unsafe impl<T: Sync> Sync for MatrixMut<'_, T> {}

impl<'a, T> MatrixMut<'a, T> {
    /// A matrix of `rows` × `columns` in `data`, `stride` elements from row to row.
    ///
    /// # Panics
    /// If the slice is too short, or rows overlap (`stride < columns` with several rows).
    pub fn new(data: &'a mut [T], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(needed(rows, columns, stride) <= data.len(), "matrix exceeds its slice");
        assert!(rows <= 1 || stride >= columns, "rows of a writable matrix overlap");
        Self { data: data.as_mut_ptr(), rows, columns, stride, lifetime: PhantomData }
    }

    /// A matrix whose rows follow one another.
    pub fn dense(data: &'a mut [T], rows: usize, columns: usize) -> Self {
        Self::new(data, rows, columns, columns)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Elements from the start of a row to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The same matrix for a shorter time.
    pub fn reborrow(&mut self) -> MatrixMut<'_, T> {
        MatrixMut { lifetime: PhantomData, ..*self }
    }

    /// Splits before row `row`.
    pub fn split_rows(self, row: usize) -> (Self, Self) {
        assert!(row <= self.rows, "row out of range");
        // A matrix without rows has no address of its own: keep it inside the slice.
        let step = if row < self.rows { row * self.stride } else { 0 };
        // SAFETY: row < rows, so its start lies inside the slice.
        let below = Self { data: unsafe { self.data.add(step) }, rows: self.rows - row, ..self };
        (Self { rows: row, ..self }, below)
    }

    /// Splits before column `column`: two views of disjoint columns, for two threads.
    pub fn split_columns(self, column: usize) -> (Self, Self) {
        assert!(column <= self.columns, "column out of range");
        let step = if self.rows == 0 { 0 } else { column };
        // SAFETY: column <= columns, so the address is in or one past the first row.
        let right =
            Self { data: unsafe { self.data.add(step) }, columns: self.columns - column, ..self };
        (Self { columns: column, ..self }, right)
    }

    /// Row `index`.
    pub fn row(&mut self, index: usize) -> &mut [T] {
        assert!(index < self.rows, "row out of range");
        // SAFETY: construction checked that row `index` lies inside the slice borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(index * self.stride), self.columns) }
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.data
    }
}

/// Elements a matrix reaches over, saturating where the product overflows.
fn needed(rows: usize, columns: usize, stride: usize) -> usize {
    match rows.checked_sub(1) {
        None => 0,
        Some(last) => last.saturating_mul(stride).saturating_add(columns),
    }
}
