//! Floats to unsigned 8-bit integers, by row or with given parameters.

use super::scratch::AlignedBytes;
use super::simd::{Vector, entry_points};
use super::{KernelError, Machine};

/// How an unsigned byte stands for a number: `x = scale · (q - zero_point)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantisation {
    /// The step between neighbouring values; positive and normal.
    pub scale: f32,
    /// The byte that stands for zero.
    pub zero_point: u8,
}

impl Quantisation {
    /// The quantisation whose 256 steps cover `low..=high` and zero, as onnxruntime chooses it.
    ///
    /// # Errors
    /// The range is not finite.
    pub fn covering(low: f32, high: f32) -> Result<Self, KernelError> {
        KernelError::check_finite("range end", &[low, high])?;
        let (scale, zero_point) = row_parameters(low.min(0.0), high.max(0.0));
        Ok(Self { scale, zero_point: zero_point as u8 })
    }

    /// Checks that the scale can be divided by.
    pub(crate) fn check(self, what: &'static str) -> Result<(), KernelError> {
        if self.scale.is_normal() && self.scale > 0.0 {
            Ok(())
        } else {
            Err(KernelError::Scale { what, value: self.scale })
        }
    }

    /// The byte nearest to `x`, ties to even, saturated.
    pub fn quantise(self, x: f32) -> u8 {
        (x / self.scale + f32::from(self.zero_point)).round_ties_even().clamp(0.0, 255.0) as u8
    }

    /// The number a byte stands for.
    pub fn dequantise(self, q: u8) -> f32 {
        self.scale * (f32::from(q) - f32::from(self.zero_point))
    }
}

/// Scale and zero point of a row whose values lie in `low..=high`, `low <= 0 <= high`.
#[inline(always)]
fn row_parameters(low: f32, high: f32) -> (f32, f32) {
    // Divided before the difference is taken, so that it cannot overflow.
    let scale = (high / 255.0 - low / 255.0).max(1e-20);
    (scale, (-low / scale).round_ties_even().clamp(0.0, 255.0))
}

/// A matrix quantised row by row, padded to what a machine's tiles read.
#[derive(Debug, Clone, Default)]
pub struct QuantisedRows {
    pub(crate) bytes: AlignedBytes,
    pub(crate) scales: Vec<f32>,
    pub(crate) zero_points: Vec<i32>,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) stride: usize,
}

impl QuantisedRows {
    /// Quantises `x`, rows of `columns` floats, each with a scale and zero point of its own that
    /// cover its smallest and largest value and zero. Memory already held is used again.
    ///
    /// Values that are not finite give unspecified results in their row.
    ///
    /// # Panics
    /// If `x` is not a whole number of rows.
    pub fn quantise(&mut self, machine: Machine, x: &[f32], columns: usize) {
        machine.assert_available();
        assert!(columns > 0 && x.len().is_multiple_of(columns), "not a whole number of rows");
        self.columns = columns;
        self.rows = x.len() / columns;
        self.stride = columns.next_multiple_of(machine.layout().k_group);
        self.scales.resize(self.rows, 0.0);
        self.zero_points.resize(self.rows, 0);
        let bytes = self.bytes.reserve(self.rows * self.stride);
        // SAFETY: the machine is available; the buffers were just sized for these rows.
        unsafe {
            quantise_rows_on(
                machine,
                x.as_ptr(),
                (self.rows, columns, self.stride),
                bytes.as_mut_ptr(),
                self.scales.as_mut_ptr(),
                self.zero_points.as_mut_ptr(),
            );
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The bytes of a row, without padding.
    pub fn row(&self, index: usize) -> &[u8] {
        &self.bytes.as_slice()[index * self.stride..][..self.columns]
    }

    /// Scale and zero point of a row.
    pub fn quantisation(&self, index: usize) -> Quantisation {
        Quantisation { scale: self.scales[index], zero_point: self.zero_points[index] as u8 }
    }
}

/// Quantises `x` with one scale and zero point: `round(x / scale) + zero_point`, saturated.
///
/// The division is a multiplication with the reciprocal.
///
/// # Panics
/// If the lengths differ, or the scale is not a positive normal number.
pub fn quantise_slice(machine: Machine, x: &[f32], to: Quantisation, out: &mut [u8]) {
    machine.assert_available();
    assert_eq!(x.len(), out.len(), "lengths differ");
    assert!(to.check("scale").is_ok(), "scale must be positive and normal");
    let parameters = (1.0 / to.scale, f32::from(to.zero_point));
    // SAFETY: the machine is available, and both slices have the length given.
    unsafe { quantise_on(machine, x.as_ptr(), x.len(), parameters, out.as_mut_ptr()) }
}

/// The smallest and the largest value, and zero if all are on one side of it.
pub fn range_with_zero(machine: Machine, x: &[f32]) -> (f32, f32) {
    machine.assert_available();
    // SAFETY: the machine is available, and the pointer is good for `len` floats.
    unsafe { range_on(machine, x.as_ptr(), x.len()) }
}

entry_points! {
    /// [`QuantisedRows::quantise`] on a machine.
    fn quantise_rows_on(x: *const f32, shape: (usize, usize, usize), out: *mut u8,
        scales: *mut f32, zero_points: *mut i32) = quantise_rows;
    /// [`quantise_slice`] on a machine.
    fn quantise_on(x: *const f32, count: usize, parameters: (f32, f32), out: *mut u8)
        = quantise_any;
    /// [`range_with_zero`] on a machine.
    fn range_on(x: *const f32, count: usize) -> (f32, f32) = range;
}

/// # Safety
/// `x` is readable for `rows * columns` floats, `out` writable for `rows * stride` bytes with
/// `columns <= stride`, the parameter arrays for `rows` elements.
#[inline(always)]
unsafe fn quantise_rows<V: Vector>(
    x: *const f32,
    (rows, columns, stride): (usize, usize, usize),
    out: *mut u8,
    scales: *mut f32,
    zero_points: *mut i32,
) {
    // SAFETY: rows and columns stay within the bounds promised.
    unsafe {
        for row in 0..rows {
            let (x, out) = (x.add(row * columns), out.add(row * stride));
            let (low, high) = range::<V>(x, columns);
            let (scale, zero_point) = row_parameters(low, high);
            quantise_span::<V>(x, columns, (1.0 / scale, zero_point), out, false);
            for i in columns..stride {
                *out.add(i) = 0;
            }
            *scales.add(row) = scale;
            *zero_points.add(row) = zero_point as i32;
        }
    }
}

/// # Safety
/// `x` is readable for `count` floats.
#[inline(always)]
unsafe fn range<V: Vector>(x: *const f32, count: usize) -> (f32, f32) {
    // SAFETY: every access stays below `count`.
    unsafe {
        let (mut low, mut high) = (V::splat(0.0), V::splat(0.0));
        let mut i = 0;
        while i + V::LANES <= count {
            let v = V::load(x.add(i));
            (low, high) = (V::min(low, v), V::max(high, v));
            i += V::LANES;
        }
        if i < count {
            let v = V::load_part(x.add(i), count - i);
            (low, high) = (V::min(low, v), V::max(high, v));
        }
        (V::smallest(low), V::largest(high))
    }
}

/// # Safety
/// `x` is readable for `count` floats, `out` writable for `count` bytes.
#[inline(always)]
unsafe fn quantise_any<V: Vector>(
    x: *const f32,
    count: usize,
    parameters: (f32, f32),
    out: *mut u8,
) {
    // SAFETY: as the caller promises.
    unsafe { quantise_span::<V>(x, count, parameters, out, true) }
}

/// `clamp` asks for values far outside the range of bytes to be saturated.
///
/// # Safety
/// As for [`quantise_any`].
#[inline(always)]
unsafe fn quantise_span<V: Vector>(
    x: *const f32,
    count: usize,
    (inverse, zero_point): (f32, f32),
    out: *mut u8,
    clamp: bool,
) {
    // SAFETY: every access stays below `count`.
    unsafe {
        let parameters = (V::splat(inverse), V::splat(zero_point));
        let range = V::byte_range(0, 255);
        let mut i = 0;
        while i + 4 * V::LANES <= count {
            let p = x.add(i);
            let v = [
                quantise_vector::<V>(V::load(p), parameters, clamp),
                quantise_vector::<V>(V::load(p.add(V::LANES)), parameters, clamp),
                quantise_vector::<V>(V::load(p.add(2 * V::LANES)), parameters, clamp),
                quantise_vector::<V>(V::load(p.add(3 * V::LANES)), parameters, clamp),
            ];
            V::store_u8_four(out.add(i), v, range);
            i += 4 * V::LANES;
        }
        while i < count {
            let n = (count - i).min(V::LANES);
            let v = quantise_vector::<V>(V::load_part(x.add(i), n), parameters, clamp);
            V::store_u8_part(out.add(i), v, range, n);
            i += n;
        }
    }
}

/// # Safety
/// The machine's instructions are enabled.
#[inline(always)]
unsafe fn quantise_vector<V: Vector>(
    v: V::F,
    (inverse, zero_point): (V::F, V::F),
    clamp: bool,
) -> V::I {
    // SAFETY: no pointers here.
    unsafe {
        let v = V::fma(v, inverse, zero_point);
        if clamp {
            // So that no machine meets a number beyond i32.
            V::to_int(V::min(V::max(v, V::splat(-1e6)), V::splat(1e6)))
        } else {
            V::to_int(v)
        }
    }
}
