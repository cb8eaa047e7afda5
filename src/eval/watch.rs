//! Events against what a person saw in a recording.

use std::path::Path;

use serde::Serialize;

use super::EvalError;
use super::table::rows;

/// A label that is there from one time to another, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Visit {
    /// When it comes.
    pub from: f64,
    /// When it is gone; infinite if it stays.
    pub until: f64,
    /// The label.
    pub label: String,
}

/// How events compare with the truth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WatchReport {
    /// Visits that the truth has.
    pub visits: usize,
    /// Visits that were reported.
    pub events: usize,
    /// Share of the reported visits that overlap a true one of the same label.
    pub precision: f64,
    /// Share of the true visits that overlap a reported one.
    pub recall: f64,
    /// Reported visits for each true one.
    pub events_per_visit: f64,
    /// Reported visits an hour of the recording.
    pub events_per_hour: f64,
    /// Median seconds from the beginning of a true visit to the first report of it.
    pub median_delay: Option<f64>,
    /// The same for each label of the truth on its own, in alphabetical order.
    pub labels: Vec<LabelReport>,
}

/// How the events of one label compare with the truth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelReport {
    /// The label.
    pub label: String,
    /// Visits that the truth has.
    pub visits: usize,
    /// How many of them overlap a reported one.
    pub found: usize,
    /// Visits that were reported.
    pub events: usize,
    /// How many of them overlap a true one.
    pub right: usize,
    /// Median seconds from the beginning of a true visit to the first report of it.
    pub median_delay: Option<f64>,
    /// The longest of these delays.
    pub longest_delay: Option<f64>,
}

/// Reads a table of visits: beginning TAB end TAB label, in seconds.
///
/// # Errors
/// [`EvalError`].
pub fn read_visits(path: &Path) -> Result<Vec<Visit>, EvalError> {
    rows(path, "beginning and end in seconds, and a label", |fields| {
        let mut time = || fields.next()?.trim().parse::<f64>().ok();
        let (from, until) = (time()?, time()?);
        let label = fields.next().map(str::trim).filter(|label| !label.is_empty())?;
        (from < until).then(|| Visit { from, until, label: label.to_owned() })
    })
}

/// Compares reported visits with true ones over a recording of `seconds`.
///
/// ```
/// use sextant::eval::{Visit, compare_visits};
/// let visit = |from, until| Visit { from, until, label: "a car".to_owned() };
/// let report = compare_visits(&[visit(4.0, 8.0)], &[visit(4.6, 6.0), visit(20.0, 21.0)], 30.0);
/// assert_eq!((report.precision, report.recall), (0.5, 1.0));
/// assert!((report.median_delay.unwrap() - 0.6).abs() < 1e-9);
/// ```
pub fn compare_visits(truth: &[Visit], events: &[Visit], seconds: f64) -> WatchReport {
    let mut names: Vec<&str> = truth.iter().map(|visit| visit.label.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut delays = Vec::new();
    let labels: Vec<LabelReport> =
        names.iter().map(|name| compare_label(name, truth, events, &mut delays)).collect();
    let right: usize = labels.iter().map(|label| label.right).sum();
    let share =
        |part: usize, whole: usize| if whole == 0 { 1.0 } else { part as f64 / whole as f64 };
    WatchReport {
        visits: truth.len(),
        events: events.len(),
        precision: share(right, events.len()),
        recall: share(delays.len(), truth.len()),
        events_per_visit: events.len() as f64 / truth.len().max(1) as f64,
        events_per_hour: events.len() as f64 * 3600.0 / seconds.max(f64::MIN_POSITIVE),
        median_delay: median(delays),
        labels,
    }
}

/// One label of the above; adds the delay of each visit found.
fn compare_label(
    name: &str,
    truth: &[Visit],
    events: &[Visit],
    delays: &mut Vec<f64>,
) -> LabelReport {
    let of_label = |all: &[Visit]| -> Vec<Visit> {
        all.iter().filter(|visit| visit.label == name).cloned().collect()
    };
    let (truth, events) = (of_label(truth), of_label(events));
    let meets = |a: &Visit, b: &Visit| a.from < b.until && b.from < a.until;
    let firsts: Vec<f64> = truth
        .iter()
        .filter_map(|visit| {
            let found = events.iter().filter(|event| meets(visit, event));
            let first = found.map(|event| event.from).reduce(f64::min)?;
            Some((first - visit.from).max(0.0))
        })
        .collect();
    delays.extend(&firsts);
    let right = events.iter().filter(|event| truth.iter().any(|visit| meets(visit, event)));
    LabelReport {
        label: name.to_owned(),
        visits: truth.len(),
        found: firsts.len(),
        right: right.count(),
        events: events.len(),
        longest_delay: firsts.iter().copied().reduce(f64::max),
        median_delay: median(firsts),
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(from: f64, until: f64, label: &str) -> Visit {
        Visit { from, until, label: label.to_owned() }
    }

    #[test]
    fn flicker_costs_events_and_misses_cost_recall() {
        let truth = [visit(1.0, 5.0, "a"), visit(10.0, 12.0, "a"), visit(1.0, 2.0, "b")];
        let events = [visit(1.5, 2.0, "a"), visit(3.0, 4.0, "a"), visit(8.0, 9.0, "b")];
        let report = compare_visits(&truth, &events, 3600.0);
        assert!((report.precision - 2.0 / 3.0).abs() < 1e-9);
        assert!((report.recall - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!((report.events_per_visit, report.events_per_hour), (1.0, 3.0));
        assert_eq!(report.median_delay, Some(0.5));
        let [a, b] = &report.labels[..] else { unreachable!() };
        assert_eq!((a.label.as_str(), a.visits, a.found, a.events, a.right), ("a", 2, 1, 2, 2));
        assert_eq!((b.found, b.events, b.right, b.median_delay), (0, 1, 0, None));
        assert_eq!((a.median_delay, a.longest_delay), (Some(0.5), Some(0.5)));
        assert_eq!(compare_visits(&[], &[], 1.0).median_delay, None);
    }
}
