//! Rollouts as operators and clients meet them: a server process, the digits models, traffic over HTTP and gRPC, and an
//! operator at the admin API and the command line.

mod commands;
mod full_disk;
mod harm;
mod operator;
mod promotion;
mod refusal;
mod restarts;
mod shadow;
mod sticky;
mod traffic;
mod webhooks;

use serde_json::{Value, json};

/// Basis points of the steps of [`quick`].
pub const STEPS: [u64; 3] = [1000, 3000, 5000];

/// A spec whose steps take a second under traffic. A hundred and some clean requests certify its checks.
pub fn quick() -> Value {
    let step = |weight: u64| json!({"weight_bp": weight, "min_bake": "300ms", "max_bake": "60s", "min_samples": 50});
    json!({
        "steps": STEPS.map(step),
        "analysis": {"checks": [
            {"event": "error", "abs_max": 0.05, "share": 0.4},
            {"event": "invalid_output", "abs_max": 0.05, "share": 0.4},
        ]},
        "promote": {"watch": "500ms"},
    })
}

/// [`quick`] with other values at these keys.
pub fn quick_with(changed: &Value) -> Value {
    let mut spec = quick();
    for (key, value) in changed.as_object().expect("an object of keys") {
        spec[key] = value.clone();
    }
    spec
}

/// One step of a share that stays until something decides.
pub fn long_step(weight_bp: u64) -> Value {
    json!([{"weight_bp": weight_bp, "min_bake": "10m", "max_bake": "20m"}])
}
