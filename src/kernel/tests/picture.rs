//! Convolutions, depthwise convolutions and pooling.

use super::*;

/// A convolution problem: `groups` is 1, or the number of channels for a depthwise one.
#[derive(Debug, Clone, Copy)]
struct Shape {
    height: usize,
    width: usize,
    channels: usize,
    outputs: usize,
    depthwise: bool,
    window: Window,
}

impl Shape {
    /// Sums over the window at one output position, with `tap(input element, weight element)`
    /// called for what lies inside the picture. Weights are ordered as the constructors say.
    fn at(&self, y: usize, x: usize, n: usize, mut tap: impl FnMut(usize, usize)) {
        let Window { kernel, stride, before, .. } = self.window;
        for ky in 0..kernel[0] {
            for kx in 0..kernel[1] {
                let iy = (y * stride[0] + ky) as isize - before[0] as isize;
                let ix = (x * stride[1] + kx) as isize - before[1] as isize;
                if !(0..self.height as isize).contains(&iy)
                    || !(0..self.width as isize).contains(&ix)
                {
                    continue;
                }
                let pixel = (iy as usize * self.width + ix as usize) * self.channels;
                let offset = ky * kernel[1] + kx;
                if self.depthwise {
                    tap(pixel + n, offset * self.channels + n);
                } else {
                    for c in 0..self.channels {
                        let weight = (n * kernel[0] * kernel[1] + offset) * self.channels + c;
                        tap(pixel + c, weight);
                    }
                }
            }
        }
    }

    fn weights(&self) -> usize {
        let taps = self.window.kernel[0] * self.window.kernel[1] * self.channels;
        if self.depthwise { taps } else { taps * self.outputs }
    }
}

/// Rows of the input that a range of output rows needs, as a band.
fn band<'a, T>(shape: &Shape, x: &'a [T], rows: &std::ops::Range<usize>) -> Band<'a, T> {
    let needed = shape.window.input_rows(rows.clone(), shape.height);
    let row = shape.width * shape.channels;
    Band {
        data: &x[needed.start * row..needed.end * row],
        first_row: needed.start,
        height: shape.height,
        width: shape.width,
        channels: shape.channels,
    }
}

fn random_window(random: &mut Random, height: usize, width: usize) -> Window {
    let kernel = [1 + random.below(7.min(height)), 1 + random.below(7.min(width))];
    let mut padding = |k: usize| [random.below(k), random.below(k)];
    let (y, x) = (padding(kernel[0]), padding(kernel[1]));
    let stride = [1 + random.below(3), 1 + random.below(3)];
    Window { kernel, stride, before: [y[0], x[0]], after: [y[1], x[1]] }
}

/// Runs an integer convolution whole and in parts, and compares bytes and floats.
fn check(shape: Shape, random: &mut Random) {
    let (height, width) = shape.window.output(shape.height, shape.width);
    let x = random.bytes(shape.height * shape.width * shape.channels);
    let weights = random.weights(shape.weights());
    let scales: Vec<f32> = (0..shape.outputs).map(|_| 0.002 + 0.001 * random.unit()).collect();
    let bias = random.floats(shape.outputs, 1.0);
    let input = Quantisation { scale: 0.02, zero_point: random.next() as u8 };
    let to = Quantisation { scale: 0.02, zero_point: 7 };
    let ranges = [(0.0, 4.0), (f32::NEG_INFINITY, f32::INFINITY)];
    let output = StaticOutput { quantisation: to, range: ranges[random.below(2)], residual: None };
    let (low, high) = (to.quantise(output.range.0), to.quantise(output.range.1));
    let residual = Quantisation { scale: 0.01, zero_point: 99 };
    let with_residual = StaticOutput { residual: Some(residual), ..output };
    let added = random.bytes(height * width * shape.outputs);

    let mut expected = Vec::new();
    let mut expected_sum = Vec::new();
    let mut real = Vec::new();
    for (at, &added) in added.iter().enumerate() {
        let (pixel, n) = (at / shape.outputs, at % shape.outputs);
        let mut sum = 0i64;
        shape.at(pixel / width, pixel % width, n, |i, w| {
            sum += (i64::from(x[i]) - i64::from(input.zero_point)) * i64::from(weights[w]);
        });
        let multiplier =
            (f64::from(scales[n]) * f64::from(input.scale) / f64::from(to.scale)) as f32;
        let addend = f64::from(bias[n]) / f64::from(to.scale) + f64::from(to.zero_point);
        let y = (sum as f32).mul_add(multiplier, addend as f32);
        let clamp = |y: f32| y.round_ties_even().clamp(f32::from(low), f32::from(high)) as u8;
        expected.push(clamp(y));
        let ratio = f64::from(residual.scale) / f64::from(to.scale);
        let zero = f64::from(residual.zero_point) * f64::from(residual.scale) / f64::from(to.scale);
        let y = (sum as f32).mul_add(multiplier, (addend - zero) as f32);
        expected_sum.push(clamp(f32::from(added).mul_add(ratio as f32, y)));
        let y = sum as f64 * f64::from(scales[n]) * f64::from(input.scale) + f64::from(bias[n]);
        real.push(reference_activation(Activation::HardSwish, y));
    }

    let row = width * shape.outputs;
    let cut = random.below(height + 1);
    let whole = 0..height;
    for machine in Machine::available() {
        let mut scratch = Scratch::new();
        for rows in [whole.clone(), 0..cut, cut..height] {
            let band = band(&shape, &x, &rows);
            let span = rows.start * row..rows.end * row;
            let mut out = vec![1; span.len()];
            let mut floats = vec![f32::NAN; span.len()];
            let swish = Activation::HardSwish;
            if shape.depthwise {
                let Shape { channels, window, .. } = shape;
                let layer =
                    Depthwise::new(machine, &weights, channels, window, &scales, Some(&bias))
                        .unwrap();
                let plan = layer.requantisation(input, output).unwrap();
                layer.run(band, &plan, rows.clone(), &mut out, &mut scratch);
                layer.run_to_float(band, input, swish, rows, &mut floats, &mut scratch);
            } else {
                let Shape { outputs, channels, window, .. } = shape;
                let (s, b) = (&scales[..], Some(&bias[..]));
                let layer =
                    Convolution::new(machine, &weights, outputs, channels, window, s, b).unwrap();
                let plan = layer.requantisation(input, with_residual).unwrap();
                let r = Some(&added[span.clone()]);
                layer.run(band, &plan, rows.clone(), r, &mut out, &mut scratch);
                assert_eq!(out, expected_sum[span.clone()], "{machine} {shape:?}");
                let plan = layer.requantisation(input, output).unwrap();
                layer.run(band, &plan, rows.clone(), None, &mut out, &mut scratch);
                layer.run_to_float(band, input, swish, rows, &mut floats, &mut scratch);
            }
            assert_eq!(out, expected[span.clone()], "{machine} {shape:?}");
            assert_close(&floats, &real[span], 4e-6, 2e-6);
        }
    }
}

#[test]
fn convolutions_of_all_windows() {
    let mut random = Random::new(10);
    for _ in 0..cases(150, 3) {
        let (height, width) = (1 + random.below(9), 1 + random.below(9));
        let window = random_window(&mut random, height, width);
        let (channels, outputs) = (1 + random.below(6), 1 + random.below(20));
        check(Shape { height, width, channels, outputs, depthwise: false, window }, &mut random);
    }
    for (height, channels, outputs, kernel, stride) in
        [(31, 3, 32, 3, 2), (9, 20, 70, 3, 1), (12, 33, 17, 1, 1), (7, 16, 24, 1, 2)]
    {
        let height = cases(height, 4);
        let window = Window::same(kernel, stride, height, height);
        let shape = Shape { height, width: height, channels, outputs, depthwise: false, window };
        check(shape, &mut random);
    }
}

#[test]
fn depthwise_of_all_windows() {
    let mut random = Random::new(11);
    for _ in 0..cases(250, 3) {
        let (height, width) = (1 + random.below(9), 1 + random.below(9));
        let window = random_window(&mut random, height, width);
        let channels = 1 + random.below(70);
        let shape = Shape { height, width, channels, outputs: channels, depthwise: true, window };
        check(shape, &mut random);
    }
}

#[test]
fn depthwise_of_all_channel_counts() {
    let mut random = Random::new(12);
    for channels in 1..=cases(150, 9) {
        let kernel = [3, 5, 7][channels % 3];
        let stride = 1 + channels % 2;
        let (height, width) = (5 + channels % 4, 6);
        let window = Window::same(kernel, stride, height, width);
        let shape = Shape { height, width, channels, outputs: channels, depthwise: true, window };
        check(shape, &mut random);
    }
}

#[test]
fn float_depthwise_of_all_windows() {
    let mut random = Random::new(13);
    for i in 0..cases(250, 3) {
        let (height, width) = (1 + random.below(9), 1 + random.below(9));
        let mut window = random_window(&mut random, height, width);
        if i % 2 == 0 {
            window = Window::square([3, 5, 7][i % 3], 1 + i % 4 / 2, [1, 2, 3][i % 3]);
        }
        let channels = 1 + random.below(70);
        let shape = Shape { height, width, channels, outputs: channels, depthwise: true, window };
        let (out_height, out_width) = window.output(height, width);
        let x = random.floats(height * width * channels, 1.0);
        let weights = random.floats(shape.weights(), 1.0);
        let bias = random.floats(channels, 1.0);
        let mut expected = Vec::new();
        for at in 0..out_height * out_width * channels {
            let (pixel, n) = (at / channels, at % channels);
            let mut sum = f64::from(bias[n]);
            shape.at(pixel / out_width, pixel % out_width, n, |i, w| {
                sum += f64::from(x[i]) * f64::from(weights[w]);
            });
            expected.push(reference_activation(Activation::Relu, sum));
        }
        let cut = random.below(out_height + 1);
        for machine in Machine::available() {
            let layer =
                DepthwiseFloat::new(machine, &weights, channels, window, Some(&bias)).unwrap();
            for rows in [0..cut, cut..out_height] {
                let span = rows.start * out_width * channels..rows.end * out_width * channels;
                let mut out = vec![f32::NAN; span.len()];
                layer.run(band(&shape, &x, &rows), Activation::Relu, rows, &mut out);
                assert_close(&out, &expected[span], 5e-6, 1e-6);
            }
        }
    }
}

#[test]
fn averages() {
    let mut random = Random::new(14);
    for channels in 1..=cases(70, 6) {
        let pixels = 1 + random.below(90);
        let bytes = random.bytes(pixels * channels);
        let floats = random.floats(pixels * channels, 2.0);
        let input = Quantisation { scale: 0.03, zero_point: 100 };
        let mean = |f: &dyn Fn(usize) -> f64| -> Vec<f64> {
            (0..channels)
                .map(|c| (0..pixels).map(|p| f(p * channels + c)).sum::<f64>() / pixels as f64)
                .collect()
        };
        for machine in Machine::available() {
            let mut out = vec![f32::NAN; channels];
            global_average(machine, &floats, &mut out);
            assert_close(&out, &mean(&|i| f64::from(floats[i])), 2e-6, 2e-6);
            global_average_static(machine, &bytes, input, &mut out);
            let real = |i: usize| f64::from(input.scale) * (f64::from(bytes[i]) - 100.0);
            assert_close(&out, &mean(&real), 1e-6, 1e-6);
        }
    }
}

#[test]
fn windows_are_placed_as_others_place_them() {
    // Output sizes of TensorFlow's SAME for the network's own picture sizes.
    for (size, kernel, stride, output, before, after) in
        [(260, 3, 2, 130, 0, 1), (130, 3, 2, 65, 0, 1), (65, 5, 2, 33, 2, 2), (17, 5, 2, 9, 2, 2)]
    {
        let window = Window::same(kernel, stride, size, size);
        assert_eq!(window.output(size, size), (output, output));
        assert_eq!((window.before, window.after), ([before; 2], [after; 2]));
    }
    assert_eq!(Window::square(3, 1, 1).input_rows(0..1, 10), 0..2);
    assert_eq!(Window::square(3, 1, 1).input_rows(4..6, 10), 3..7);
    assert_eq!(Window::square(3, 1, 1).input_rows(9..10, 10), 8..10);
    assert_eq!(Window::square(7, 1, 0).output(6, 7), (0, 1));
    for bad in [
        Window::square(0, 1, 0),
        Window::square(65, 1, 0),
        Window::square(3, 0, 0),
        Window::square(3, 1, 3),
    ] {
        let result = DepthwiseFloat::new(Machine::Scalar, &[], 1, bad, None);
        assert!(matches!(result, Err(KernelError::Window { .. })), "{bad:?}");
    }
}

#[test]
#[should_panic(expected = "at hand")]
fn missing_rows_are_noticed() {
    let window = Window::square(3, 1, 1);
    let layer = Depthwise::new(Machine::Scalar, &[1; 9], 1, window, &[1.0], None).unwrap();
    let q = Quantisation { scale: 1.0, zero_point: 0 };
    let output = StaticOutput { quantisation: q, range: (0.0, 1.0), residual: None };
    let plan = layer.requantisation(q, output).unwrap();
    let band = Band { data: &[0; 8], first_row: 1, height: 4, width: 4, channels: 1 };
    layer.run(band, &plan, 1..2, &mut [0; 4], &mut Scratch::new());
}
