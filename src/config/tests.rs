//! What settings mean, and which are refused.

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
fn the_prediction_log_has_a_section_of_its_own() {
    let section = LogSection { sync_interval: Some("200ms".to_owned()), ..LogSection::default() };
    let config = Settings { prediction_log: Some(section), ..here() }.into_config().unwrap();
    assert_eq!(config.prediction_log.limits.sync_interval, Duration::from_millis(200));
    assert_eq!(here().into_config().unwrap().prediction_log, PredictionLogConfig::default());
    let section = LogSection { disk_share: Some(1.5), ..LogSection::default() };
    let refused = Settings { prediction_log: Some(section), ..here() }.into_config().unwrap_err();
    assert_eq!(refused.to_string(), "prediction_log.disk_share expects a number above 0 and up to 1, got 1.5");
}
