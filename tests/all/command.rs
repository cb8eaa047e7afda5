//! Running the `sextant` binary as a user does.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A sample photo.
pub fn photo(name: &str) -> PathBuf {
    root().join("examples/photos").join(name)
}

/// What a finished run said.
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Standard output as JSON Lines.
    pub fn json(&self) -> Vec<serde_json::Value> {
        let lines = self.out.lines();
        lines.map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}

/// Starts `program`, by way of the emulator that `SEXTANT_TEST_RUNNER` names where there is one.
///
/// The tests of another processor's program run under an emulator (`cross/test`), and the kernel
/// cannot start that program on its own.
pub fn start(program: impl AsRef<OsStr>) -> Command {
    let runner = std::env::var("SEXTANT_TEST_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace();
    let Some(emulator) = words.next() else { return Command::new(program) };
    let mut command = Command::new(emulator);
    command.args(words).arg(program);
    command
}

/// The `sextant` binary, to be given arguments.
pub fn program() -> Command {
    start(env!("CARGO_BIN_EXE_sextant"))
}

/// Runs `sextant` with a cache of its own in `home`.
pub fn sextant_in<A: AsRef<OsStr>>(home: &Path, arguments: impl IntoIterator<Item = A>) -> Said {
    let output: Output = program()
        .args(arguments)
        .env("SEXTANT_CACHE", home.join("cache"))
        .env("SEXTANT_MODELS", home.join("models"))
        .env("XDG_DATA_HOME", home.join("data"))
        .output()
        .expect("the binary runs");
    Said {
        code: output.status.code().expect("not ended by a signal"),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs `sextant` with a cache folder that is gone afterwards.
pub fn sextant<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Said {
    let home = tempfile::tempdir().expect("a temporary folder");
    sextant_in(home.path(), arguments)
}
