//! For whoever looks after a watch: systemd, Prometheus, and a person at a terminal.

use std::env;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sextant::watch::{Counts, Frames, Watcher};

use super::super::output::complain;
use super::keep::Keep;
use super::outputs::Outputs;

const METRICS_EVERY: Duration = Duration::from_secs(5);
const STATUS_EVERY: Duration = Duration::from_millis(500);

/// Tells the world how the watch is doing.
pub struct Service {
    notify: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    status: bool,
    metrics: Option<PathBuf>,
    regions: Vec<Option<String>>,
    patted: Instant,
    written: Option<Instant>,
    shown: Option<(Instant, u64)>,
    complained: bool,
}

impl Service {
    /// `status` shows a line where standard error is a terminal.
    pub fn new(status: bool, metrics: Option<PathBuf>, regions: Vec<Option<String>>) -> Self {
        let interval = env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse::<u64>().ok());
        let ours = env::var("WATCHDOG_PID").map_or(true, |p| p == std::process::id().to_string());
        Self {
            notify: notify_socket(),
            // Twice as often as asked for, as sd_watchdog_enabled(3) advises.
            watchdog: interval.filter(|_| ours).map(|us| Duration::from_micros(us / 2)),
            status: status && std::io::stderr().is_terminal(),
            metrics,
            regions,
            patted: Instant::now(),
            written: None,
            shown: None,
            complained: false,
        }
    }

    /// Whether a line is shown on a terminal.
    pub fn shows_status(&self) -> bool {
        self.status
    }

    /// Says that frames are being read.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// Says that the loop goes round.
    pub fn beat(&mut self, frames: &Frames, watcher: &Watcher<'_>, keep: &Keep, outputs: &Outputs) {
        if self.watchdog.is_some_and(|interval| self.patted.elapsed() >= interval) {
            self.tell("WATCHDOG=1");
            self.patted = Instant::now();
        }
        if self.metrics.is_some() && self.written.is_none_or(|at| at.elapsed() >= METRICS_EVERY) {
            self.write_metrics(&frames.counters().counts(), watcher, keep, outputs);
            self.written = Some(Instant::now());
        }
        if self.status {
            self.show(&frames.counters().counts(), watcher);
        }
    }

    /// Says that it is over.
    pub fn end(&mut self, frames: &Frames, watcher: &Watcher<'_>, keep: &Keep, outputs: &Outputs) {
        self.tell("STOPPING=1");
        if self.metrics.is_some() {
            self.write_metrics(&frames.counters().counts(), watcher, keep, outputs);
        }
        if self.status {
            eprint!("\r\x1b[K");
        }
    }

    fn tell(&self, state: &str) {
        if let Some((socket, address)) = &self.notify {
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }

    fn write_metrics(
        &mut self,
        counts: &Counts,
        watcher: &Watcher<'_>,
        keep: &Keep,
        outputs: &Outputs,
    ) {
        let Some(path) = &self.metrics else { return };
        if let Err(error) = replace(path, &self.metrics(counts, watcher, keep, outputs)) {
            if !self.complained {
                complain(&format!("{}: metrics are not written: {error}", path.display()));
            }
            self.complained = true;
        } else {
            self.complained = false;
        }
    }

    fn show(&mut self, counts: &Counts, watcher: &Watcher<'_>) {
        let looked = counts.encoded + counts.still;
        let (since, before) = *self.shown.get_or_insert((Instant::now(), looked));
        if since.elapsed() < STATUS_EVERY {
            return;
        }
        let fps = (looked - before) as f64 / since.elapsed().as_secs_f64();
        self.shown = Some((Instant::now(), looked));
        let labels = self.labels_there(watcher);
        let memory = memory_bytes() as f64 / 1e6;
        eprint!(
            "\r\x1b[K{fps:5.1} fps | {labels} | {} dropped, {} damaged | {memory:.0} MB",
            counts.dropped, counts.damaged
        );
        let _ = std::io::stderr().flush();
    }
}

impl Service {
    /// What is there now, region by region.
    fn labels_there(&self, watcher: &Watcher<'_>) -> String {
        let of_region = |(region, name): (usize, &Option<String>)| {
            let labels: Vec<String> = watcher
                .present(region)
                .map(|(label, score)| format!("{label} {score:.2}"))
                .collect();
            let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
            name.as_ref().map_or(labels.clone(), |name| format!("{name}: {labels}"))
        };
        self.regions.iter().enumerate().map(of_region).collect::<Vec<_>>().join("; ")
    }

    /// The counts in Prometheus's text format.
    pub fn metrics(
        &self,
        counts: &Counts,
        watcher: &Watcher<'_>,
        keep: &Keep,
        outputs: &Outputs,
    ) -> String {
        let mut text = count_metrics(counts, keep);
        label_metrics(&self.regions, watcher, &mut text);
        outputs.add_metrics(&mut text);
        text
    }
}

/// Where systemd listens, if it does: a path, or a name after `@`.
fn notify_socket() -> Option<(UnixDatagram, SocketAddr)> {
    let name = env::var_os("NOTIFY_SOCKET")?;
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest).ok()?,
        _ => SocketAddr::from_pathname(&name).ok()?,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, address))
}

/// Resident memory, from the kernel.
pub fn memory_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_ascii_whitespace().nth(1).and_then(|p| p.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// Replaces the file in one step: a collector never sees half of it.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let replaced = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    if replaced.is_err() {
        // Half a file on a full disk helps nobody.
        let _ = std::fs::remove_file(&beside);
    }
    replaced
}

/// Those of the watch itself.
fn count_metrics(counts: &Counts, keep: &Keep) -> String {
    let mut text = String::new();
    let mut counter = |name: &str, help: &str, value: u64| {
        let _ = writeln!(
            text,
            "# HELP sextant_{name} {help}\n# TYPE sextant_{name} counter\nsextant_{name} {value}"
        );
    };
    counter("frames_total", "Frames the source gave.", counts.frames);
    counter("frames_encoded_total", "Frames that went through the encoder.", counts.encoded);
    counter("frames_still_total", "Frames skipped because nothing moved.", counts.still);
    counter("frames_passed_over_total", "Frames skipped by rate.", counts.passed_over);
    counter("frames_dropped_total", "Frames dropped to keep up.", counts.dropped);
    counter("frames_damaged_total", "Frames that could not be decoded.", counts.damaged);
    counter("garbage_bytes_total", "Bytes between frames.", counts.garbage_bytes);
    counter("reconnects_total", "Times the source was opened again.", counts.reconnects);
    counter("failed_actions_total", "What rules could not do.", counts.failed_actions);
    if let Some((rows, errors)) = keep.counts() {
        counter("index_errors_total", "Failures to write the index.", errors);
        let _ = writeln!(text, "# TYPE sextant_index_rows gauge\nsextant_index_rows {rows}");
    }
    let memory = memory_bytes();
    let _ = writeln!(text, "# TYPE sextant_memory_bytes gauge\nsextant_memory_bytes {memory}");
    text
}

/// Which labels are there, in each region.
fn label_metrics(regions: &[Option<String>], watcher: &Watcher<'_>, text: &mut String) {
    let quoted = |name: &str| name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let _ = writeln!(text, "# TYPE sextant_label_present gauge");
    for (number, region) in regions.iter().enumerate() {
        let region =
            region.as_ref().map_or(String::new(), |name| format!(",region=\"{}\"", quoted(name)));
        let labels = watcher.scene().names().iter().zip(watcher.presence(number)).enumerate();
        for (_, (name, present)) in labels.filter(|(at, _)| watcher.scene().is_shown(*at)) {
            let (name, present) = (quoted(name), u8::from(present));
            let _ = writeln!(text, "sextant_label_present{{label=\"{name}\"{region}}} {present}");
        }
    }
}
