//! One thread that builds the plans which shapes have earned, so that no request waits for them.
//!
//! It serves all models of an engine, one build at a time: however many shapes earn a plan at once, builds take one core.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Builds that may wait. One that finds no place is given up; its shape has to earn it again.
pub const MAX_QUEUED_BUILDS: usize = 64;

type Task = Box<dyn FnOnce() + Send>;

/// The way to the thread, which starts with the first build and ends when the engine and its models are gone.
#[derive(Default)]
pub struct Builder {
    queue: OnceLock<Option<SyncSender<Task>>>,
}

impl Builder {
    /// Queues a build; false if there is no place for it.
    pub fn submit(&self, task: impl FnOnce() + Send + 'static) -> bool {
        let queue = self.queue.get_or_init(start);
        queue.as_ref().is_some_and(|queue| queue.try_send(Box::new(task)).is_ok())
    }

    /// One without a thread, for tests that decide when a build happens.
    #[cfg(test)]
    pub fn by_hand(places: usize) -> (std::sync::Arc<Self>, Receiver<Task>) {
        let (queue, tasks) = sync_channel(places);
        (std::sync::Arc::new(Self { queue: OnceLock::from(Some(queue)) }), tasks)
    }
}

fn start() -> Option<SyncSender<Task>> {
    let (queue, tasks): (_, Receiver<Task>) = sync_channel(MAX_QUEUED_BUILDS);
    // A build turns a panic of the engine into its own error, so that a task leaves the thread alive.
    let started =
        thread::Builder::new().name("build plans".to_owned()).spawn(move || tasks.iter().for_each(|task| task()));
    match started {
        Ok(_) => Some(queue),
        Err(cause) => {
            tracing::warn!(%cause, "no thread to build plans with: shapes stay on their slower plans");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn builds_happen_on_another_thread_in_their_order() {
        let (builder, (done, told)) = (Builder::default(), mpsc::channel());
        for number in 0..3 {
            let done = done.clone();
            assert!(builder.submit(move || done.send((number, thread::current().id())).unwrap()));
        }
        let built: Vec<_> = told.iter().take(3).collect();
        assert_eq!(built.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(built.iter().all(|(_, id)| *id == built[0].1 && *id != thread::current().id()));
    }

    #[test]
    fn a_build_that_finds_no_place_is_refused() {
        let (builder, tasks) = Builder::by_hand(1);
        assert!(builder.submit(|| ()));
        assert!(!builder.submit(|| ()));
        tasks.recv().unwrap()();
        assert!(builder.submit(|| ()));
    }
}
