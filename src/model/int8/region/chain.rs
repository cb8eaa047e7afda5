//! Running a chain of layers, a few rows at a time.
//!
//! Of each picture between two layers only the rows are held that the next layer still looks
//! at, so the large pictures inside of a chain stay in the cache.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use crate::kernel::{AlignedBytes, Band, Machine, Quantisation, Scratch, add_assign};

use super::super::{crew, parallel};
use super::draft::Size;
use super::program::{Form, Layer, Operation, Picture, PictureId};

/// Bytes of rows between layers that are held at a time, about a second-level cache's worth with
/// room for weights.
const BAND_BYTES: usize = 160 << 10;

/// Threads that get fewer rows than this would compute too many rows twice where layers look at
/// neighbouring rows: they share the rows of each layer instead.
const FEWEST_ROWS: usize = 16;

/// A picture's memory, to be read.
#[derive(Debug, Clone, Copy)]
pub(super) enum View<'a> {
    Bytes(&'a [u8], Quantisation),
    Floats(&'a [f32]),
}

/// A picture's memory, to be written.
#[derive(Debug)]
pub(super) enum ViewMut<'a> {
    Bytes(&'a mut [u8]),
    Floats(&'a mut [f32]),
}

impl<'a> View<'a> {
    fn elements(self, range: Range<usize>) -> View<'a> {
        match self {
            View::Bytes(data, quantisation) => View::Bytes(&data[range], quantisation),
            View::Floats(data) => View::Floats(&data[range]),
        }
    }
}

impl<'a> ViewMut<'a> {
    fn split_at(self, middle: usize) -> (Self, Self) {
        match self {
            ViewMut::Bytes(data) => {
                let (left, right) = data.split_at_mut(middle);
                (ViewMut::Bytes(left), ViewMut::Bytes(right))
            }
            ViewMut::Floats(data) => {
                let (left, right) = data.split_at_mut(middle);
                (ViewMut::Floats(left), ViewMut::Floats(right))
            }
        }
    }

    fn range(&mut self, range: Range<usize>) -> ViewMut<'_> {
        match self {
            ViewMut::Bytes(data) => ViewMut::Bytes(&mut data[range]),
            ViewMut::Floats(data) => ViewMut::Floats(&mut data[range]),
        }
    }
}

/// Some rows of a picture between two layers.
#[derive(Debug, Default)]
struct Rows {
    first: usize,
    end: usize,
    bytes: AlignedBytes,
    floats: Vec<f32>,
}

impl Rows {
    /// Lets go of the rows before `needed` and makes room up to its end; gives the rows to compute.
    fn advance(&mut self, needed: &Range<usize>, row: usize, form: Form) -> Range<usize> {
        let kept = self.end.saturating_sub(needed.start);
        // Nothing is kept where a thread begins in the middle of the picture.
        let skipped = if kept > 0 { needed.start.max(self.first) - self.first } else { 0 };
        let (from, to) = (skipped * row, kept * row);
        let room = needed.len().max(kept) * row;
        if form == Form::Floats {
            if self.floats.len() < room {
                self.floats.resize(room, 0.0);
            }
            self.floats.copy_within(from..from + to, 0);
        } else {
            // Growing keeps what is held.
            let held = self.bytes.as_slice().len();
            self.bytes.reserve(room.max(held)).copy_within(from..from + to, 0);
        }
        let start = if kept > 0 { self.end } else { needed.start };
        self.first = needed.start;
        self.end = needed.end.max(start);
        start..self.end
    }

    fn view(&self, row: usize, form: Form) -> View<'_> {
        let held = (self.end - self.first) * row;
        match form {
            Form::Bytes(quantisation) => View::Bytes(&self.bytes.as_slice()[..held], quantisation),
            _ => View::Floats(&self.floats[..held]),
        }
    }

    fn writable(&mut self, rows: &Range<usize>, row: usize, form: Form) -> ViewMut<'_> {
        let range = (rows.start - self.first) * row..(rows.end - self.first) * row;
        match form {
            Form::Floats => ViewMut::Floats(&mut self.floats[range]),
            _ => ViewMut::Bytes(&mut self.bytes.as_mut_slice()[range]),
        }
    }
}

thread_local! {
    static ROWS: Cell<Vec<Rows>> = const { Cell::new(Vec::new()) };
}

/// What a chain runs on.
pub(super) struct Job<'a> {
    pub machine: Machine,
    pub layers: &'a [Layer],
    pub pictures: &'a [Picture],
    pub input: View<'a>,
    /// The residual of each layer that has one, a whole picture.
    pub residuals: Vec<Option<View<'a>>>,
}

impl Job<'_> {
    fn size(&self, picture: PictureId) -> Size {
        self.pictures[picture].size
    }

    fn row(&self, picture: PictureId) -> usize {
        self.size(picture).width * self.size(picture).channels
    }

    /// Multiply-adds of the chain.
    pub fn work(&self) -> usize {
        let of = |layer: &Layer| {
            let window = layer.operation.window();
            let taps = window.kernel[0] * window.kernel[1];
            let inputs = match layer.operation {
                Operation::Depthwise { .. }
                | Operation::DepthwiseToFloats { .. }
                | Operation::DepthwiseFloats { .. } => 8,
                _ => self.size(layer.input).channels,
            };
            self.size(layer.output).elements() * taps * inputs
        };
        self.layers.iter().map(of).sum()
    }

    /// Whether `threads` threads should share the rows of each layer, one layer after the other.
    pub fn runs_layer_by_layer(&self, threads: usize) -> bool {
        let rows = self.size(self.layers[self.layers.len() - 1].output).height;
        threads > 1 && self.layers.len() > 1 && rows < threads * FEWEST_ROWS
    }

    /// Runs the chain on as many threads of the present pool.
    pub fn run(&self, out: ViewMut, threads: usize) {
        let last = self.layers[self.layers.len() - 1].output;
        let height = self.size(last).height;
        if threads == 1 {
            return self.run_rows(0..height, out);
        }
        if self.layers.len() == 1 && is_pixelwise(&self.layers[0]) {
            return self.run_pixels(out, threads);
        }
        let mut tasks = Vec::new();
        let mut rest = out;
        for rows in parallel::share(height, 1, threads) {
            let (mine, below) = rest.split_at(rows.len() * self.row(last));
            tasks.push((rows, mine));
            rest = below;
        }
        crew::for_each(tasks.into_par_iter(), |(rows, out)| self.run_rows(rows, out));
    }

    /// A single layer that looks at one pixel at a time: threads share its pixels.
    fn run_pixels(&self, out: ViewMut, threads: usize) {
        let layer = &self.layers[0];
        let (input, output) = (self.size(layer.input), self.size(layer.output));
        let mut tasks = Vec::new();
        let mut rest = out;
        for pixels in parallel::share(output.pixels(), 8, threads) {
            let (mine, below) = rest.split_at(pixels.len() * output.channels);
            tasks.push((pixels, mine));
            rest = below;
        }
        crew::for_each(tasks.into_par_iter(), |(pixels, out)| {
            let of = |channels: usize| pixels.start * channels..pixels.end * channels;
            let size = Size { height: pixels.len(), width: 1, channels: input.channels };
            let input = self.input.elements(of(input.channels));
            let residual = self.residuals[0].map(|r| r.elements(of(output.channels)));
            parallel::with_scratch(|scratch| {
                run_layer(
                    self.machine,
                    layer,
                    (input, 0, size),
                    residual,
                    0..pixels.len(),
                    out,
                    scratch,
                );
            });
        });
    }

    /// Computes some rows of the chain's result on this thread.
    fn run_rows(&self, rows: Range<usize>, mut out: ViewMut) {
        let mut held = ROWS.take();
        held.resize_with(held.len().max(self.layers.len()), Rows::default);
        held.iter_mut().for_each(|rows| (rows.first, rows.end) = (0, 0));
        parallel::with_scratch(|scratch| {
            let step = self.block_rows();
            let row = self.row(self.layers[self.layers.len() - 1].output);
            let mut start = rows.start;
            while start < rows.end {
                let end = (start + step).min(rows.end);
                let range = (start - rows.start) * row..(end - rows.start) * row;
                self.run_block(start..end, out.range(range), &mut held, scratch);
                start = end;
            }
        });
        ROWS.set(held);
    }

    /// How many rows of the result to compute at a time.
    fn block_rows(&self) -> usize {
        let between = &self.layers[..self.layers.len() - 1];
        let bytes = |layer: &Layer| {
            let size = if self.pictures[layer.output].form == Form::Floats { 4 } else { 1 };
            self.row(layer.output) * size
        };
        let row: usize = between.iter().map(bytes).sum();
        match BAND_BYTES.checked_div(row) {
            Some(rows) => rows.max(2),
            None => usize::MAX / 2,
        }
    }

    /// Computes a block of rows of the result, and before it the rows it needs of each layer.
    fn run_block(
        &self,
        rows: Range<usize>,
        mut out: ViewMut,
        held: &mut [Rows],
        scratch: &mut Scratch,
    ) {
        let last = self.layers.len() - 1;
        // What is needed of the output of each layer.
        let mut needed = vec![rows; self.layers.len()];
        for i in (0..last).rev() {
            let next = &self.layers[i + 1];
            let height = self.size(next.input).height;
            needed[i] = next.operation.window().input_rows(needed[i + 1].clone(), height);
        }
        for (i, layer) in self.layers.iter().enumerate() {
            let (before, here) = held.split_at_mut(i);
            let (input, first_row) = match before.last() {
                None => (self.input, 0),
                Some(rows) => {
                    let form = self.pictures[layer.input].form;
                    (rows.view(self.row(layer.input), form), rows.first)
                }
            };
            let source = (input, first_row, self.size(layer.input));
            let row = self.row(layer.output);
            let residual = |rows: &Range<usize>| {
                self.residuals[i].map(|r| r.elements(rows.start * row..rows.end * row))
            };
            if i == last {
                let rows = needed[i].clone();
                let all = match &out {
                    ViewMut::Bytes(data) => data.len(),
                    ViewMut::Floats(data) => data.len(),
                };
                let residual = residual(&rows);
                run_layer(self.machine, layer, source, residual, rows, out.range(0..all), scratch);
            } else {
                let form = self.pictures[layer.output].form;
                let rows = here[0].advance(&needed[i], row, form);
                if !rows.is_empty() {
                    let residual = residual(&rows);
                    let out = here[0].writable(&rows, row, form);
                    run_layer(self.machine, layer, source, residual, rows, out, scratch);
                }
            }
        }
    }
}

/// Whether each pixel of the result depends on one pixel of the input.
fn is_pixelwise(layer: &Layer) -> bool {
    let window = layer.operation.window();
    window.kernel == [1, 1] && window.stride == [1, 1]
}

/// Computes rows of one layer. `input` holds its rows from `first_row` on; `residual` and `out`
/// hold the rows computed.
fn run_layer(
    machine: Machine,
    layer: &Layer,
    (input, first_row, size): (View, usize, Size),
    residual: Option<View>,
    rows: Range<usize>,
    out: ViewMut,
    scratch: &mut Scratch,
) {
    fn band<T>(data: &[T], first_row: usize, size: Size) -> Band<'_, T> {
        let Size { height, width, channels } = size;
        Band { data, first_row, height, width, channels }
    }
    let residual_bytes = match residual {
        Some(View::Bytes(data, _)) => Some(data),
        _ => None,
    };
    let residual_floats = match residual {
        Some(View::Floats(data)) => Some(data),
        _ => None,
    };
    match (&layer.operation, input, out) {
        (Operation::Convolution { kernel, plan }, View::Bytes(data, _), ViewMut::Bytes(out)) => {
            let input = band(data, first_row, size);
            kernel.run(input, plan, rows, residual_bytes, out, scratch);
        }
        (Operation::Depthwise { kernel, plan }, View::Bytes(data, _), ViewMut::Bytes(out)) => {
            kernel.run(band(data, first_row, size), plan, rows, out, scratch);
        }
        (
            Operation::ConvolutionToFloats { kernel, activation },
            View::Bytes(data, quantisation),
            ViewMut::Floats(out),
        ) => {
            let input = band(data, first_row, size);
            kernel.run_to_float(input, quantisation, *activation, rows, out, scratch);
            if let Some(residual) = residual_floats {
                add_assign(machine, out, residual);
            }
        }
        (
            Operation::DepthwiseToFloats { kernel, activation },
            View::Bytes(data, quantisation),
            ViewMut::Floats(out),
        ) => {
            let input = band(data, first_row, size);
            kernel.run_to_float(input, quantisation, *activation, rows, out, scratch);
        }
        (Operation::Pointwise { kernel, activation }, View::Floats(data), ViewMut::Floats(out)) => {
            let row = size.width * size.channels;
            let data = &data[(rows.start - first_row) * row..(rows.end - first_row) * row];
            kernel.forward(data, *activation, residual_floats, out, scratch);
        }
        (
            Operation::DepthwiseFloats { kernel, activation },
            View::Floats(data),
            ViewMut::Floats(out),
        ) => {
            kernel.run(band(data, first_row, size), *activation, rows, out);
        }
        _ => unreachable!("the builder gives each operation pictures of the forms it takes"),
    }
}
