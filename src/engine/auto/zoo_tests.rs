//! Both real engines over `tests/zoo`, where the library of ONNX Runtime is there.

use super::*;
use crate::engine::testing::{check_recorded, folders};

#[test]
fn every_model_is_served_by_one_engine_or_the_other_and_gives_what_was_recorded() {
    let engine = AutoEngine::open(None);
    if let Some(absent) = engine.onnxruntime_absent() {
        println!("skipped: the zoo on both engines: {absent}");
        return;
    }
    let mut faults = vec![];
    for folder in folders() {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let judge = |model: &Arc<dyn Model>| Some(check_recorded(model, &folder).is_ok());
        let terms = LoadTerms { choice: EngineChoice::Auto, judge: &judge };
        let checked = match engine.load_on(&folder.join("model.onnx"), &terms) {
            Err(error) => Err(error.to_string()),
            Ok(model) => check_recorded(&model, &folder).and_then(|()| {
                let times = model.choose_engine(None);
                println!("{name}: {} {:?}", model.notes().join("; "), times.map(|times| times.len()));
                check_recorded(&model, &folder)
            }),
        };
        faults.extend(checked.err().map(|fault| format!("{name}: {fault}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
