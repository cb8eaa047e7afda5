//! What it costs to bring a picture to a tower's size: decoding and resizing, apart.
//!
//! `cargo bench --bench preprocess`. The pictures are synthetic ones, as `sextant bench` uses.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sextant::bench::synthetic_jpeg;
use sextant::picture::{
    DecodeLimits, Interpolation, Picture, Preprocess, PreprocessSpec, ResizeMode, decode_bytes,
};

/// A frame of a webcam, of full-HD video, and of a 12-megapixel phone.
const SIZES: [(usize, usize); 3] = [(640, 480), (1920, 1080), (4000, 3000)];

fn picture(jpeg: &[u8]) -> Picture {
    decode_bytes(jpeg, "bench", &DecodeLimits::default()).expect("a sound picture")
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
        let jpeg = synthetic_jpeg(width, height);
        let size = format!("{width}x{height}");
        let mut group = criterion.benchmark_group("picture");
        group.sample_size(20).throughput(Throughput::Elements((width * height) as u64));
        group.bench_function(BenchmarkId::new("decode", &size), |bencher| {
            bencher.iter(|| picture(black_box(&jpeg)));
        });
        let picture = picture(&jpeg);
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
    let pixels = preprocess.pixels(&picture(&synthetic_jpeg(224, 224)));
    criterion.bench_function("tensor/224x224", |bencher| {
        bencher.iter(|| preprocess.tensor(black_box(&pixels)));
    });
}

criterion_group!(group, benches);
criterion_main!(group);
