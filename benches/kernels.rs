//! Multiply-add rates of the kernels, and what share of the processor's peak they are.
//!
//!     cargo bench --bench kernels [-- FILTER]
//!
//! Prints a table first, then lets criterion time the same. Every kernel's answer is compared with
//! the scalar reference's before it is timed: bytes and integers must be equal, floats close.
//! `SEXTANT_KERNELS` picks other kernels; one thread. The shapes are those of the towers that
//! `docs/performance.md` speaks of.
//!
//! This uses `sextant::kernel`, which is public for this purpose only (and hidden from the
//! documentation): a tower's time cannot tell a kernel's.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use sextant::bench::{Budget, Timing};
use sextant::kernel::{
    Activation, Band, Convolution, Depthwise, DotQueries, Linear, Machine, Mask, Matrix, MatrixMut,
    Quantisation, Scratch, StaticOutput, Window, attention, peak_multiply_adds,
};

/// A kernel with its operands, ready to run again and again.
trait Work {
    fn run(&mut self);
    fn result(&self) -> Vec<f64>;
}

struct Prepared<T, F> {
    out: Vec<T>,
    scratch: Scratch,
    run: F,
}

impl<T: Copy + Into<f64>, F: FnMut(&mut [T], &mut Scratch)> Work for Prepared<T, F> {
    fn run(&mut self) {
        (self.run)(&mut self.out, &mut self.scratch);
    }

    fn result(&self) -> Vec<f64> {
        self.out.iter().map(|&value| value.into()).collect()
    }
}

fn prepared<T: Copy + Default + Into<f64> + 'static>(
    length: usize,
    run: impl FnMut(&mut [T], &mut Scratch) + 'static,
) -> Box<dyn Work> {
    Box::new(Prepared { out: vec![T::default(); length], scratch: Scratch::new(), run })
}

struct Case {
    name: String,
    multiply_adds: usize,
    /// Largest difference from the reference, as a share of its largest value.
    tolerance: f64,
    prepare: Box<dyn Fn(Machine) -> Box<dyn Work>>,
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 37 % 251) as u8).collect()
}

fn weights(count: usize) -> Vec<i8> {
    (0..count).map(|i| ((i * 41 % 255) as i32 - 127) as i8).collect()
}

fn floats(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i * 41 % 255) as f32 / 100.0 - 1.2).collect()
}

const INPUT: Quantisation = Quantisation { scale: 0.01, zero_point: 120 };
const OUTPUT: StaticOutput = StaticOutput {
    quantisation: Quantisation { scale: 0.02, zero_point: 0 },
    range: (0.0, 5.0),
    residual: None,
};

/// A layer of a transformer: floats in, quantised row by row, floats out.
fn linear(rows: usize, inputs: usize, outputs: usize, activation: Activation) -> Case {
    let prepare = move |machine| {
        let scales = vec![1e-4; outputs];
        let layer = Linear::new(
            machine,
            &weights(outputs * inputs),
            outputs,
            inputs,
            &scales,
            Some(&vec![0.1; outputs]),
        )
        .expect("a sound layer");
        let x = floats(rows * inputs);
        prepared(rows * outputs, move |out, scratch| {
            layer.forward(&x, activation, None, out, scratch);
        })
    };
    Case {
        name: format!("linear {rows}×{inputs}→{outputs}, {activation:?}"),
        multiply_adds: rows * inputs * outputs,
        tolerance: 1e-5,
        prepare: Box::new(prepare),
    }
}

/// A 1×1 convolution: bytes in, bytes out.
fn pointwise(side: usize, inputs: usize, outputs: usize) -> Case {
    let rows = side * side;
    let prepare = move |machine| {
        let scales = vec![1e-3; outputs];
        let layer =
            Linear::new(machine, &weights(outputs * inputs), outputs, inputs, &scales, None)
                .expect("a sound layer");
        let plan = layer.requantisation(INPUT, OUTPUT).expect("sound scales");
        let x = bytes(rows * inputs);
        prepared(rows * outputs, move |out, scratch| {
            layer.forward_static(&x, &plan, None, out, scratch);
        })
    };
    Case {
        name: format!("pointwise {side}² {inputs}→{outputs}"),
        multiply_adds: rows * inputs * outputs,
        tolerance: 0.0,
        prepare: Box::new(prepare),
    }
}

/// A first layer: bytes in, bytes out.
fn convolution(side: usize, outputs: usize, kernel: usize, stride: usize) -> Case {
    const CHANNELS: usize = 3;
    let window = match kernel {
        3 => Window::same(3, stride, side, side),
        _ => Window::square(kernel, stride, 0),
    };
    let (height, width) = window.output(side, side);
    let taps = kernel * kernel * CHANNELS;
    let prepare = move |machine| {
        let scales = vec![1e-3; outputs];
        let layer = Convolution::new(
            machine,
            &weights(outputs * taps),
            outputs,
            CHANNELS,
            window,
            &scales,
            None,
        )
        .expect("a sound layer");
        let plan = layer.requantisation(INPUT, OUTPUT).expect("sound scales");
        let x = bytes(side * side * CHANNELS);
        prepared(height * width * outputs, move |out, scratch| {
            let picture = Band::whole(&x, side, side, CHANNELS);
            layer.run(picture, &plan, 0..height, None, out, scratch);
        })
    };
    Case {
        name: format!("convolution {kernel}×{kernel} stride {stride}, {side}² 3→{outputs}"),
        multiply_adds: height * width * outputs * taps,
        tolerance: 0.0,
        prepare: Box::new(prepare),
    }
}

fn depthwise(side: usize, channels: usize, kernel: usize, stride: usize) -> Case {
    let window = Window::same(kernel, stride, side, side);
    let (height, width) = window.output(side, side);
    let taps = kernel * kernel;
    let prepare = move |machine| {
        let scales = vec![1e-3; channels];
        let layer =
            Depthwise::new(machine, &weights(taps * channels), channels, window, &scales, None)
                .expect("a sound layer");
        let plan = layer.requantisation(INPUT, OUTPUT).expect("sound scales");
        let x = bytes(side * side * channels);
        prepared(height * width * channels, move |out, scratch| {
            layer.run(Band::whole(&x, side, side, channels), &plan, 0..height, out, scratch);
        })
    };
    Case {
        name: format!("depthwise {kernel}×{kernel} stride {stride}, {side}² ×{channels}"),
        multiply_adds: height * width * channels * taps,
        tolerance: 0.0,
        prepare: Box::new(prepare),
    }
}

/// All heads of a layer, one after another; in single precision.
fn attention_case(sequence: usize, heads: usize, size: usize, causal: bool) -> Case {
    let width = heads * size;
    let prepare = move |machine| {
        let [q, k, v] = [1, 2, 3].map(|n| {
            let mut values = floats(sequence * width + n);
            values.drain(..n);
            values
        });
        prepared(sequence * width, move |out: &mut [f32], scratch| {
            for head in (0..width).step_by(size) {
                let [q, k, v] =
                    [&q, &k, &v].map(|x| Matrix::new(&x[head..], sequence, size, width));
                let mask = if causal { Mask::Causal } else { Mask::None };
                let out = MatrixMut::new(&mut out[head..], sequence, size, width);
                attention(machine, q, k, v, 0.125, mask, out, scratch);
            }
        })
    };
    let mask = if causal { "causal" } else { "no mask" };
    Case {
        name: format!("attention f32, {sequence} tokens, {heads} heads of {size}, {mask}"),
        multiply_adds: 2 * sequence * sequence * width,
        tolerance: 1e-5,
        prepare: Box::new(prepare),
    }
}

/// Rows of an index with some queries.
fn scan(rows: usize, dimension: usize, queries: usize) -> Case {
    let prepare = move |machine| {
        let prepared_queries = DotQueries::new(machine, &weights(queries * dimension), dimension);
        let data = weights(rows * dimension);
        prepared(rows * queries, move |out, scratch| prepared_queries.dot_rows(&data, out, scratch))
    };
    Case {
        name: format!("scan of {rows} rows of {dimension}, {queries} queries"),
        multiply_adds: rows * dimension * queries,
        tolerance: 0.0,
        prepare: Box::new(prepare),
    }
}

fn cases() -> Vec<Case> {
    vec![
        linear(50, 768, 2304, Activation::None),
        linear(50, 768, 3072, Activation::QuickGelu),
        linear(50, 3072, 768, Activation::None),
        linear(197, 256, 1024, Activation::GeluErf),
        linear(197, 1024, 256, Activation::None),
        linear(16, 384, 1536, Activation::GeluErf),
        linear(16, 1536, 384, Activation::None),
        linear(1, 1280, 1024, Activation::None),
        pointwise(130, 16, 96),
        pointwise(65, 24, 144),
        pointwise(65, 144, 24),
        pointwise(33, 48, 288),
        pointwise(17, 120, 720),
        pointwise(17, 720, 120),
        pointwise(9, 208, 1248),
        pointwise(9, 1248, 208),
        convolution(260, 32, 3, 2),
        convolution(224, 768, 32, 32),
        convolution(224, 256, 16, 16),
        depthwise(130, 32, 3, 1),
        depthwise(130, 96, 3, 2),
        depthwise(65, 144, 3, 1),
        depthwise(33, 288, 5, 1),
        depthwise(17, 720, 5, 1),
        depthwise(9, 1248, 5, 1),
        attention_case(50, 12, 64, false),
        attention_case(197, 4, 64, false),
        attention_case(77, 8, 64, true),
        scan(2_000, 384, 1),
        scan(2_000, 384, 16),
    ]
}

/// Fails unless the kernel's answer is the reference's.
fn assert_right(case: &Case, work: &mut dyn Work) {
    let mut reference = (case.prepare)(Machine::Scalar);
    reference.run();
    work.run();
    let (expected, found) = (reference.result(), work.result());
    let largest = expected.iter().fold(0f64, |most, value| most.max(value.abs()));
    assert!(largest > 0.0, "{}: an answer of zeros proves nothing", case.name);
    let differs = |(a, b): (&f64, &f64)| (a - b).abs() > case.tolerance * largest;
    let wrong = expected.iter().zip(&found).position(differs);
    assert_eq!(wrong, None, "{}: differs from the reference at this element", case.name);
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let machine = Machine::active().unwrap_or_else(|error| panic!("{error}"));
    let peak = peak_multiply_adds(machine);
    println!("kernels {machine}, one thread; peak {:.1} GMAC/s\n", peak / 1e9);
    println!("| kernel | µs, median | GMAC/s | share of peak |");
    println!("|---|---|---|---|");
    let warm_up = Duration::ZERO;
    let budget = Budget { warm_up, runs: 400, longest: Duration::from_millis(300) };
    let mut checked = Vec::new();
    for case in cases() {
        let mut work = (case.prepare)(machine);
        assert_right(&case, work.as_mut());
        let Ok(timing) = Timing::measure(&budget, || {
            work.run();
            Ok::<_, std::convert::Infallible>(())
        });
        let rate = case.multiply_adds as f64 / (timing.median_ms / 1e3);
        println!(
            "| {} | {:.1} | {:.1} | {:.0} % |",
            case.name,
            timing.median_ms * 1e3,
            rate / 1e9,
            rate / peak * 100.0
        );
        checked.push((case, work));
    }
    let mut group = criterion.benchmark_group("kernels");
    group.sample_size(20).measurement_time(Duration::from_secs(1));
    for (case, mut work) in checked {
        group.throughput(Throughput::Elements(case.multiply_adds as u64));
        group.bench_function(&case.name, |bencher| bencher.iter(|| work.run()));
    }
    group.finish();
    criterion.final_summary();
}
