use super::*;
use crate::batching::request::Work;
use crate::inference::Deadline;
use crate::tensor::{DataType, Tensor};

const CAP: usize = 4;
const MS: Duration = Duration::from_millis(1);

struct Case {
    queue: Queue,
    start: Instant,
    next: u64,
    rules: BatchRules,
}

/// What a request is like; the rest is usual.
#[derive(Clone, Copy)]
struct Like {
    rows: usize,
    width: usize,
    priority: Priority,
    deadline: Deadline,
}

const ONE: Like = Like { rows: 1, width: 2, priority: Priority::High, deadline: Deadline::NONE };

impl Case {
    fn new(requests: &[Like]) -> Self {
        let mut case = Self {
            queue: Queue::default(),
            start: Instant::now(),
            next: 0,
            rules: BatchRules { cap: CAP, whole: CAP, ..BatchRules::unbatched() },
        };
        for &like in requests {
            case.push(like);
        }
        case
    }

    /// Rows of all turns before a newcomer's.
    fn rows_ahead(&self, priority: Priority) -> usize {
        self.queue.runs_ahead(priority, usize::MAX).1
    }

    fn push(&mut self, like: Like) -> Arc<Request> {
        let inputs = vec![Tensor::zeros(DataType::Fp32, vec![like.rows, like.width])];
        let work = Work { inputs, rows: like.rows, deadline: like.deadline, priority: like.priority, start_by: None };
        let request = Arc::new(Request::new(self.next, work, Some(&axes()), self.start).0);
        self.next += 1;
        self.queue.push(request.clone(), CAP);
        request
    }

    /// The next batch as (number of the request, first row, rows).
    fn cut_at(&mut self, now: Instant, delay_after: Option<Duration>) -> Vec<(u64, usize, usize)> {
        let rules = self.rules.clone();
        let axes = axes();
        let cutting = Cutting {
            rules: &rules,
            axes: Some(&axes),
            best: &|rows| rows,
            run: Duration::ZERO,
            delay_after,
            closed: false,
        };
        match self.queue.cut(now, &cutting) {
            Cut::Batch(pieces) => pieces.iter().map(|piece| (piece.request.number, piece.start, piece.count)).collect(),
            Cut::Empty => vec![],
            Cut::Wait(_) => vec![],
        }
    }

    fn cut(&mut self) -> Vec<(u64, usize, usize)> {
        self.cut_at(self.start, None)
    }
}

fn axes() -> BatchAxes {
    BatchAxes { inputs: vec![Some(0)], outputs: vec![Some(0)] }
}

#[test]
fn what_waits_is_cut_in_the_order_of_arrival_up_to_the_cap() {
    let mut case = Case::new(&[ONE; 6]);
    assert_eq!(case.cut(), [(0, 0, 1), (1, 0, 1), (2, 0, 1), (3, 0, 1)]);
    assert_eq!(case.cut(), [(4, 0, 1), (5, 0, 1)]);
    assert!(case.cut().is_empty());
    assert_eq!((case.queue.len(), case.queue.bytes(), case.rows_ahead(Priority::Low)), (0, 0, 0));
}

#[test]
fn a_batch_holds_rows_of_one_shape() {
    let wide = Like { width: 3, ..ONE };
    let mut case = Case::new(&[ONE, wide, ONE, wide]);
    assert_eq!(case.cut(), [(0, 0, 1), (2, 0, 1)]);
    assert_eq!(case.cut(), [(1, 0, 1), (3, 0, 1)]);
}

#[test]
fn a_request_that_fits_is_not_torn() {
    let mut case = Case::new(&[Like { rows: 3, ..ONE }, Like { rows: 2, ..ONE }, ONE]);
    assert_eq!(case.cut(), [(0, 0, 3), (2, 0, 1)]);
    assert_eq!(case.cut(), [(1, 0, 2)]);
}

#[test]
fn a_request_that_is_too_large_takes_turns_with_the_others() {
    let mut case = Case::new(&[Like { rows: 10, ..ONE }, Like { rows: 4, ..ONE }]);
    assert_eq!(case.rows_ahead(Priority::High), 8, "one turn each");
    assert_eq!(case.queue.runs_ahead(Priority::High, CAP), (2, 4));
    assert_eq!(case.queue.runs_ahead(Priority::High, 1), (2, 4), "a turn is one run, though rows share none");
    assert_eq!(case.cut(), [(0, 0, 4)]);
    assert_eq!(case.cut(), [(1, 0, 4)]);
    assert_eq!(case.cut(), [(0, 4, 4)]);
    assert_eq!(case.rows_ahead(Priority::High), 2);
    assert_eq!(case.cut(), [(0, 8, 2)]);
    assert_eq!((case.queue.len(), case.queue.bytes(), case.rows_ahead(Priority::High)), (0, 0, 0));
}

#[test]
fn a_request_of_no_rows_runs_by_itself() {
    let mut case = Case::new(&[Like { rows: 0, ..ONE }, ONE]);
    assert_eq!(case.cut(), [(0, 0, 0)]);
    assert_eq!(case.cut(), [(1, 0, 1)]);
}

#[test]
fn the_high_class_goes_first_and_the_low_fills_what_is_left() {
    let low = Like { priority: Priority::Low, ..ONE };
    let mut case = Case::new(&[low, low, low, ONE, ONE]);
    assert_eq!((case.rows_ahead(Priority::High), case.rows_ahead(Priority::Low)), (2, 5));
    assert_eq!(case.cut(), [(3, 0, 1), (4, 0, 1), (0, 0, 1), (1, 0, 1)]);
    assert_eq!(case.cut(), [(2, 0, 1)]);
}

#[test]
fn the_newest_of_the_low_class_makes_room() {
    let low = Like { priority: Priority::Low, ..ONE };
    let mut case = Case::new(&[low, ONE, low]);
    assert_eq!(case.queue.evict_low().unwrap().number, 2);
    assert_eq!(case.queue.evict_low().unwrap().number, 0);
    assert!(case.queue.evict_low().is_none());
    assert_eq!(case.cut(), [(1, 0, 1)]);
}

#[test]
fn what_nobody_waits_for_is_not_cut() {
    let now = Instant::now();
    let late = Like { deadline: Deadline::after(now, MS), ..ONE };
    let mut case = Case::new(&[late, ONE, late, ONE]);
    let gone = case.push(ONE);
    gone.leave();
    assert_eq!(case.cut_at(now + 2 * MS, None), [(1, 0, 1), (3, 0, 1)]);
    assert!(case.cut_at(now + 2 * MS, None).is_empty());
    assert_eq!((case.queue.len(), case.queue.bytes()), (0, 0));
}

#[test]
fn a_withdrawn_request_leaves_nothing_behind() {
    let mut case = Case::new(&[Like { rows: 9, ..ONE }, ONE]);
    case.cut();
    assert!(case.queue.withdraw(0, false).is_none(), "a part of it was cut");
    assert_eq!(case.queue.withdraw(0, true).unwrap().number, 0);
    assert!(case.queue.withdraw(0, true).is_none());
    assert_eq!(case.cut(), [(1, 0, 1)]);
    assert_eq!((case.queue.len(), case.queue.bytes(), case.rows_ahead(Priority::High)), (0, 0, 0));
}

#[test]
fn a_delayed_request_runs_after_all_others() {
    let mut case = Case::new(&[Like { rows: CAP, ..ONE }]);
    let later = case.start + 10 * MS;
    case.start = later;
    case.push(Like { rows: CAP, ..ONE });
    case.push(Like { rows: CAP, priority: Priority::Low, ..ONE });
    let order: Vec<u64> = (0..3).map(|_| case.cut_at(later, Some(5 * MS))[0].0).collect();
    assert_eq!(order, [1, 2, 0]);
}

#[test]
fn a_changed_cap_leaves_no_rows_behind() {
    let mut case = Case::new(&[]);
    for (number, whole) in [(0, 100), (1, 1)] {
        let inputs = vec![Tensor::zeros(DataType::Fp32, vec![9, 2])];
        let work = Work { inputs, rows: 9, deadline: Deadline::NONE, priority: Priority::High, start_by: None };
        case.queue.push(Arc::new(Request::new(number, work, Some(&axes()), case.start).0), whole);
    }
    assert_eq!(case.rows_ahead(Priority::High), 10);
    assert!(case.queue.withdraw(0, true).is_some());
    assert!(case.queue.withdraw(1, true).is_some());
    assert_eq!(case.rows_ahead(Priority::High), 0);
}

#[test]
fn a_batch_that_may_wait_keeps_no_full_one_of_another_shape_waiting() {
    let wide = Like { width: 3, rows: CAP, ..ONE };
    let mut case = Case::new(&[ONE, wide, ONE]);
    case.rules.max_queue_delay = MS;
    assert_eq!(case.cut(), [(1, 0, CAP)]);
    assert!(case.cut().is_empty(), "the others wait for more");
    assert_eq!(case.cut_at(case.start + MS, None), [(0, 0, 1), (2, 0, 1)]);
}
