//! Options that choose rows of an index.

use std::ffi::OsString;

use clap::{Args, ValueEnum};
use sextant::Modality;
use sextant::index::{Filter, Tag};

use super::moment::Moment;

/// Conditions that rows must meet, all of them.
#[derive(Debug, Default, Args)]
pub struct Selection {
    /// Only rows with this tag (repeatable: all of them)
    #[arg(long = "where", value_name = "NAME=VALUE", value_parser = parse_tag)]
    tags: Vec<Tag>,
    /// Only rows of this time or later: a date, a time, "yesterday", "2 days ago"
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    since: Option<Moment>,
    /// Only rows of this time or earlier; a date includes its whole day
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    until: Option<Moment>,
    /// Only rows with keys that begin so, such as a folder's path
    #[arg(long, value_name = "KEY")]
    prefix: Option<OsString>,
    /// Only rows that were made from this
    #[arg(long, value_enum)]
    modality: Option<Kind>,
}

/// What a row was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A picture
    Image,
    /// A text
    Text,
}

impl From<Kind> for Modality {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Image => Modality::Image,
            Kind::Text => Modality::Text,
        }
    }
}

/// Reads `name=value`.
pub fn parse_tag(text: &str) -> Result<Tag, String> {
    text.parse::<Tag>().map_err(|e| e.to_string())
}

impl Selection {
    /// Whether every row passes.
    pub fn is_open(&self) -> bool {
        self.filter() == Filter::default()
    }

    /// The same for the index.
    pub fn filter(&self) -> Filter {
        Filter {
            tags: self.tags.clone(),
            modality: self.modality.map(Modality::from),
            since: self.since.map(|moment| moment.first),
            until: self.until.map(|moment| moment.last),
            prefix: self.prefix.as_ref().map_or_else(Vec::new, |p| p.as_encoded_bytes().to_vec()),
        }
    }
}
