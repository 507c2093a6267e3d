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
