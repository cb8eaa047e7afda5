//! A report on a space: every measurement with its meaning, and one page to look at.

mod explain;
mod html;
mod measure;
mod plots;

pub use measure::{ReportInput, report};

use serde::Serialize;

use super::geometry::Histogram;
use measure::FEWEST_JUDGED;

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was measured, as the user named it.
    pub subject: String,
    /// Fingerprint of the space.
    pub space: String,
    /// Numbers an embedding.
    pub dimension: usize,
    /// Picture rows there are.
    pub images: usize,
    /// Text rows there are.
    pub texts: usize,
    /// Rows of each kind that were measured, at most.
    pub sampled: usize,
    /// Decides which rows were sampled.
    pub seed: u64,
    /// The figures, in groups.
    pub figures: Vec<Figure>,
    /// Pairs of names that are too close, for a label set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub confusions: Vec<NamedConfusion>,
    /// Similarities of matching pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matching: Option<Histogram>,
    /// Similarities of random pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random: Option<Histogram>,
    /// Share of the variance that each direction carries, largest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variance: Vec<f64>,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Its name in JSON.
    pub key: &'static str,
    /// Which rows it is about: "pictures", "texts", "pairs", "names".
    pub of: &'static str,
    /// Its value; none where it has none.
    pub value: Option<f64>,
    /// Why it has no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How it looks, by a rule of thumb.
    pub verdict: Verdict,
}

/// How a figure looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Worth knowing.
    Fair,
    /// Worth mending.
    Bad,
    /// Neither good nor bad by itself, or without a value.
    Neutral,
}

/// Two names that are too close.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedConfusion {
    /// One name.
    pub first: String,
    /// The other.
    pub second: String,
    /// Cosine similarity of the two.
    pub similarity: f32,
    /// The most the model could prefer one to the other (see
    /// [`Confusion::separable`](super::geometry::Confusion::separable)).
    pub separable: f32,
}

impl Report {
    /// The figures by what they are about, in the order in which each group first comes up.
    pub fn groups(&self) -> Vec<(&'static str, Vec<&Figure>)> {
        let mut groups: Vec<(&'static str, Vec<&Figure>)> = Vec::new();
        for figure in &self.figures {
            match groups.iter_mut().find(|(of, _)| *of == figure.of) {
                Some((_, group)) => group.push(figure),
                None => groups.push((figure.of, vec![figure])),
            }
        }
        groups
    }

    /// What to know before reading the figures, if there is anything.
    pub fn remark(&self) -> Option<String> {
        let few =
            [self.images, self.texts].into_iter().any(|rows| (1..FEWEST_JUDGED).contains(&rows));
        few.then(|| {
            format!("What is about fewer than {FEWEST_JUDGED} rows is measured but not judged: give more for that.")
        })
    }

    /// How many rows of which kind there are, in words: "50 pictures, 250 texts".
    pub fn contents(&self) -> String {
        let kinds = [(self.images, "picture"), (self.texts, "text")];
        let counted = kinds.iter().filter(|(count, _)| *count > 0);
        let words = counted.map(|(count, kind)| {
            let plural = if *count == 1 { "" } else { "s" };
            format!("{count} {kind}{plural}")
        });
        let words: Vec<String> = words.collect();
        if words.is_empty() { "no rows".to_owned() } else { words.join(", ") }
    }
}

impl Figure {
    /// Its title for people.
    pub fn title(&self) -> &'static str {
        explain::explanation(self.key).title
    }

    /// What it means, in a sentence or two.
    pub fn meaning(&self) -> &'static str {
        explain::explanation(self.key).meaning
    }

    /// Where it comes from.
    pub fn source(&self) -> &'static str {
        explain::explanation(self.key).source
    }

    /// What to do when it is bad.
    pub fn advice(&self) -> &'static str {
        explain::explanation(self.key).advice
    }
}

impl Report {
    /// One HTML page with plots, complete in itself.
    pub fn to_html(&self) -> String {
        html::page(self)
    }
}
