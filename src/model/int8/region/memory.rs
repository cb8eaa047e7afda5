//! Memory of pictures while a region runs.

use crate::kernel::{AlignedBytes, Quantisation};

use super::chain::{View, ViewMut};
use super::program::{Form, Picture};

/// Memory of pictures, used again from run to run.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    bytes: Vec<AlignedBytes>,
    floats: Vec<Vec<f32>>,
}

/// A picture while the program runs.
#[derive(Debug)]
pub(super) enum Data {
    Bytes(AlignedBytes, Quantisation),
    Floats(Vec<f32>),
}

impl Workspace {
    /// Memory for a picture. Bytes measured later have a quantisation of 1 until then.
    pub fn take(&mut self, picture: &Picture) -> Data {
        let length = picture.size.elements();
        let quantisation = match picture.form {
            Form::Bytes(quantisation) => quantisation,
            _ => Quantisation { scale: 1.0, zero_point: 0 },
        };
        if picture.form == Form::Floats {
            let mut floats = best(&mut self.floats, length, Vec::capacity).unwrap_or_default();
            floats.resize(length, 0.0);
            return Data::Floats(floats);
        }
        let held = |bytes: &AlignedBytes| bytes.as_slice().len();
        let mut bytes = best(&mut self.bytes, length, held).unwrap_or_default();
        bytes.reserve(length.max(held(&bytes)));
        Data::Bytes(bytes, quantisation)
    }

    pub fn give_back(&mut self, data: Data) {
        match data {
            Data::Bytes(bytes, _) => self.bytes.push(bytes),
            Data::Floats(floats) => self.floats.push(floats),
        }
    }
}

/// Takes the smallest buffer of at least `length`, or else the largest.
fn best<T>(free: &mut Vec<T>, length: usize, size: impl Fn(&T) -> usize) -> Option<T> {
    let fits =
        (0..free.len()).filter(|i| size(&free[*i]) >= length).min_by_key(|i| size(&free[*i]));
    let found = fits.or_else(|| (0..free.len()).max_by_key(|i| size(&free[*i])));
    found.map(|at| free.swap_remove(at))
}

impl Data {
    pub fn view(&self, length: usize) -> View<'_> {
        match self {
            Data::Bytes(bytes, quantisation) => {
                View::Bytes(&bytes.as_slice()[..length], *quantisation)
            }
            Data::Floats(floats) => View::Floats(&floats[..length]),
        }
    }

    pub fn writable(&mut self, length: usize) -> ViewMut<'_> {
        match self {
            Data::Bytes(bytes, _) => ViewMut::Bytes(&mut bytes.as_mut_slice()[..length]),
            Data::Floats(floats) => ViewMut::Floats(&mut floats[..length]),
        }
    }
}
