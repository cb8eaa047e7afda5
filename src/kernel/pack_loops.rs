//! The inner loops of packing weights: plain code, compiled a second time for processors with AVX2, where loading a
//! model takes less time so.

use super::pack::LOWEST;

/// Compiles a function twice and picks one at run time.
macro_rules! widened {
    ($(#[$meta:meta])* fn $name:ident $([const $g:ident: usize])? ($($arg:ident: $type:ty),*) $(-> $result:ty)?
        = $plain:ident;) => {
        $(#[$meta])*
        #[inline(never)] // Within a caller it might not be made into vector code.
        pub(super) fn $name $(<const $g: usize>)? ($($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide $(<const $g: usize>)? ($($arg: $type),*) $(-> $result)? {
                    $plain($($arg),*)
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor was just seen to have the instructions.
                    return unsafe { wide($($arg),*) };
                }
            }
            $plain($($arg),*)
        }
    };
}

widened! {
    /// Adds weights to the sums of their columns; gives whether none is -128.
    fn add_row(row: &[u8], flip: u8, sums: &mut [i16]) -> bool = add_row_plain;
}

widened! {
    /// The sum of at most [`super::pack::BLOCK`] weights, and whether none is -128.
    fn sum_of(row: &[u8], flip: u8) -> (i32, bool) = sum_of_plain;
}

widened! {
    /// Rows to columns.
    fn interleave[const G: usize](rows: [&[u8]; G], flip: u8, to: &mut [[u8; G]]) = interleave_plain;
}

#[inline(always)]
fn add_row_plain(row: &[u8], flip: u8, sums: &mut [i16]) -> bool {
    let mut found = 0;
    for (sum, byte) in sums.iter_mut().zip(row) {
        *sum += i16::from((byte ^ flip) as i8);
        found |= u8::from(byte ^ flip == LOWEST);
    }
    found == 0
}

#[inline(always)]
fn sum_of_plain(row: &[u8], flip: u8) -> (i32, bool) {
    let sum: i16 = row.iter().map(|byte| i16::from((byte ^ flip) as i8)).sum();
    let found = row.iter().fold(0, |found, byte| found | u8::from(byte ^ flip == LOWEST));
    (i32::from(sum), found == 0)
}

#[inline(always)]
fn interleave_plain<const G: usize>(rows: [&[u8]; G], flip: u8, to: &mut [[u8; G]]) {
    // One length for all, so that the loop needs no checks.
    let rows = rows.map(|row| &row[..to.len()]);
    for (column, to) in to.iter_mut().enumerate() {
        for (g, to) in to.iter_mut().enumerate() {
            *to = rows[g][column] ^ flip;
        }
    }
}
