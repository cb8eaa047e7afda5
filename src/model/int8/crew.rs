//! Keeping the threads of a pool awake while a graph runs.
//!
//! A graph is a hundred short tasks one after the other, each shared out among threads. rayon
//! lets a thread sleep that finds nothing to do for some microseconds, and waking it takes longer
//! than many of these tasks last. So while one graph runs and no other, the remaining threads of
//! its pool look for tasks without sleeping. With several graphs at once every thread has work of
//! its own, and nobody waits.

use std::cell::Cell;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rayon::Yield;
use rayon::prelude::*;

/// A thread that found nothing for so long goes to sleep: a graph has longer serial parts rarely.
const LONGEST_WAIT: Duration = Duration::from_micros(500);

/// Pauses between two looks, so that looking leaves the caches to those who work.
const PAUSES: usize = 16;

/// Graphs that run at present, in all pools.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread waits for tasks, or does one that it waited for.
    static WAITING: Cell<bool> = const { Cell::new(false) };
}

/// Counts a graph for as long as it runs.
struct Running;

impl Running {
    fn new() -> Self {
        RUNNING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs a graph. If no other one runs, the other threads of the present pool stay awake for it.
pub(crate) fn attended<R>(graph: impl FnOnce() -> R) -> R {
    let _running = Running::new();
    if let Some(home) = rayon::current_thread_index()
        && is_one_running()
    {
        for _ in 1..rayon::current_num_threads() {
            rayon::spawn(move || wait_for_tasks(home));
        }
    }
    graph()
}

/// Has the threads of the present pool work on `tasks`.
pub(super) fn for_each<T>(tasks: impl IndexedParallelIterator<Item = T>, work: impl Fn(T) + Sync) {
    let home = rayon::current_thread_index();
    tasks.for_each(|task| {
        work(task);
        stay(home);
    });
}

/// The same for work that can fail.
pub(super) fn try_for_each<T, E: Send>(
    tasks: impl IndexedParallelIterator<Item = T>,
    work: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let home = rayon::current_thread_index();
    tasks.try_for_each(|task| {
        work(task)?;
        stay(home);
        Ok(())
    })
}

fn is_one_running() -> bool {
    RUNNING.load(Ordering::Relaxed) == 1
}

/// Has this thread, which did a task for `home`, wait for the next one.
fn stay(home: Option<usize>) {
    if let Some(home) = home
        && rayon::current_thread_index() != Some(home)
        && is_one_running()
        && !WAITING.get()
    {
        rayon::spawn(move || wait_for_tasks(home));
    }
}

/// Does what tasks there are until the graph of the thread `home` has ended, or pauses for long.
/// The end of the wait does not depend on `home`, which may wait for a task below this one.
fn wait_for_tasks(home: usize) {
    if rayon::current_thread_index() == Some(home) || WAITING.replace(true) {
        return;
    }
    let mut idle_since = Instant::now();
    while is_one_running() && idle_since.elapsed() < LONGEST_WAIT {
        if rayon::yield_now() == Some(Yield::Executed) {
            idle_since = Instant::now();
        } else {
            (0..PAUSES).for_each(|_| spin_loop());
        }
    }
    WAITING.set(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn every_task_is_done_once_however_many_graphs_run() {
        for threads in [1, 2, 3, 8] {
            let graph = |sums: &mut [u64]| {
                for round in 0..200 {
                    for_each(sums.par_iter_mut(), |sum| *sum += round);
                }
            };
            let sums: Vec<Vec<u64>> = pool(threads).install(|| {
                let alone = attended(|| {
                    let mut sums = vec![0; 16];
                    graph(&mut sums);
                    sums
                });
                let several = (0..20).into_par_iter().map(|_| {
                    attended(|| {
                        let mut sums = vec![0; 16];
                        graph(&mut sums);
                        sums
                    })
                });
                several.chain(rayon::iter::once(alone)).collect()
            });
            assert!(sums.iter().flatten().all(|&sum| sum == 199 * 200 / 2), "{threads} threads");
        }
    }

    #[test]
    fn a_graph_outside_of_a_pool_or_with_an_error_ends() {
        assert_eq!(attended(|| 7), 7);
        let failed = |task: usize| if task == 5 { Err("five") } else { Ok(()) };
        let run = || attended(|| try_for_each((0..9).into_par_iter(), failed));
        assert_eq!(pool(3).install(run), Err("five"));
    }

    #[test]
    fn nobody_waits_once_the_graph_has_ended() {
        let pool = pool(4);
        pool.install(|| attended(|| for_each((0..64).into_par_iter(), |_| ())));
        let start = Instant::now();
        while pool.broadcast(|_| WAITING.get()).into_iter().any(|waits| waits) {
            assert!(start.elapsed() < Duration::from_secs(10));
        }
    }
}
