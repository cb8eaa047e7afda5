//! JPEG pictures out of a stream of bytes, whatever lies between them.
//!
//! The markers of ITU-T T.81 annex B are walked, so that a thumbnail inside a header is no frame
//! of its own and the end of a picture is known without decoding it. A picture that is cut short
//! is given up at the next start of one; all else is garbage. Both are counted, nothing stops.

use std::io::{self, Read};

/// Largest picture of a stream. A longer one is garbage that began like a picture.
const MAX_FRAME: usize = 32 << 20;

const READ_SIZE: usize = 64 << 10;

const START: [u8; 3] = [0xFF, 0xD8, 0xFF];
const START_OF_IMAGE: u8 = 0xD8;
const END_OF_IMAGE: u8 = 0xD9;
const START_OF_SCAN: u8 = 0xDA;

/// Where the walk is within a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between pictures.
    Search,
    /// A marker must stand here.
    Marker,
    /// Entropy-coded data, up to the next marker.
    Scan,
}

/// Splits a byte stream into complete JPEG pictures.
///
/// ```
/// use sextant::watch::JpegSplitter;
/// let stream: &[u8] = b"junk\xFF\xD8\xFF\xDA\x00\x02\x01\x02\xFF\xD9more junk";
/// let mut splitter = JpegSplitter::new(stream);
/// let mut frame = Vec::new();
/// assert!(splitter.next_frame(&mut frame).unwrap());
/// assert!(frame.starts_with(b"\xFF\xD8") && frame.ends_with(b"\xFF\xD9"));
/// assert!(!splitter.next_frame(&mut frame).unwrap());
/// assert_eq!(splitter.garbage_bytes(), 13);
/// ```
#[derive(Debug)]
pub struct JpegSplitter<R> {
    input: R,
    buffer: Vec<u8>,
    /// Everything before this was handed out or given up.
    start: usize,
    /// The next byte to look at.
    at: usize,
    state: State,
    truncated: u64,
    garbage: u64,
}

impl<R: Read> JpegSplitter<R> {
    /// A splitter over `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            start: 0,
            at: 0,
            state: State::Search,
            truncated: 0,
            garbage: 0,
        }
    }

    /// Pictures that began and were not complete.
    pub fn truncated_frames(&self) -> u64 {
        self.truncated
    }

    /// Bytes that belong to no complete picture.
    pub fn garbage_bytes(&self) -> u64 {
        self.garbage
    }

    /// Puts the next complete picture into `frame`, or says that the stream has ended.
    ///
    /// # Errors
    /// What reading says.
    pub fn next_frame(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            if self.walk() {
                frame.clear();
                frame.extend_from_slice(&self.buffer[self.start..self.at]);
                self.start = self.at;
                return Ok(true);
            }
            if self.at.saturating_sub(self.start) > MAX_FRAME {
                self.give_up();
                continue;
            }
            if !self.refill()? {
                if self.state == State::Search {
                    self.drop_to(self.buffer.len());
                    return Ok(false);
                }
                // A later picture may lie within what looked like this one.
                self.give_up();
            }
        }
    }

    /// Reads more; false at the end of the stream.
    fn refill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.start);
        self.at -= self.start;
        self.start = 0;
        let length = self.buffer.len();
        self.buffer.resize(length + READ_SIZE, 0);
        loop {
            match self.input.read(&mut self.buffer[length..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    self.buffer.truncate(length + *result.as_ref().unwrap_or(&0));
                    return result.map(|read| read > 0);
                }
            }
        }
    }

    /// Walks on; true when a picture is complete at `self.at`, false when more bytes are needed.
    fn walk(&mut self) -> bool {
        loop {
            let rest = &self.buffer[self.at.min(self.buffer.len())..];
            match self.state {
                State::Search => match rest.windows(3).position(|three| three == START) {
                    Some(found) => {
                        self.drop_to(self.at + found);
                        self.at += 2;
                        self.state = State::Marker;
                    }
                    None => {
                        // Its last two bytes may begin a picture.
                        self.drop_to(self.at + rest.len().saturating_sub(2));
                        return false;
                    }
                },
                State::Marker => match *rest {
                    // Any marker may be preceded by fill bytes.
                    [0xFF, 0xFF, ..] => self.at += 1,
                    // A cut header reaches into the next picture, and this may be its thumbnail.
                    [0xFF, START_OF_IMAGE, ..] => self.give_up(),
                    [0xFF, END_OF_IMAGE, ..] => return self.complete(),
                    [0xFF, 0x01 | 0xD0..=0xD7, ..] => self.at += 2,
                    [0xFF, 0x00, ..] => self.give_up(),
                    [0xFF, marker, high, low, ..] => {
                        let length = usize::from(u16::from_be_bytes([high, low]));
                        if length < 2 {
                            self.give_up();
                            continue;
                        }
                        self.at += 2 + length;
                        if marker == START_OF_SCAN {
                            self.state = State::Scan;
                        }
                    }
                    [0xFF, ..] | [] => return false,
                    _ => self.give_up(),
                },
                State::Scan => match rest.iter().position(|&byte| byte == 0xFF) {
                    None => {
                        self.at = self.at.max(self.buffer.len());
                        return false;
                    }
                    Some(found) if found + 1 == rest.len() => {
                        self.at += found;
                        return false;
                    }
                    Some(found) => {
                        self.at += found;
                        match rest[found + 1] {
                            0x00 | 0xD0..=0xD7 => self.at += 2,
                            0xFF => self.at += 1,
                            END_OF_IMAGE => return self.complete(),
                            START_OF_IMAGE => self.restart(),
                            _ => self.state = State::Marker,
                        }
                    }
                },
            }
        }
    }

    fn complete(&mut self) -> bool {
        self.at += 2;
        self.state = State::Search;
        true
    }

    /// Another picture begins at `self.at`, within the present one.
    fn restart(&mut self) {
        self.truncated += 1;
        let at = self.at;
        self.drop_to(at);
        self.state = State::Search;
    }

    /// What began at `self.start` is no complete picture: looks for the next one right after.
    fn give_up(&mut self) {
        self.truncated += 1;
        let after = (self.start + 2).min(self.buffer.len());
        self.drop_to(after);
        self.state = State::Search;
    }

    fn drop_to(&mut self, to: usize) {
        self.garbage += (to - self.start) as u64;
        self.start = to;
        self.at = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that gives a few bytes at a time, so that every state meets the end of a read.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn picture(mark: u8) -> Vec<u8> {
        // A header with a thumbnail in it, a scan with stuffed bytes and a restart marker.
        let mut bytes = b"\xFF\xD8\xFF\xE1\x00\x08\xFF\xD8\xFF\xDA\xFF\xD9".to_vec();
        bytes.extend(b"\xFF\xDA\x00\x03\x01\x10\xFF\x00\xFF\xD3");
        bytes.extend([mark, 0xFF, 0xFF, 0xD9]);
        bytes
    }

    fn split(stream: &[u8], step: usize) -> (Vec<Vec<u8>>, u64, u64) {
        let mut splitter = JpegSplitter::new(Drip(stream, step));
        let (mut frames, mut frame) = (Vec::new(), Vec::new());
        while splitter.next_frame(&mut frame).unwrap() {
            frames.push(frame.clone());
        }
        (frames, splitter.truncated_frames(), splitter.garbage_bytes())
    }

    #[test]
    fn pictures_are_found_however_the_bytes_arrive() {
        let stream = [picture(1), picture(2), vec![0; 7], picture(3)].concat();
        for step in [1, 2, 3, 5, 1000] {
            let (frames, truncated, garbage) = split(&stream, step);
            assert_eq!(frames, [picture(1), picture(2), picture(3)], "{step} bytes at a time");
            assert_eq!((truncated, garbage), (0, 7));
        }
    }

    #[test]
    fn a_picture_cut_anywhere_costs_itself_or_the_next() {
        for cut in 1..picture(1).len() {
            let stream = [&picture(1)[..cut], &picture(2), &picture(3)].concat();
            let (frames, _, garbage) = split(&stream, 4);
            // A header that is cut takes the beginning of the next picture for its own.
            if (3..17).contains(&cut) {
                assert_eq!(frames.last(), Some(&picture(3)), "cut after {cut} bytes");
                continue;
            }
            assert_eq!(frames, [picture(2), picture(3)], "cut after {cut} bytes");
            assert_eq!(garbage, cut as u64);
        }
        let (frames, truncated, _) = split(&[picture(1), picture(2)[..9].to_vec()].concat(), 4);
        assert_eq!((frames.len(), truncated > 0), (1, true));
    }

    #[test]
    fn megabytes_of_garbage_are_counted_and_not_kept() {
        let mut noise: Vec<u8> =
            (0..10_000_000u32).map(|i| (i.wrapping_mul(2654435761) >> 24) as u8).collect();
        noise.retain(|&byte| byte != 0xFF);
        let stream = [picture(1), noise.clone(), vec![0; 1_000_000], picture(2)].concat();
        let mut splitter = JpegSplitter::new(&stream[..]);
        let (mut count, mut frame) = (0, Vec::new());
        while splitter.next_frame(&mut frame).unwrap() {
            count += 1;
        }
        assert_eq!(count, 2);
        assert_eq!(splitter.garbage_bytes(), noise.len() as u64 + 1_000_000);
        assert!(splitter.buffer.capacity() < 1 << 20);
    }

    #[test]
    fn random_bytes_never_panic_and_every_byte_is_accounted_for() {
        let mut seed = 1u32;
        for _ in 0..2000 {
            let stream: Vec<u8> = (0..64)
                .map(|_| {
                    seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
                    [0xFF, 0xD8, 0xD9, 0xDA, 0, 2, 1, 0xE0][(seed >> 29) as usize]
                })
                .collect();
            let (frames, _, garbage) = split(&stream, 3);
            let kept: usize = frames.iter().map(Vec::len).sum();
            assert_eq!(kept as u64 + garbage, 64);
        }
    }
}
