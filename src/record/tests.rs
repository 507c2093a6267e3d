//! What a request leaves in the prediction log, whatever becomes of it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::*;
use crate::engine::{Model, RunError};
use crate::inference::{Deadline, ModelRef, Protocol, RequestId, RequestedOutput};
use crate::pipeline::infer;
use crate::prediction_log::ring::{Entries, RingConfig};
use crate::prediction_log::{Durability, Entry, LogSettings, NotSynced};
use crate::signature::{BatchAxes, Batching, Dim, Signature, TensorSpec};
use crate::tensor::DataType;
use crate::testing::{FunctionModel, data_plane_with_log};

struct Caller(Vec<(&'static str, &'static str)>);

impl Attributes for Caller {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_bytes())
    }
}

/// Doubles `x` of `[N,2]`; fails where its first element is negative.
fn doubling() -> Arc<dyn Model> {
    let spec = |name: &str| TensorSpec {
        name: name.to_owned(),
        dtype: DataType::Fp32,
        dims: Some(vec![Dim::Named("N".to_owned()), Dim::Fixed(2)]),
        classes: vec![],
    };
    let axes = BatchAxes { inputs: vec![Some(0)], outputs: vec![Some(0)] };
    let signature = Signature { inputs: vec![spec("x")], outputs: vec![spec("y")], batching: Batching::Proven(axes) };
    FunctionModel::model(signature, |inputs| {
        let doubled: Vec<f32> = inputs[0].elements::<f32>().map(|x| x * 2.0).collect();
        match doubled.first().is_some_and(|first| *first < 0.0) {
            true => Err(RunError::Failed("negative".to_owned())),
            false => Ok(vec![Tensor::from_elements(DataType::Fp32, inputs[0].shape().to_vec(), &doubled).unwrap()]),
        }
    })
}

fn context() -> RequestContext {
    RequestContext {
        model: ModelRef::parse("m", "").unwrap(),
        request_id: RequestId::take_over(Some("r-1")),
        traceparent: None,
        deadline: Deadline::NONE,
        priority: None,
        received: Instant::now(),
        protocol: Protocol::Http,
    }
}

fn request(values: &[f32]) -> InferRequest {
    let x = Tensor::from_elements(DataType::Fp32, vec![values.len() / 2, 2], values).unwrap();
    InferRequest { id: "client-1".to_owned(), inputs: vec![("x".to_owned(), x)], ..InferRequest::default() }
}

/// Gives the answer's prediction id.
async fn call(plane: &DataPlane, caller: &Caller, request: InferRequest) -> Result<PredictionId> {
    infer(plane, &context(), caller, |_| Ok(request), |response| Ok(response.prediction_id)).await
}

fn plane(settings: LogSettings) -> (Arc<DataPlane>, Entries) {
    data_plane_with_log(doubling(), settings, RingConfig::default())
}

fn drain(entries: &Entries) -> Vec<Entry> {
    std::iter::from_fn(|| entries.next()).map(|entry| *entry).collect()
}

#[tokio::test]
async fn an_answer_is_handed_over_whole_and_with_the_id_that_the_client_got() {
    let (plane, entries) = plane(LogSettings::default());
    let id = call(&plane, &Caller(vec![]), request(&[1.0, 2.0, 3.0, 4.0])).await.unwrap();
    let logged = drain(&entries);
    let [entry] = logged.as_slice() else { panic!("{logged:?}") };
    assert_eq!((entry.id, entry.rows, &entry.outcome), (id, 2, &Outcome::Answered));
    assert_eq!(
        (entry.request_id.as_str(), entry.client_id.as_str(), entry.route.as_deref()),
        ("r-1", "client-1", None)
    );
    assert_eq!(entry.inputs[0].elements::<f32>().collect::<Vec<_>>(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(entry.outputs[0].elements::<f32>().collect::<Vec<_>>(), [2.0, 4.0, 6.0, 8.0]);
    assert_eq!((entry.arm, entry.arm_probability, entry.batch_size), (Arm::Stable, 1.0, 2));
    assert!(entry.total >= entry.compute);
}

#[tokio::test]
async fn outputs_are_logged_whether_or_not_the_client_asked_for_them() {
    let (plane, entries) = plane(LogSettings::default());
    let wanted = RequestedOutput { name: "y".to_owned(), classification: Some(1) };
    let request = InferRequest { outputs: vec![wanted], ..request(&[1.0, 2.0]) };
    call(&plane, &Caller(vec![]), request).await.unwrap();
    assert_eq!(drain(&entries)[0].outputs[0].elements::<f32>().collect::<Vec<_>>(), [2.0, 4.0]);
}

#[tokio::test]
async fn a_failure_of_the_model_is_a_row_and_what_a_client_got_wrong_is_a_count() {
    let (plane, entries) = plane(LogSettings::default());
    call(&plane, &Caller(vec![]), request(&[-1.0, 2.0])).await.unwrap_err();
    let logged = drain(&entries);
    assert!(matches!(&logged[0].outcome, Outcome::Failed(text) if text.starts_with("inference failed")), "{logged:?}");
    assert_eq!((logged[0].inputs.len(), logged[0].outputs.len()), (1, 0));

    let misnamed = InferRequest { inputs: vec![], ..request(&[1.0, 2.0]) };
    call(&plane, &Caller(vec![]), misnamed).await.unwrap_err();
    let unknown = RequestContext { model: ModelRef::parse("nobody", "").unwrap(), ..context() };
    let answer = infer(&plane, &unknown, &Caller(vec![]), |_| Ok(request(&[1.0, 2.0])), |_| Ok(())).await;
    answer.unwrap_err();
    assert_eq!(drain(&entries).len(), 0);
    let counts = plane.log.counts();
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["m"], "a name that a client made up is no entry");
    assert_eq!(counts["m"].refused.load(Relaxed), 1);
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_and_not_written() {
    let (plane, entries) = plane(LogSettings::default());
    let (context, caller) = (context(), Caller(vec![]));
    let mut record = Record::open(&plane, &context);
    let lane = plane.lane(&context.model, &caller, Deadline::NONE).await.unwrap();
    record.routed(&lane);
    let request = request(&[1.0, 2.0]);
    record.decoded(Instant::now(), &caller, &request);
    let checked = lane.backend.servable.check(request).unwrap();
    record.checked("", &checked);
    drop(record);
    assert_eq!(drain(&entries).len(), 0);
    assert_eq!(plane.log.counts()["m"].refused.load(Relaxed), 1);
}

#[tokio::test]
async fn sampling_goes_by_the_key_wherever_it_is_given() {
    let (plane, entries) = plane(LogSettings::default());
    let by_parameter = |key: &str| InferRequest {
        parameters: vec![("headgate-key".to_owned(), key.to_owned())],
        ..request(&[1.0, 2.0])
    };
    call(&plane, &Caller(vec![("headgate-key", "ann")]), request(&[1.0, 2.0])).await.unwrap();
    call(&plane, &Caller(vec![]), by_parameter("ann")).await.unwrap();
    call(&plane, &Caller(vec![]), by_parameter("bob")).await.unwrap();
    let hashes: Vec<u64> = drain(&entries).iter().map(|entry| entry.sample_hash).collect();
    assert!(hashes[0] == hashes[1] && hashes[1] != hashes[2], "{hashes:?}");
}

#[tokio::test]
async fn a_full_ring_drops_and_counts_and_no_caller_notices() {
    let ring = RingConfig { max_entries: 2, ..RingConfig::default() };
    let (plane, entries) = data_plane_with_log(doubling(), LogSettings::default(), ring);
    for _ in 0..5 {
        call(&plane, &Caller(vec![]), request(&[1.0, 2.0, 3.0, 4.0])).await.unwrap();
    }
    assert_eq!((drain(&entries).len(), entries.dropped_rows()), (2, 6));
    assert_eq!(plane.log.counts()["m"].dropped_ring.load(Relaxed), 6);
}

#[tokio::test]
async fn the_rings_bytes_are_bounded_too() {
    // Each entry holds 16 bytes in and 16 out.
    let ring = RingConfig { max_bytes: 70, ..RingConfig::default() };
    let (plane, entries) = data_plane_with_log(doubling(), LogSettings::default(), ring);
    for _ in 0..3 {
        call(&plane, &Caller(vec![]), request(&[1.0, 2.0, 3.0, 4.0])).await.unwrap();
    }
    assert_eq!((drain(&entries).len(), entries.dropped_rows()), (2, 2));
    let large: Vec<f32> = (0..100).map(|i| i as f32).collect();
    call(&plane, &Caller(vec![]), request(&large)).await.unwrap();
    assert_eq!(drain(&entries).len(), 1, "one that is larger than the bound is taken when it is alone");
}

#[tokio::test]
async fn an_audited_model_answers_only_what_is_on_the_disk() {
    let settings = LogSettings { durability: Durability::Required, ..LogSettings::default() };
    let (plane, entries) = plane(settings);
    // Nobody writes: the caller is refused at its deadline, and its row is handed over once all the same.
    let soon = RequestContext { deadline: Deadline::after(Instant::now(), Duration::from_millis(300)), ..context() };
    let answer = infer(&plane, &soon, &Caller(vec![]), |_| Ok(request(&[1.0, 2.0])), |_| Ok(())).await;
    let refused = answer.unwrap_err();
    let refused = refused.to_string();
    assert!(
        refused.contains("could not be written to the prediction log") && refused.contains("longer than"),
        "{refused}"
    );
    assert_eq!(drain(&entries).len(), 1);

    let mut written = vec![];
    let caller = Caller(vec![]);
    let writer = async {
        loop {
            if let Some(mut entry) = entries.next() {
                written.push(entry.id);
                _ = entry.synced.take().unwrap().send(Ok(()));
            }
            tokio::task::yield_now().await;
        }
    };
    let id = tokio::select! {
        answer = call(&plane, &caller, request(&[1.0, 2.0])) => answer.unwrap(),
        () = writer => unreachable!(),
    };
    assert_eq!(written, [id]);
}

#[tokio::test]
async fn a_caller_that_waits_for_the_disk_is_told_why_it_waits_in_vain() {
    let settings = LogSettings { durability: Durability::Required, ..LogSettings::default() };
    let ring = RingConfig { max_entries: 1, ..RingConfig::default() };
    let (plane, entries) = data_plane_with_log(doubling(), settings, ring);
    let caller = Caller(vec![]);
    let refused = async |answer: Option<Synced>| {
        let writer = async {
            loop {
                if let Some(mut entry) = entries.next() {
                    let waits = entry.synced.take().unwrap();
                    match answer {
                        Some(answer) => _ = waits.send(answer),
                        None => drop(waits),
                    }
                    break std::future::pending::<()>().await;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            answer = call(&plane, &caller, request(&[1.0, 2.0])) => answer.unwrap_err(),
            () = writer => unreachable!(),
        }
    };
    let full = "No space left on device".to_owned();
    let text = |cause: &str| {
        format!(
            "the prediction could not be written to the prediction log, which this model's settings require: {cause}"
        )
    };
    for (answer, cause) in [
        (Some(Err(NotSynced::Disk(full))), "the disk refused it: No space left on device"),
        (Some(Err(NotSynced::NoRoom)), "the disk is nearly full"),
        (None, "the log has ended"),
    ] {
        let error = refused(answer).await;
        assert_eq!((error.kind(), error.to_string()), (Kind::Unavailable, text(cause)));
    }
    // Nobody takes what waits in the ring, which has one place.
    let soon = RequestContext { deadline: Deadline::after(Instant::now(), Duration::from_millis(50)), ..context() };
    infer(&plane, &soon, &caller, |_| Ok(request(&[1.0, 2.0])), |_| Ok(())).await.unwrap_err();
    let error = call(&plane, &caller, request(&[1.0, 2.0])).await.unwrap_err();
    assert_eq!(error.to_string(), text("too much waits to be written"));
}
