//! What it costs to bring a picture to a tower's size: decoding and resizing, apart.
//!
//! `cargo bench --bench preprocess`. The pictures are synthetic (waves, edges, a little noise),
//! compressed at quality 90 with 4:2:0 colour as cameras do.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress};
use sextant::picture::{
    DecodeLimits, Interpolation, Picture, Pixels, Preprocess, PreprocessSpec, ResizeMode,
    decode_bytes,
};

/// A frame of a webcam, of full-HD video, and of a 12-megapixel phone.
const SIZES: [(u32, u32); 3] = [(640, 480), (1920, 1080), (4000, 3000)];

fn picture(width: u32, height: u32) -> Vec<u8> {
    let mut noise = 1u32;
    let mut samples = Vec::with_capacity(3 * width as usize * height as usize);
    for y in 0..height {
        for x in 0..width {
            let wave = ((x as f32 / 37.0).sin() * (y as f32 / 53.0).cos() * 80.0) as i32;
            let edge = if (x / 64 + y / 48) % 2 == 0 { 30 } else { -30 };
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let level = 128 + wave + edge + (noise >> 29) as i32;
            samples.extend([level, level + 9, level - 17].map(|value| value.clamp(0, 255) as u8));
        }
    }
    samples
}

fn preprocess(interpolation: Interpolation) -> Preprocess {
    let spec = PreprocessSpec {
        resize: ResizeMode::Shortest,
        resize_size: [224; 2],
        crop: None,
        interpolation,
        mean: [0.5; 3],
        std: [0.5; 3],
        fill: [0; 3],
        background: [255; 3],
    };
    Preprocess::new(spec).expect("a sound declaration")
}

fn benches(criterion: &mut Criterion) {
    for (width, height) in SIZES {
        let samples = picture(width, height);
        let (across, down) = (width as usize, height as usize);
        let jpeg = compress(&samples, across, down, PixelFormat::Rgb, 90, Subsampling::S420)
            .expect("a sound picture");
        let size = format!("{width}x{height}");
        let mut group = criterion.benchmark_group("picture");
        group
            .sample_size(20)
            .throughput(Throughput::Elements(u64::from(width) * u64::from(height)));
        group.bench_function(BenchmarkId::new("decode", &size), |bencher| {
            let limits = DecodeLimits::default();
            bencher.iter(|| decode_bytes(black_box(&jpeg), "bench", &limits));
        });
        let picture = Picture::new(width, height, Pixels::Rgb(samples)).expect("a sound picture");
        for (name, interpolation) in
            [("bicubic", Interpolation::Bicubic), ("bilinear", Interpolation::Bilinear)]
        {
            let preprocess = preprocess(interpolation);
            group.bench_function(BenchmarkId::new(name, &size), |bencher| {
                bencher.iter(|| preprocess.pixels(black_box(&picture)));
            });
        }
        group.finish();
    }
    let preprocess = preprocess(Interpolation::Bicubic);
    let picture = Picture::new(224, 224, Pixels::Rgb(picture(224, 224))).expect("a sound picture");
    let pixels = preprocess.pixels(&picture);
    criterion.bench_function("tensor/224x224", |bencher| {
        bencher.iter(|| preprocess.tensor(black_box(&pixels)));
    });
}

criterion_group!(group, benches);
criterion_main!(group);
