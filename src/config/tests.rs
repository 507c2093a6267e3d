//! What settings mean, and which are refused.

use serde_json::json;

use super::*;

fn here() -> Settings {
    Settings { repositories: vec![".".into()], ..Settings::default() }
}

#[test]
fn a_flag_wins_over_the_file() {
    let flags = Settings { workers: Some(1), ..here() };
    let file = Settings { workers: Some(2), max_queue_size: Some(3), ..Settings::default() };
    let config = flags.or(file).into_config().unwrap();
    assert_eq!((config.serving.workers, config.serving.max_queue_size), (1, 3));
}

#[test]
fn the_admin_listener_stays_on_loopback() {
    let open = Settings { admin_address: Some("0.0.0.0:8002".parse().unwrap()), ..here() };
    assert!(matches!(open.into_config(), Err(ConfigError::AdminNotLoopback(_))));
}

#[test]
fn values_that_make_no_sense_are_refused_by_key() {
    let zero = Settings { workers: Some(0), ..here() }.into_config().unwrap_err();
    assert_eq!(zero.to_string(), "workers expects 1 or more, got 0");
    let small = Settings { max_bytes_in_flight: Some(1), ..here() }.into_config().unwrap_err();
    assert!(small.to_string().starts_with("max_bytes_in_flight expects at least max_body_bytes"));
    assert!(matches!(Settings::default().into_config(), Err(ConfigError::NoRepository)));
}

#[test]
fn what_is_sent_of_a_log_needs_a_log() {
    let section = |value| Some(PredictionLogConfig::of(&value).unwrap());
    let kept = section(json!({"sync_interval": "200ms"}));
    let config = Settings { prediction_log: kept.clone(), ..here() }.into_config().unwrap();
    assert_eq!(config.prediction_log, kept);
    assert_eq!(here().into_config().unwrap().prediction_log, None);
    let sent = section(json!({"events": {"url": "http://127.0.0.1:9000"}}));
    let refused = Settings { prediction_log: sent.clone(), ..here() }.into_config().unwrap_err();
    assert_eq!(refused.to_string(), "prediction_log.events expects a data_dir to write the log in, got none");
    let with_log = Settings { prediction_log: sent, data_dir: Some("data".into()), ..here() };
    assert!(with_log.into_config().is_ok());
}
