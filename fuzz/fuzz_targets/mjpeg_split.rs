//! Splits an arbitrary stream into JPEG pictures; every byte is in a picture or counted as
//! garbage, and the same however the stream is cut into reads.

#![no_main]

use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use sextant::watch::JpegSplitter;

/// A stream that gives a few bytes at a time.
struct Dribble<'a>(&'a [u8], usize);

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.1.min(buffer.len());
        (&mut self.0).take(length as u64).read(buffer)
    }
}

fn split(input: impl Read) -> (Vec<Vec<u8>>, u64) {
    let mut splitter = JpegSplitter::new(input);
    let (mut frames, mut frame) = (Vec::new(), Vec::new());
    while splitter.next_frame(&mut frame).unwrap() {
        frames.push(frame.clone());
    }
    (frames, splitter.garbage_bytes())
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&step, stream)) = bytes.split_first() else { return };
    let (frames, garbage) = split(stream);
    let used: usize = frames.iter().map(Vec::len).sum();
    assert_eq!(used as u64 + garbage, stream.len() as u64);
    for frame in &frames {
        assert!(frame.starts_with(&[0xFF, 0xD8]) && frame.ends_with(&[0xFF, 0xD9]));
    }
    assert_eq!(split(Dribble(stream, usize::from(step) + 1)), (frames, garbage));
});
