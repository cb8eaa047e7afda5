//! What rules do when their event happens. Whatever fails is said and counted; nothing stops.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use sextant::index::{Index, NewRow, Tag, Tags, Writer};
use sextant::watch::{Action, Change, Counters, Happening, Rule, Rules, Seen};
use sextant::{Embedding, Encoder};

use super::super::Failure;
use super::super::output::{complain, six_digits};
use super::events::{Time, name_of};
use super::keep::key_of;

/// Most commands that run at once; more are not started.
const MOST_RUNNING: usize = 8;

/// How long commands may go on when the watch ends.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// The rules at work.
pub struct Actions {
    rules: Vec<Rule>,
    regions: Vec<Option<String>>,
    running: Vec<Running>,
    indexes: HashMap<PathBuf, Writer>,
}

struct Running {
    child: Child,
    until: Instant,
    rule: String,
}

impl Running {
    /// Kills the program and what it has started, but for what has left its process group.
    fn kill(&mut self) {
        // The number cannot be another's yet: the program has not been waited for.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Actions {
    /// Checks that labels and regions of the rules exist.
    pub fn new(
        rules: Rules,
        labels: &[String],
        regions: &[Option<String>],
    ) -> Result<Self, Failure> {
        for rule in &rules.rules {
            if !labels.contains(&rule.label) {
                let known = labels.join(", ");
                let (name, label) = (&rule.name, &rule.label);
                return Err(Failure::Usage(format!(
                    "rule \"{name}\": no label is called \"{label}\"; there are: {known}"
                )));
            }
            if let Some(region) = &rule.region
                && !regions.iter().flatten().any(|known| known == region)
            {
                return Err(Failure::Usage(format!(
                    "rule \"{}\": no --roi is called \"{region}\"",
                    rule.name
                )));
            }
        }
        let indexes = HashMap::new();
        Ok(Self { rules: rules.rules, regions: regions.to_vec(), running: Vec::new(), indexes })
    }

    /// Whether pictures must be kept for snapshots.
    pub fn want_pictures(&self) -> bool {
        let actions = self.rules.iter().flat_map(|rule| &rule.actions);
        actions.into_iter().any(|action| matches!(action, Action::Snapshot(_)))
    }

    /// Does what the rules for an event say.
    pub fn take(
        &mut self,
        frame: &Seen,
        happening: &Happening<'_>,
        (names, scores): (&[String], &[f32]),
        embedding: Option<&Embedding>,
        encoder: &Encoder,
        counters: &Counters,
    ) {
        self.reap(counters);
        for at in 0..self.rules.len() {
            if !self.applies(&self.rules[at], happening) {
                continue;
            }
            let rule = self.rules[at].clone();
            let event = serde_json::json!({
                "rule": rule.name,
                "time": Time::of(frame.moment),
                "frame": frame.number,
                "event": name_of(happening.change),
                "label": happening.label,
                "score": six_digits(happening.score),
                "region": self.regions[happening.region],
                "scores": names.iter().zip(scores).map(|(n, s)| (n.clone(), six_digits(*s).into()))
                    .collect::<serde_json::Map<_, serde_json::Value>>(),
            });
            for action in &rule.actions {
                let done = match action {
                    Action::Print => {
                        complain(&format!(
                            "{}: {} {}s",
                            rule.name,
                            happening.label,
                            name_of(happening.change)
                        ));
                        Ok(())
                    }
                    Action::Snapshot(folder) => snapshot(folder, frame, &event),
                    Action::Command(command, limit) => {
                        self.start(&rule.name, command, *limit, &event)
                    }
                    Action::Index(folder) => self.append(folder, frame, &rule, embedding, encoder),
                    _ => Ok(()),
                };
                if let Err(reason) = done {
                    counters.failed_action(format!("rule \"{}\": {reason}", rule.name));
                }
            }
        }
    }

    fn applies(&self, rule: &Rule, happening: &Happening<'_>) -> bool {
        let region = self.regions[happening.region].as_ref();
        rule.label == happening.label
            && rule.on_leave == (happening.change == Change::Leave)
            && (rule.on_leave || happening.score >= rule.threshold)
            && (rule.region.is_none() || rule.region.as_ref() == region)
            && rule.hours.is_none_or(|hours| hours.holds(minute_of_day()))
    }

    /// Starts a program with the event on its standard input and in its environment.
    fn start(
        &mut self,
        rule: &str,
        command: &[String],
        limit: Duration,
        event: &serde_json::Value,
    ) -> Result<(), String> {
        if self.running.len() >= MOST_RUNNING {
            return Err(format!("{MOST_RUNNING} commands are still running: not started"));
        }
        let mut process = Command::new(&command[0]);
        process.args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::null());
        // A group of its own, so that all that it starts can be ended with it.
        process.process_group(0);
        for key in ["event", "label", "score", "time", "region"] {
            let value = &event[key];
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            process.env(format!("SEXTANT_{}", key.to_uppercase()), text.replace('\0', ""));
        }
        let started = process.spawn();
        let mut child = started.map_err(|e| format!("{} cannot be run: {e}", command[0]))?;
        if let Some(mut stdin) = child.stdin.take() {
            // An event is shorter than a pipe is deep, so this never waits for the reader.
            let mut line = event.to_string();
            line.truncate(line.floor_char_boundary(16 << 10));
            let _ = writeln!(stdin, "{line}");
        }
        self.running.push(Running { child, until: Instant::now() + limit, rule: rule.to_owned() });
        Ok(())
    }

    /// Collects what has ended and kills what takes too long.
    pub fn reap(&mut self, counters: &Counters) {
        self.running.retain_mut(|running| match running.child.try_wait() {
            Ok(None) if Instant::now() < running.until => true,
            Ok(None) => {
                running.kill();
                let message = "its command took too long: killed, with all that it started";
                counters.failed_action(format!("rule \"{}\": {message}", running.rule));
                false
            }
            Ok(Some(status)) if !status.success() => {
                let message = format!("its command ended with {status}");
                counters.failed_action(format!("rule \"{}\": {message}", running.rule));
                false
            }
            _ => false,
        });
    }

    fn append(
        &mut self,
        folder: &Path,
        frame: &Seen,
        rule: &Rule,
        embedding: Option<&Embedding>,
        encoder: &Encoder,
    ) -> Result<(), String> {
        let Some(embedding) = embedding else { return Ok(()) };
        if !self.indexes.contains_key(folder) {
            let writer = open_index(folder, encoder).map_err(|e| e.to_string())?;
            self.indexes.insert(folder.to_owned(), writer);
        }
        let Some(writer) = self.indexes.get_mut(folder) else { return Ok(()) };
        let (key, time) = key_of(&rule.name, frame, 0);
        let result = Tag::new("rule", rule.name.as_str())
            .and_then(|tag| Tags::new([tag]))
            .and_then(|tags| {
                let row = NewRow::new(key.as_bytes(), embedding);
                writer.append(&[NewRow { tags: &tags, time: Some(time), ..row }])
            })
            .and_then(|_| writer.commit());
        // A writer that failed is closed: the next event opens it again.
        result.map_err(|error| {
            self.indexes.remove(folder);
            error.to_string()
        })
    }

    /// Waits for what still runs, within its time and not for long: someone wants to shut down.
    pub fn finish(&mut self, counters: &Counters) {
        let latest = Instant::now() + LAST_WAIT;
        self.running.iter_mut().for_each(|running| running.until = running.until.min(latest));
        while !self.running.is_empty() {
            self.reap(counters);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Opens an index to append to it, making it if need be.
pub fn open_index(folder: &Path, encoder: &Encoder) -> Result<Writer, sextant::index::IndexError> {
    let (space, dimension) = (encoder.space(), encoder.package().manifest().dimension);
    let is_new = std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    if is_new { Index::create(folder, space, dimension) } else { Writer::open(folder, space) }
}

fn minute_of_day() -> u16 {
    let now = jiff::ZonedDateTime::now();
    now.hour() as u16 * 60 + now.minute() as u16
}

/// Saves the picture and, beside it, the event with all scores.
fn snapshot(folder: &Path, frame: &Seen, event: &serde_json::Value) -> Result<(), String> {
    let Some(kept) = &frame.picture else { return Ok(()) };
    let failed =
        |error: &dyn std::fmt::Display| format!("no snapshot in {}: {error}", folder.display());
    let picture = kept.picture().ok_or_else(|| failed(&"its picture is damaged"))?;
    std::fs::create_dir_all(folder).map_err(|e| failed(&e))?;
    let label: String = event["label"]
        .as_str()
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.3f");
    let stem =
        format!("{now}-{}-{label}-{}", frame.number, event["event"].as_str().unwrap_or_default());
    let colour = match picture.pixels().channels() {
        4 => image::ExtendedColorType::Rgba8,
        _ => image::ExtendedColorType::Rgb8,
    };
    let path = folder.join(format!("{stem}.png"));
    let (width, height) = (picture.width(), picture.height());
    let saved = image::save_buffer(&path, picture.pixels().bytes(), width, height, colour)
        .map_err(|e| failed(&e))
        .and_then(|()| {
            let beside = folder.join(format!("{stem}.json"));
            std::fs::write(beside, format!("{event:#}\n")).map_err(|e| failed(&e))
        });
    if saved.is_err() {
        // Half a picture on a full disk helps nobody.
        let _ = std::fs::remove_file(&path);
    }
    saved
}
