//! Where results, messages and versions are printed.

use std::io::{self, Write};
use std::sync::LazyLock;

use serde::Serialize;

use super::Format;

/// Prints a message to the person at the terminal. It may repeat names of files and words of other
/// people's: whatever is in them cannot steer the terminal.
pub fn complain(message: &str) {
    let mut shown = String::with_capacity(message.len());
    for c in message.chars() {
        match c.is_control() && c != '\n' {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    let _ = writeln!(io::stderr().lock(), "sextant: {shown}");
}

/// Prints one object as a line of JSON.
pub fn json_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// Prints the one result of a command: as a line of JSON, or as `text` writes it.
#[cfg_attr(not(feature = "workbench"), allow(dead_code))] // Only its commands have one result.
pub fn print_result<T: Serialize>(
    result: &T,
    format: Format,
    text: impl FnOnce(&mut Output) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = stdout();
    match format {
        Format::Json => json_line(&mut out, result)?,
        _ => text(&mut out)?,
    }
    out.flush()
}

/// Results go here.
pub type Output = io::BufWriter<io::StdoutLock<'static>>;

/// A buffered standard output.
pub fn stdout() -> Output {
    io::BufWriter::new(io::stdout().lock())
}

/// Rounds to six digits, so that JSON shows no noise.
pub fn six_digits(value: f32) -> f64 {
    (f64::from(value) * 1e6).round() / 1e6
}

/// What `--version` prints after the name: version, commit, processor features and kernels.
pub fn long_version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(describe_version);
    &VERSION
}

fn describe_version() -> String {
    let kernels = match sextant::Machine::active() {
        Ok(machine) => machine.name().to_owned(),
        Err(error) => error.to_string(),
    };
    let available: Vec<_> = sextant::Machine::available().iter().map(|m| m.name()).collect();
    let features = features();
    format!(
        "{} (commit {})\nkernels: {kernels} (this processor can run: {})\nbuilt with: {}",
        env!("CARGO_PKG_VERSION"),
        env!("SEXTANT_COMMIT"),
        available.join(", "),
        if features.is_empty() { "no optional feature".to_owned() } else { features.join(", ") }
    )
}

/// The cargo features of this program.
fn features() -> Vec<&'static str> {
    let all = [
        ("builtin-model", cfg!(feature = "builtin-model")),
        ("formats", cfg!(feature = "formats")),
        ("fused-attention", cfg!(feature = "fused-attention")),
        ("http", cfg!(feature = "http")),
        ("mqtt", cfg!(feature = "mqtt")),
        ("parquet", cfg!(feature = "parquet")),
        ("text", cfg!(feature = "text")),
        ("v4l2", cfg!(feature = "v4l2")),
        ("workbench", cfg!(feature = "workbench")),
    ];
    all.into_iter().filter(|(_, built)| *built).map(|(name, _)| name).collect()
}
