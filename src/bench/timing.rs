//! Times of repeated work, and what is said about them.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Fewest runs that a median is taken of, however long they last.
const FEWEST_RUNS: usize = 3;

/// How often work is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Untimed runs go on for this long, and there is at least one: a scheduler takes a while to
    /// move a new thread to a processor of its own, and a processor to raise its clock.
    pub warm_up: Duration,
    /// Runs that are timed.
    pub runs: usize,
    /// No further run starts after this time, three runs excepted.
    pub longest: Duration,
}

/// Times of repeated runs of one thing, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Timing {
    /// Runs timed.
    pub runs: usize,
    /// Half of the runs took no longer.
    pub median_ms: f64,
    /// 95 of 100 runs took no longer (nearest rank).
    pub p95_ms: f64,
    /// The fastest run.
    pub fastest_ms: f64,
}

impl Timing {
    /// Runs `work` to warm up, then as often as `budget` says.
    ///
    /// # Errors
    /// The first error of `work`.
    pub fn measure<E>(budget: &Budget, mut work: impl FnMut() -> Result<(), E>) -> Result<Self, E> {
        let start = Instant::now();
        work()?;
        while start.elapsed() < budget.warm_up {
            work()?;
        }
        let mut times = Vec::with_capacity(budget.runs);
        let start = Instant::now();
        while times.len() < FEWEST_RUNS
            || (times.len() < budget.runs && start.elapsed() < budget.longest)
        {
            let run = Instant::now();
            work()?;
            times.push(run.elapsed());
        }
        Ok(Self::of(times))
    }

    /// Sums up run times; of none all is 0.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let rank = |percent: usize| (times.len() * percent).div_ceil(100).max(1) - 1;
        let at = |index: usize| times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        let median_ms = (at(rank(50)) + at(times.len() / 2)) / 2.0;
        Self { runs: times.len(), median_ms, p95_ms: at(rank(95)), fastest_ms: at(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(milliseconds: impl IntoIterator<Item = u64>) -> Timing {
        Timing::of(milliseconds.into_iter().map(Duration::from_millis).collect())
    }

    #[test]
    fn ranks_are_the_nearest() {
        let timing = of((1..=100).rev());
        assert_eq!((timing.median_ms, timing.p95_ms, timing.fastest_ms), (50.5, 95.0, 1.0));
        let timing = of([3, 1, 2]);
        assert_eq!((timing.median_ms, timing.p95_ms, timing.runs), (2.0, 3.0, 3));
        assert_eq!(of([7]).p95_ms, 7.0);
        assert_eq!(of([]).median_ms, 0.0);
    }

    #[test]
    fn a_budget_bounds_runs_and_errors_end_them() {
        let mut count = 0;
        let long = Duration::from_secs(60);
        let budget = Budget { warm_up: Duration::ZERO, runs: 5, longest: long };
        let timing = Timing::measure(&budget, || {
            count += 1;
            Ok::<_, ()>(())
        });
        assert_eq!((timing.map(|t| t.runs), count), (Ok(5), 6));
        let spent = Budget { runs: 1000, longest: Duration::ZERO, ..budget };
        assert_eq!(Timing::measure(&spent, || Ok::<_, ()>(())).map(|t| t.runs), Ok(FEWEST_RUNS));
        assert_eq!(Timing::measure(&budget, || Err("broken")), Err("broken"));
    }

    #[test]
    fn warming_up_is_not_timed() {
        let (mut count, warm_up) = (0, Duration::from_millis(20));
        let budget = Budget { warm_up, runs: 5, longest: Duration::from_secs(60) };
        let timing = Timing::measure(&budget, || {
            count += 1;
            std::thread::sleep(Duration::from_millis(5));
            Ok::<_, ()>(())
        });
        assert_eq!(timing.map(|t| t.runs), Ok(5));
        assert!((6..=9).contains(&count), "{count} runs");
    }
}
