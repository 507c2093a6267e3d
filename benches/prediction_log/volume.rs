//! Five million rows of iris: written, sealed, and asked for.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use headgate::inference::{PredictionId, RequestId};
use headgate::prediction_log::config::LogConfig;
use headgate::prediction_log::disk::RealDisk;
use headgate::prediction_log::open::LogFolder;
use headgate::prediction_log::{Entry, LogSettings, Outcome, PredictionLog, VersionLog};
use headgate::routing::Arm;
use headgate::signature::{BatchAxes, Batching, Dim, Signature, TensorSpec};
use headgate::tensor::{DataType, Tensor};

const ROWS: usize = 5_000_000;
const ROWS_A_REQUEST: usize = 100;
/// Of tensors that wait in the ring, beyond which the bench itself waits: nothing is to be dropped here.
const WAITING_BYTES: usize = 16 << 20;
const FEATURES: [&str; 4] = ["sepal_length", "sepal_width", "petal_length", "petal_width"];

pub fn run() {
    let folder = tempfile::tempdir().expect("a folder");
    let features = [("X".to_owned(), FEATURES.map(str::to_owned).to_vec())].into();
    let settings = LogSettings { features, ..LogSettings::default() };
    let config = LogConfig::default();
    let (log, entries) = PredictionLog::new(config.ring);
    let counts = log.counts_of("iris");
    let digest = "0".repeat(64);
    let version = VersionLog::new(("iris", 1, &digest), &signature(), settings, counts.clone()).expect("settings fit");
    let version = Arc::new(version);
    let incarnation = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let opened = LogFolder::open(folder.path(), RealDisk::shared(), &config, incarnation).expect("a log");
    let writer = opened.write(entries, &config, 1, (vec![], vec![])).expect("a writer");

    let (started, mut random) = (Instant::now(), fastrand::Rng::with_seed(7));
    for _ in 0..ROWS / ROWS_A_REQUEST {
        while log.waiting_bytes().is_some_and(|bytes| bytes > WAITING_BYTES) {
            std::thread::sleep(Duration::from_millis(1));
        }
        log.offer(entry(&version, &mut random));
    }
    while counts.written.load(Ordering::Relaxed) < ROWS as u64 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let written = started.elapsed();
    assert!(writer.stop(Duration::from_secs(600)), "everything is sealed");
    let sealed = started.elapsed();
    let (files, bytes) = sizes(&folder.path().join("predictions"));
    let rate = |time: Duration| ROWS as f64 / time.as_secs_f64();
    println!("{ROWS} rows of iris, {ROWS_A_REQUEST} a request");
    println!("written to segments in {:.1} s: {:.0} rows/s", written.as_secs_f64(), rate(written));
    println!("sealed after {:.1} s: {:.0} rows/s", sealed.as_secs_f64(), rate(sealed));
    println!("{files} Parquet files, {bytes} bytes: {:.1} bytes a row", bytes as f64 / ROWS as f64);
    let dropped = counts.dropped_ring.load(Ordering::Relaxed) + counts.dropped_disk.load(Ordering::Relaxed);
    println!("dropped {dropped}");
    query(folder.path(), "count of all", &["--select", "count"]);
    query(folder.path(), "mean by class", &["--by", "out_label", "--select", "count,avg(in_petal_length)"]);
    query(folder.path(), "count of 1 in 10,000", &["--where", "in_petal_width > 2.49975", "--select", "count"]);
}

fn query(data_dir: &Path, what: &str, arguments: &[&str]) {
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_headgate"))
        .args(["log", "query", "--model", "iris", "--data-dir"])
        .arg(data_dir)
        .args(arguments)
        .output()
        .expect("the command runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("query, {what}: {:.2} s\n{}", started.elapsed().as_secs_f64(), String::from_utf8_lossy(&output.stdout));
}

/// Number and bytes of the files below a folder.
fn sizes(folder: &Path) -> (usize, u64) {
    let entries = std::fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("it can be read").path());
    entries.fold((0, 0), |(files, bytes), path| match path.is_dir() {
        true => {
            let (more, larger) = sizes(&path);
            (files + more, bytes + larger)
        }
        false => (files + 1, bytes + path.metadata().map_or(0, |file| file.len())),
    })
}

fn entry(version: &Arc<VersionLog>, random: &mut fastrand::Rng) -> Box<Entry> {
    let now = SystemTime::now();
    // Measurements with one decimal, as the data set has them, but for the last.
    let mut measured = |most: u32| random.u32(1..=most * 10) as f32 / 10.0;
    let rows: Vec<[f32; 3]> = (0..ROWS_A_REQUEST).map(|_| [measured(7), measured(4), measured(6)]).collect();
    let rows = rows.iter().flat_map(|row| [row[0], row[1], row[2], random.f32() * 2.5]);
    let x: Vec<f32> = rows.collect();
    let labels: Vec<i64> = (0..ROWS_A_REQUEST).map(|_| random.i64(0..3)).collect();
    let scores: Vec<f32> = (0..3 * ROWS_A_REQUEST).map(|_| random.f32()).collect();
    let floats = |values: &[f32], width| {
        Tensor::from_elements(DataType::Fp32, vec![values.len() / width, width], values).expect("as the shape says")
    };
    let label = Tensor::from_elements(DataType::Int64, vec![labels.len()], &labels).expect("as the shape says");
    Box::new(Entry {
        version: version.clone(),
        id: PredictionId::new(now, 1, 1, Arm::Stable.number(), random.u64(..)),
        request_id: RequestId::take_over(None),
        client_id: String::new(),
        route: None,
        ended: now,
        total: Duration::from_micros(random.u64(100..400)),
        queue: Duration::from_micros(random.u64(0..50)),
        compute: Duration::from_micros(random.u64(20..60)),
        batch_size: ROWS_A_REQUEST as u32,
        arm: Arm::Stable,
        arm_probability: 1.0,
        rollout: None,
        sample_hash: 0,
        outcome: Outcome::Answered,
        inputs: vec![floats(&x, 4)],
        outputs: vec![label, floats(&scores, 3)],
        rows: ROWS_A_REQUEST,
        synced: None,
    })
}

fn signature() -> Signature {
    let spec = |name: &str, dtype, more: &[usize]| TensorSpec {
        name: name.to_owned(),
        dtype,
        dims: Some(
            std::iter::once(Dim::Named("N".to_owned())).chain(more.iter().map(|size| Dim::Fixed(*size))).collect(),
        ),
        classes: vec![],
    };
    Signature {
        inputs: vec![spec("X", DataType::Fp32, &[4])],
        outputs: vec![spec("label", DataType::Int64, &[]), spec("probabilities", DataType::Fp32, &[3])],
        batching: Batching::Proven(BatchAxes { inputs: vec![Some(0)], outputs: vec![Some(0), Some(0)] }),
    }
}
