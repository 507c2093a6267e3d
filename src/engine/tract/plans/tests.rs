//! Which plan serves, and when others are built, on models of the zoo.

use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError};

use super::super::TractEngine;
use super::super::model::TractModel;
use super::*;
use crate::engine::Model;
use crate::engine::closeness::is_close;
use crate::tensor::DataType;

fn load(name: &str) -> TractModel {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zoo").join(name).join("model.onnx");
    TractEngine::new().prepared(&path).unwrap()
}

fn digits(rows: usize) -> [Tensor; 1] {
    [Tensor::zeros(DataType::Fp32, vec![rows, 1, 8, 8])]
}

/// A model whose shapes earn their plan by their first run, and its builds, which happen when the test says so.
fn earning(places: usize) -> (TractModel, Receiver<Box<dyn FnOnce() + Send>>) {
    let (builder, tasks) = Builder::by_hand(places);
    let mut model = load("digits_cnn_v1");
    model.plans.builder = builder;
    model.plans.shared.held().ledger = Ledger::new(Duration::ZERO);
    (model, tasks)
}

fn run(model: &TractModel, rows: usize) -> Tensor {
    model.run(&digits(rows), &|| false).unwrap().tensors.remove(0)
}

#[test]
fn no_request_waits_for_the_plan_that_it_has_earned() {
    let (model, tasks) = earning(4);
    let first = run(&model, 5);
    assert!(matches!(tasks.try_recv(), Err(TryRecvError::Empty)), "one request is no reason to build");
    run(&model, 5);
    let build = tasks.try_recv().expect("the second has earned it");
    // Nobody builds yet, and requests are answered all the same; none asks for a second build.
    for _ in 0..3 {
        run(&model, 5);
    }
    assert_eq!(model.plans.concrete(), 1);
    assert!(tasks.try_recv().is_err());
    build();
    assert_eq!(model.plans.concrete(), 2);
    assert!(is_close(&run(&model, 5), &first, 1e-5));
}

#[test]
fn a_plain_session_earns_no_plan_and_uses_none() {
    let (model, tasks) = earning(4);
    let model = Arc::new(model);
    model.prepare(&digits(4)).unwrap();
    let mut session = model.clone().plain_session();
    for rows in [1, 4, 5, 5, 5] {
        session.run(&digits(rows), &|| false).unwrap();
    }
    assert!(tasks.try_recv().is_err());
    run(&model, 5);
    assert!(tasks.try_recv().is_err(), "nor was the shape charged for it");
}

#[test]
fn a_build_that_finds_no_place_is_earned_again() {
    let (model, tasks) = earning(1);
    for rows in [5, 6] {
        run(&model, rows);
        run(&model, rows);
    }
    tasks.try_recv().unwrap()();
    assert!(tasks.try_recv().is_err(), "there was no place for the second");
    assert_eq!(model.plans.concrete(), 2);
    run(&model, 6);
    run(&model, 6);
    tasks.try_recv().expect("it was not forgotten")();
    assert_eq!(model.plans.concrete(), 3);
}

#[test]
fn a_build_does_not_outlive_its_model() {
    let (model, tasks) = earning(1);
    run(&model, 5);
    run(&model, 5);
    let shared = Arc::downgrade(&model.plans.shared);
    drop(model);
    assert!(shared.upgrade().is_none(), "a queued build does not keep the model");
    tasks.try_recv().unwrap()();
}

#[test]
fn a_plan_that_was_asked_for_stays_until_it_is_released() {
    let (model, tasks) = earning(64);
    model.prepare(&digits(4)).unwrap();
    model.prepare(&digits(4)).unwrap();
    model.prepare(&digits(1)).unwrap();
    assert_eq!(model.plans.concrete(), 2, "the first plan and the one that was asked for");
    for rows in 10..10 + 2 * MAX_CONCRETE_PLANS {
        run(&model, rows);
        run(&model, rows);
        tasks.try_recv().unwrap()();
    }
    assert_eq!(model.plans.concrete(), 2 + MAX_CONCRETE_PLANS);
    let key = PlanKey::of(&digits(4), &[]).unwrap();
    assert!(model.plans.shared.held().has(&key), "others came and went");
    model.release(&digits(4));
    model.release(&digits(4));
    assert!(!model.plans.shared.held().has(&key));
}

#[test]
fn no_more_plans_are_kept_than_allowed() {
    let model = load("digits_cnn_v1");
    for rows in 2..2 + MAX_PINNED_PLANS {
        model.prepare(&digits(rows)).unwrap();
    }
    let refusal = model.prepare(&digits(99)).unwrap_err();
    assert_eq!(refusal, RunError::Failed("8 plans are kept already".into()));
    model.release(&digits(3));
    model.prepare(&digits(99)).unwrap();
}

#[test]
fn without_a_symbolic_plan_a_shape_is_ready_once_it_has_its_own() {
    let mut model = load("digits_cnn_v1");
    assert!(model.is_ready_for(&digits(4)), "the symbolic plan takes any size");
    Arc::get_mut(&mut model.plans.shared).unwrap().symbolic = None;
    let ready = |rows| model.is_ready_for(&digits(rows));
    assert_eq!((ready(1), ready(0), ready(4), ready(6)), (true, true, false, false));
    model.prepare(&digits(4)).unwrap();
    assert!(ready(4));
    model.release(&digits(4));
    assert!(!ready(4));
    run(&model, 6);
    assert!(ready(6), "a run has built what it needed");
}

#[test]
fn memory_counts_packed_weights_and_what_plans_share_once() {
    let model = load("digits_cnn_v2");
    let before = model.memory_bytes();
    let file = 154_000;
    assert!((2 * file..6 * file).contains(&before), "{before}");
    model.prepare(&digits(4)).unwrap();
    let plan = model.memory_bytes() - before;
    assert!(plan < 2 * file, "{plan}");
    model.release(&digits(4));
    assert_eq!(model.memory_bytes(), before);

    // Weights that only exist in plans: 1024 x 1024 of FP32.
    let bytes = load("slow_matmul24").memory_bytes();
    assert!((4 << 20..64 << 20).contains(&bytes), "{bytes}");

    let forest = load("wine_rf");
    let before = forest.memory_bytes();
    assert!(before > 50_000, "{before}");
    forest.prepare(&forest.sample_inputs(4)).unwrap();
    assert!(forest.memory_bytes() - before < before / 100, "all plans share the trees");
}

#[test]
fn plans_hold_once_what_is_equal_in_them() {
    let model = load("digits_cnn_v2");
    let graph = &model.plans.shared.graph;
    let plan = || graph.concrete(&graph.key(&digits(4)).unwrap()).unwrap();
    let bytes = |plans: &[&Plan]| {
        let mut memory = Memory::default();
        plans.iter().for_each(|plan| plan.count(&mut memory));
        memory.bytes()
    };
    let (one, other) = (plan(), plan());
    let (alone, together) = (bytes(&[&one]), bytes(&[&one, &other]));
    assert!(alone > 100_000 && together - alone < alone / 10, "{alone} {together}");
}
