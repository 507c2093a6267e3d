use std::sync::{Condvar, Mutex};

use super::super::item::Subject;
use super::super::keeper::Sink;
use super::super::rows::Row;
use super::super::testing::{GATEWAY, feedback_log, item, parts, prediction_of};
use super::*;

fn about(row: u64) -> Result<Feedback, ItemFault> {
    Ok(item(Subject::Prediction(prediction_of(GATEWAY, 1, 0).row(row)), 1.0, 1_772_366_400_000_000))
}

#[tokio::test]
async fn good_items_are_kept_and_bad_ones_keep_their_place() {
    let (log, kept) = feedback_log();
    let fault = || ItemFault::new("value", "a number", "nothing");
    let taken = log.take(vec![Err(fault()), about(1), Err(fault()), about(2)]).await.unwrap();
    assert_eq!(taken, Taken { accepted: 2, unknown: 0, errors: vec![(0, fault()), (2, fault())] });
    assert_eq!(kept.rows().len(), 2);
    let none = log.take(vec![Err(fault())]).await.unwrap();
    assert_eq!(none, Taken { errors: vec![(0, fault())], ..Taken::default() });
}

#[tokio::test]
async fn what_has_come_is_written_before_the_thread_ends() {
    let (parts, kept) = parts();
    let stop = CancellationToken::new();
    let (log, thread) = FeedbackLog::start(parts, stop.clone()).unwrap();
    log.take(vec![about(1)]).await.unwrap();
    stop.cancel();
    tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    assert!(kept.is_closed());
    let error = log.take(vec![about(2)]).await.unwrap_err();
    assert_eq!(error.to_string(), "the feedback log has stopped");
    assert_eq!(kept.rows().len(), 1);
}

#[tokio::test]
async fn segments_are_ended_on_demand_and_the_log_goes_on() {
    let (log, kept) = feedback_log();
    log.take(vec![about(1)]).await.unwrap();
    assert!(!kept.is_closed());
    log.close_segments().await.unwrap();
    assert!(kept.is_closed());
    assert_eq!(log.take(vec![about(2)]).await.unwrap().accepted, 1);
    assert!(matches!(FeedbackLog::off().close_segments().await, Err(Error::Unsupported(_))));
}

/// A disk that does not come back until it is let go.
#[derive(Clone, Default)]
struct Stalled(Arc<(Mutex<bool>, Condvar)>);

impl Stalled {
    fn let_go(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

impl Sink for Stalled {
    fn append(&mut self, _: Option<&str>, _: &[&Row], _: i64) -> std::io::Result<()> {
        let mut free = self.0.0.lock().unwrap();
        while !*free {
            free = self.0.1.wait(free).unwrap();
        }
        Ok(())
    }

    fn tick(&mut self, _: i64) {}

    fn known_until(&mut self, _: i64) {}

    fn close_all(&mut self) {}
}

struct NoJudge;

impl super::super::Judge for NoJudge {
    fn judge(&mut self, _: &Feedback, _: Option<&super::super::Credit>) {}

    fn tick(&mut self, _: i64) {}
}

#[tokio::test]
async fn a_log_that_is_full_says_so_and_takes_more_once_there_is_room() {
    let disk = Stalled::default();
    let parts = Parts { sink: Box::new(disk.clone()), judge: Box::new(NoJudge), ..parts().0 };
    let (log, _) = FeedbackLog::start(parts, CancellationToken::new()).unwrap();
    let log = Arc::new(log);
    let call = |row| {
        let log = log.clone();
        tokio::spawn(async move { log.take(vec![about(row)]).await })
    };
    // Some are in the thread's hands, the others fill the channel.
    let mut calls: Vec<_> = (0..MAX_WAITING_CALLS as u64 * 3).map(call).collect();
    let refused = async {
        loop {
            if let Some(at) = calls.iter().position(|call| call.is_finished()) {
                return calls.swap_remove(at).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(30), refused).await.unwrap().unwrap_err();
    assert!(error.to_string().starts_with("the feedback log is full: "), "{error}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    disk.let_go();
    let mut kept = 0;
    for call in calls {
        kept += usize::from(call.await.unwrap().is_ok());
    }
    assert!(kept >= MAX_WAITING_CALLS, "{kept}");
    assert_eq!(log.take(vec![about(0)]).await.unwrap().accepted, 1);
}
