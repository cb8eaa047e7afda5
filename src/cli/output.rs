//! Where results, messages and versions are printed.

use std::io::{self, Write};

use serde::Serialize;

/// Prints a message to the person at the terminal.
pub fn complain(message: &str) {
    let _ = writeln!(io::stderr().lock(), "sextant: {message}");
}

/// Prints one object as a line of JSON.
pub fn json_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// A buffered standard output.
pub fn stdout() -> io::BufWriter<io::StdoutLock<'static>> {
    io::BufWriter::new(io::stdout().lock())
}

/// Rounds to six digits, so that JSON shows no noise.
pub fn six_digits(value: f32) -> f64 {
    (f64::from(value) * 1e6).round() / 1e6
}

/// What `--version` prints after the version: commit, processor and kernels.
pub fn long_version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"))
}
