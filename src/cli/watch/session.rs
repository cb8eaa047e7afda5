//! The loop of a watch, and everything that a frame passes through in it.

use std::time::Duration;

use sextant::watch::{Calm, Change, Frames, Happening, Next, Past, Scene, Seen, UNKNOWN, Watcher};
use sextant::{CompiledLabels, Embedding, Encoder};

use super::super::Failure;
use super::super::interrupt::Interrupt;
use super::super::output::complain;
use super::actions::Actions;
use super::events::Printer;
use super::keep::Keep;
use super::outputs::Outputs;
use super::service::Service;

/// How long to wait for a frame before looking around.
const PATIENCE: Duration = Duration::from_millis(500);

/// Everything that a frame passes through.
pub struct Session<'a> {
    /// The encoder.
    pub encoder: &'a Encoder,
    /// Where frames come from.
    pub frames: &'a Frames,
    /// Whether somebody wants it to end.
    pub interrupt: Interrupt,
    /// Events on standard output.
    pub printer: Printer,
    /// The rules at work.
    pub actions: Actions,
    /// The index.
    pub keep: Keep,
    /// For whoever looks after it.
    pub service: Service,
    /// The page.
    pub outputs: Outputs,
    /// What each region looked like last.
    pub latest: Vec<Embedding>,
}

impl Session<'_> {
    /// Watches until it is over, or until there are other labels for the frame that comes next.
    pub fn watch(
        &mut self,
        watcher: &mut Watcher<'_>,
    ) -> Result<Option<(CompiledLabels, Box<Seen>)>, Failure> {
        loop {
            let next = self.frames.next(PATIENCE);
            self.tell_notices();
            match next {
                Next::Frame(frame) => match self.outputs.changed_labels() {
                    Some(labels) => return Ok(Some((labels, frame))),
                    None => self.take(*frame, watcher)?,
                },
                Next::Nothing => {}
                Next::End => return Ok(None),
            }
            self.actions.reap(self.frames.counters());
            self.service.beat(self.frames, watcher, &self.keep, &self.outputs);
            self.outputs.beat(self.frames, watcher, &self.keep, &self.service);
            if self.interrupt.came() {
                return Ok(None);
            }
        }
    }

    /// Goes on with other labels; those that were there and are no more leave.
    pub fn resume<'b>(
        &mut self,
        scene: Scene<'b>,
        calm: Calm,
        past: &Past,
        frame: &Seen,
    ) -> Result<Watcher<'b>, Failure> {
        let (printer, outputs) = (&mut self.printer, &mut self.outputs);
        let mut result = Ok(());
        let mut watcher = Watcher::resume(scene, calm, past, |happening| {
            let line = printer.line(frame, &happening);
            outputs.event(&line);
            result = std::mem::replace(&mut result, Ok(())).and_then(|()| printer.event(&line));
        });
        result?;
        // A scene where nothing moves is not encoded again: how it looks is known.
        for (region, embedding) in self.latest.iter().enumerate() {
            watcher.look(region, embedding).expect("one encoder has one space");
        }
        self.outputs.begin(&watcher);
        Ok(watcher)
    }

    fn tell_notices(&self) {
        self.frames.counters().take_notices().iter().for_each(|notice| complain(notice));
    }

    /// Takes a frame through all of it.
    pub fn take(&mut self, mut frame: Seen, watcher: &mut Watcher<'_>) -> Result<(), Failure> {
        let embeddings = std::mem::take(&mut frame.embeddings);
        for (region, embedding) in embeddings.iter().enumerate() {
            watcher.look(region, embedding).expect("one encoder has one space");
        }
        let mut result = Ok(());
        let (printer, outputs) = (&mut self.printer, &mut self.outputs);
        let mut collected: Vec<(usize, String, Change, f32)> = Vec::new();
        watcher.step(frame.time, |happening: Happening<'_>| {
            if happening.label == UNKNOWN && !printer.tells_unknown() {
                return;
            }
            let line = printer.line(&frame, &happening);
            outputs.event(&line);
            let written = printer.event(&line);
            if result.is_ok() {
                result = written;
            }
            let Happening { region, label, change, score } = happening;
            collected.push((region, label.to_owned(), change, score));
        });
        result?;
        for (region, label, change, score) in &collected {
            let happening = Happening { region: *region, label, change: *change, score: *score };
            let scores = (watcher.scene().names(), watcher.scores(*region));
            let counters = self.frames.counters();
            let embedding = embeddings.get(*region);
            self.actions.take(&frame, &happening, scores, embedding, self.encoder, counters);
        }
        self.printer.sample(&frame, watcher)?;
        self.keep.take(&frame, &embeddings, !collected.is_empty());
        self.outputs.frame(&mut frame, watcher);
        if !embeddings.is_empty() {
            self.latest = embeddings;
        }
        Ok(())
    }

    /// Writes what is not yet written, and says that it is over.
    pub fn finish(&mut self, watcher: &Watcher<'_>) {
        self.keep.finish();
        self.actions.finish(self.frames.counters());
        self.tell_notices();
        self.outputs.finish();
        self.service.end(self.frames, watcher, &self.keep, &self.outputs);
    }
}
