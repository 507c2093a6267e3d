use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc;

use super::*;

/// Does what it is told once for each piece of work, and counts how many turns run at the same time.
struct Work {
    place: Place,
    left: AtomicU32,
    now: AtomicU32,
    most: AtomicU32,
    all: Arc<(AtomicU32, AtomicU32)>,
    done: mpsc::Sender<()>,
    takes: Duration,
}

impl Turns for Work {
    fn turn(&self) -> Turn {
        let Ok(before) = self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) else { return Turn::Done };
        if before > 1 {
            self.place.wake();
        }
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
        let all = self.all.0.fetch_add(1, SeqCst) + 1;
        self.all.1.fetch_max(all, SeqCst);
        thread::sleep(self.takes);
        self.now.fetch_sub(1, SeqCst);
        self.all.0.fetch_sub(1, SeqCst);
        if before == 1 {
            let _ = self.done.send(());
        }
        Turn::Done
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn resized(&self, _workers: u32, _parallelism: f64) {}
}

struct Pools {
    pools: Vec<Arc<Work>>,
    all: Arc<(AtomicU32, AtomicU32)>,
    done: mpsc::Receiver<()>,
}

fn enter(cores: &Cores, workers: &[u32], pieces: u32) -> Pools {
    let (sender, done) = mpsc::channel();
    let all = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
    let pool = |&workers: &u32| {
        let (done, all) = (sender.clone(), all.clone());
        cores.enter(workers, |place| {
            let zero = || AtomicU32::new(0);
            let takes = Duration::from_millis(1);
            Arc::new(Work { place, left: AtomicU32::new(pieces), now: zero(), most: zero(), all, done, takes })
        })
    };
    Pools { pools: workers.iter().map(pool).collect(), all, done }
}

impl Pools {
    /// Wakes every pool and waits until all of their work is done.
    fn run(&self) {
        self.pools.iter().for_each(|pool| pool.place.wake());
        for _ in &self.pools {
            self.done.recv_timeout(Duration::from_secs(30)).expect("all work is done");
        }
    }
}

#[test]
fn runs_of_all_pools_together_stay_within_the_budget_and_each_within_its_allotment() {
    let cores = Cores::start(3).unwrap();
    let pools = enter(&cores, &[1, 2, 8, 0], 40);
    pools.run();
    let most: Vec<u32> = pools.pools.iter().map(|pool| pool.most.load(SeqCst)).collect();
    assert!(most[0] == 1 && most[1] <= 2 && most[3] == 1, "{most:?}");
    assert!(pools.all.1.load(SeqCst) <= 3);
    assert!(pools.pools.iter().all(|pool| pool.left.load(SeqCst) == 0));
}

#[test]
fn an_allotment_that_grows_lets_waiting_work_begin() {
    let cores = Cores::start(4).unwrap();
    let pools = enter(&cores, &[1], 1000);
    pools.pools[0].place.wake();
    cores.resize(cores.samples()[0].id, 4);
    pools.done.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(pools.pools[0].most.load(SeqCst) > 1);
}

#[test]
fn time_is_counted_for_the_pool_that_used_it() {
    let cores = Cores::start(1).unwrap();
    let pools = enter(&cores, &[1, 1], 5);
    let began = Instant::now();
    pools.run();
    let passed_s = began.elapsed().as_secs_f64();
    let samples = cores.samples();
    let busy_s: f64 = samples.iter().map(|sample| sample.time.busy_s).sum();
    assert!(busy_s >= 0.010 && busy_s <= passed_s, "{busy_s} of {passed_s}");
    assert!(samples.iter().all(|sample| sample.time.wanted_s > 0.0 && sample.time.starved_s > 0.0));
}

#[test]
fn a_place_that_is_given_up_is_freed_once_its_turns_are_done() {
    let cores = Cores::start(1).unwrap();
    let pools = enter(&cores, &[1], 3);
    pools.run();
    let pool = &pools.pools[0];
    pool.place.leave();
    let deadline = Instant::now() + Duration::from_secs(30);
    while Arc::strong_count(pool) > 1 {
        assert!(Instant::now() < deadline, "the schedule still holds it");
        thread::yield_now();
    }
    assert!(cores.samples().is_empty());
    assert_eq!(enter(&cores, &[1], 1).pools.len(), 1, "its slot is used again");
}

/// Puts off its work once.
struct Later {
    place: Place,
    turns: AtomicU32,
    done: mpsc::Sender<Instant>,
}

impl Turns for Later {
    fn turn(&self) -> Turn {
        if self.turns.fetch_add(1, SeqCst) == 0 {
            return Turn::Later(Duration::from_millis(5));
        }
        let _ = self.done.send(Instant::now());
        Turn::Done
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn resized(&self, _workers: u32, _parallelism: f64) {}
}

#[test]
fn work_that_is_put_off_runs_when_it_is_due() {
    let cores = Cores::start(2).unwrap();
    let (done, ran) = mpsc::channel();
    let later = cores.enter(1, |place| Arc::new(Later { place, turns: AtomicU32::new(0), done }));
    let asked = Instant::now();
    later.place.wake();
    let at = ran.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(at.duration_since(asked) >= Duration::from_millis(5));
}
