//! Where else a watch is seen: a page in a browser, and an MQTT broker. Each is a cargo feature.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use sextant::watch::{Frames, Rules, Seen, Watcher};
use sextant::{CompiledLabels, Encoder};

use super::super::label::LabelSource;
use super::super::{Failure, Global};
use super::events::EventLine;
use super::keep::Keep;
use super::service::Service;

/// Other outputs than standard output.
#[derive(Debug, Args)]
pub struct OutputArgs {
    #[cfg(feature = "http")]
    #[command(flatten)]
    http: super::http::HttpArgs,
    /// Not in this build
    #[cfg(not(feature = "http"))]
    #[arg(long, hide = true, value_name = "ADDRESS")]
    http: Option<String>,
    #[cfg(feature = "mqtt")]
    #[command(flatten)]
    mqtt: super::mqtt::MqttArgs,
    /// Not in this build
    #[cfg(not(feature = "mqtt"))]
    #[arg(long, hide = true, value_name = "ADDRESS")]
    mqtt: Option<String>,
}

/// What an output needs to know of the watch before it begins.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(all(feature = "http", feature = "mqtt")), allow(dead_code))]
pub struct Surroundings<'a> {
    /// The encoder.
    pub encoder: &'a Arc<Encoder>,
    /// Where the labels came from.
    pub labels: &'a LabelSource,
    /// The rules, whose labels must stay.
    pub rules: &'a Rules,
    /// Names of the regions; one without a name where there are none.
    pub regions: &'a [Option<String>],
    /// The source as given.
    pub source: &'a str,
    /// The score from which a frame speaks for a label.
    pub enter: f32,
    /// Whether it is reported that no label fits.
    pub unknown: bool,
    /// The index that frames are kept in.
    pub index: Option<&'a Path>,
}

/// The outputs of one watch.
pub struct Outputs {
    #[cfg(feature = "http")]
    page: Option<super::http::Page>,
    #[cfg(feature = "mqtt")]
    broker: Option<super::mqtt::Broker>,
}

impl Outputs {
    /// Opens what was asked for.
    pub fn start(
        args: &OutputArgs,
        surroundings: &Surroundings<'_>,
        global: &Global,
    ) -> Result<Self, Failure> {
        #[cfg(not(feature = "http"))]
        if args.http.is_some() {
            return Err(missing("--http", "http"));
        }
        #[cfg(not(feature = "mqtt"))]
        if args.mqtt.is_some() {
            return Err(missing("--mqtt", "mqtt"));
        }
        let _ = (surroundings, global);
        Ok(Self {
            #[cfg(feature = "http")]
            page: super::http::Page::open(&args.http, surroundings, global)?,
            #[cfg(feature = "mqtt")]
            broker: super::mqtt::Broker::open(&args.mqtt, surroundings)?,
        })
    }

    /// Whether pictures must be kept.
    pub fn want_pictures(&self) -> bool {
        #[cfg(feature = "http")]
        return self.page.is_some();
        #[cfg(not(feature = "http"))]
        false
    }

    /// The labels are those of `watcher` from now on.
    pub fn begin(&mut self, watcher: &Watcher<'_>) {
        let _ = watcher;
        #[cfg(feature = "http")]
        if let Some(page) = &self.page {
            page.begin(watcher);
        }
        #[cfg(feature = "mqtt")]
        if let Some(broker) = &self.broker {
            broker.begin(watcher);
        }
    }

    /// Something happened.
    pub fn event(&mut self, line: &EventLine<'_>) {
        let _ = line;
        #[cfg(feature = "http")]
        if let Some(page) = &self.page {
            page.event(line);
        }
        #[cfg(feature = "mqtt")]
        if let Some(broker) = &self.broker {
            broker.event(line);
        }
    }

    /// A frame was looked at; its picture may be taken.
    pub fn frame(&mut self, frame: &mut Seen, watcher: &Watcher<'_>) {
        let _ = (&frame, watcher);
        #[cfg(feature = "http")]
        if let Some(page) = &self.page {
            page.frame(frame, watcher);
        }
    }

    /// The loop goes round.
    pub fn beat(&mut self, frames: &Frames, watcher: &Watcher<'_>, keep: &Keep, service: &Service) {
        let _ = (frames, watcher, keep, service);
        #[cfg(feature = "http")]
        if let Some(page) = &self.page {
            let counts = frames.counters().counts();
            let metrics = || service.metrics(&counts, watcher, keep, self);
            page.beat(&counts, page.wants_metrics().then(metrics));
        }
    }

    /// Adds what there is to count to the text for Prometheus.
    pub fn add_metrics(&self, text: &mut String) {
        let _ = &text;
        #[cfg(feature = "mqtt")]
        if let Some(broker) = &self.broker {
            broker.metrics(text);
        }
    }

    /// The labels that somebody wants watched instead, once.
    pub fn changed_labels(&mut self) -> Option<CompiledLabels> {
        #[cfg(feature = "http")]
        return self.page.as_ref().and_then(super::http::Page::changed_labels);
        #[cfg(not(feature = "http"))]
        None
    }

    /// The watch is over.
    pub fn finish(&mut self) {
        #[cfg(feature = "http")]
        if let Some(page) = &self.page {
            page.finish();
        }
        #[cfg(feature = "mqtt")]
        if let Some(broker) = &self.broker {
            broker.finish();
        }
    }
}

/// An option of a feature that this build lacks.
#[cfg(not(all(feature = "http", feature = "mqtt")))]
fn missing(option: &str, feature: &str) -> Failure {
    Failure::Usage(format!(
        "{option}: this sextant was built without it: build it with `--features {feature}`"
    ))
}
