//! Whatever ffmpeg reads, through a child process that writes y4m.

use std::io::{BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread;

use super::source::{Sink, SourceOptions, read_y4m};
use super::y4m::Y4m;
use super::{WatchError, reconnect};

/// How much of what ffmpeg says is kept.
const MOST_SAID: u64 = 4096;

/// Whether there is an ffmpeg to run.
pub(super) fn is_installed() -> bool {
    let mut command = Command::new("ffmpeg");
    command.arg("-version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

/// Reads `input` to its end; a live one is opened again for as long as the user wants it.
pub(super) fn read(
    input: &str,
    live: bool,
    device: bool,
    options: &SourceOptions,
    sink: &mut Sink,
) -> Result<(), WatchError> {
    if !live {
        return read_once(input, (live, device), options, sink);
    }
    reconnect::forever(sink, |sink| read_once(input, (live, device), options, sink))
}

/// A child that does not outlive us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_once(
    input: &str,
    (live, device): (bool, bool),
    options: &SourceOptions,
    sink: &mut Sink,
) -> Result<(), WatchError> {
    let refuse = |reason| WatchError::Source { source_name: sink.name.clone(), reason };
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error"]);
    if device {
        command.args(["-f", "v4l2"]);
    } else if input.starts_with("rtsp") {
        command.args(["-rtsp_transport", "tcp", "-timeout", "10000000"]);
    } else if input.starts_with("http") {
        command.args(["-rw_timeout", "10000000"]);
    }
    // Of a recording, frames keep their numbers: what is not wanted is passed over later.
    let rate = options.fps.filter(|_| live && options.input_rate.is_none());
    let rate = rate.map(|fps| format!("fps={fps},")).unwrap_or_default();
    let filter = format!("{rate}scale=out_color_matrix=bt601:out_range=tv,format=yuv420p");
    command.args(["-i", input, "-an", "-sn", "-dn", "-vf", &filter, "-f", "yuv4mpegpipe", "-"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Running(command.spawn().map_err(refuse)?);
    let said = child.0.stderr.take().map(|stderr| thread::spawn(move || listen(stderr)));
    let Some(stdout) = child.0.stdout.take() else { return Ok(()) };
    let before = sink.counters.counts().frames;
    let name = sink.name.clone();
    let result = Y4m::new(BufReader::with_capacity(1 << 18, stdout), &name, &options.limits)
        .and_then(|stream| read_y4m(stream, options.input_rate, sink));
    drop(child);
    let said = said.and_then(|listener| listener.join().ok()).unwrap_or_default();
    if sink.stopped() {
        return Ok(());
    }
    let read_nothing = sink.counters.counts().frames == before;
    if read_nothing || (result.is_err() && !said.is_empty()) {
        let said = if said.is_empty() { "ffmpeg gave no frames".to_owned() } else { said };
        let reason = std::io::Error::other(said);
        return Err(WatchError::Source { source_name: name, reason });
    }
    if !said.is_empty() {
        sink.counters.notice(format!("{name}: {said}"));
    }
    result
}

/// The start of what the child says; the rest is read and forgotten.
fn listen(mut stderr: impl Read) -> String {
    let mut said = Vec::new();
    let _ = stderr.by_ref().take(MOST_SAID).read_to_end(&mut said);
    let _ = std::io::copy(&mut stderr, &mut std::io::sink());
    let text = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let shown = &lines[lines.len().saturating_sub(2)..];
    shown.join("; ").chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}
