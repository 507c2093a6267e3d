//! `headgate.yaml`: the flags of `serve` as keys of a file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::failure::Failure;
use crate::config::{FILE_ONLY, Settings};
use crate::error::nearest;
use crate::inference::printable;
use crate::prediction_log::LogConfig;
use crate::yaml::{self, MAX_SETTINGS_BYTES, SettingsError};

/// Why a settings file is refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{} can't be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{}: {cause}", path.display())]
    Settings { path: PathBuf, cause: SettingsError },
    #[error("{}: {key}: {cause}", path.display())]
    Value { path: PathBuf, key: String, cause: serde_json::Error },
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        match &error {
            FileError::Unreadable { cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
                Self::NotFound(error.to_string())
            }
            _ => Self::Usage(error.to_string()),
        }
    }
}

/// Reads a settings file. Paths in it are relative to the working directory, as flags are.
///
/// # Errors
/// `FileError`, naming the file and the key.
pub fn read(path: &Path) -> Result<Settings, FileError> {
    let unreadable = |cause| FileError::Unreadable { path: path.to_owned(), cause };
    let mut bytes = vec![];
    // One byte more than is parsed tells that a file is too long.
    let most = MAX_SETTINGS_BYTES as u64 + 1;
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(unreadable)?;
    let refused = |cause| FileError::Settings { path: path.to_owned(), cause };
    let Value::Object(mut map) = yaml::parse(&bytes).map_err(refused)? else {
        return Err(refused(SettingsError::bad_value("the file", "a mapping of keys to values", "something else")));
    };
    refuse_unknown(&map).map_err(refused)?;
    map.retain(|_, value| !value.is_null());
    let prediction_log = map.remove("prediction_log");
    let prediction_log = prediction_log.as_ref().map(LogConfig::of).transpose().map_err(refused)?;
    // Each value is tried alone first, because a fault of the whole would not name its key.
    for (key, value) in &map {
        let alone = Map::from_iter([(key.clone(), value.clone())]);
        settings(alone).map_err(|cause| FileError::Value { path: path.to_owned(), key: key.clone(), cause })?;
    }
    let settings =
        settings(map).map_err(|cause| FileError::Value { path: path.to_owned(), key: "the file".to_owned(), cause })?;
    Ok(Settings { prediction_log, ..settings })
}

fn settings(map: Map<String, Value>) -> Result<Settings, serde_json::Error> {
    serde_json::from_value(Value::Object(map))
}

fn refuse_unknown(map: &Map<String, Value>) -> Result<(), SettingsError> {
    let command = <Settings as clap::Args>::augment_args(clap::Command::new("serve"));
    let flags = command.get_arguments().map(|argument| argument.get_id().as_str());
    let known: Vec<&str> = flags.chain(FILE_ONLY).collect();
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(SettingsError::UnknownKey {
            key: printable(key),
            nearest: nearest(&key.replace('-', "_"), known.iter().copied()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read_text(text: &str) -> Result<Settings, String> {
        let path = std::env::temp_dir().join(format!("headgate-{}-{}.yaml", std::process::id(), fastrand::u64(..)));
        std::fs::write(&path, text).unwrap();
        let settings = read(&path).map_err(|error| {
            let text = error.to_string();
            text.strip_prefix(&format!("{}: ", path.display())).unwrap_or(&text).to_owned()
        });
        std::fs::remove_file(&path).unwrap();
        settings
    }

    #[test]
    fn keys_are_the_flags() {
        let settings = read_text(
            "repositories: [models, more]\nhttp_address: 127.0.0.1:9000\nload_timeout: 2m\nlog_format: json\n\
             access_log: all\nallow_repository_control: true\nmax_body_bytes: 1024\nserver_name:\n\
             routes: {checkout: {model: fraud}}\n",
        )
        .unwrap();
        assert_eq!(settings.repositories.len(), 2);
        assert_eq!(settings.http_address, Some("127.0.0.1:9000".parse().unwrap()));
        assert_eq!(settings.load_timeout, Some(Duration::from_secs(120)));
        assert_eq!((settings.allow_repository_control, settings.max_body_bytes), (Some(true), Some(1024)));
        assert_eq!(settings.server_name, None);
        assert_eq!((&*settings.routes["checkout"].model, &*settings.routes["checkout"].label), ("fraud", "stable"));
        let text = "webhooks: [{url: 'http://127.0.0.1:9000/hook', secret: whsec_x, timeout: 3s}]";
        let webhooks = read_text(text).unwrap().webhooks.unwrap();
        assert_eq!(
            (webhooks[0].url.as_str(), webhooks[0].timeout.as_deref()),
            ("http://127.0.0.1:9000/hook", Some("3s"))
        );
        let log = read_text("prediction_log: {retain: 30d}").unwrap().prediction_log.unwrap();
        assert_eq!(log.retain, Some(Duration::from_secs(30 * 24 * 3600)));
        assert_eq!(read_text("prediction_log:").unwrap(), Settings::default());
        assert_eq!(read_text("").unwrap(), Settings::default());
    }

    #[test]
    fn faults_name_their_key() {
        for (text, expected) in [
            ("webhook: []", "unknown key 'webhook', did you mean 'webhooks'?"),
            ("webhooks: [{url: http://a, secret: s, timeuot: 1s}]", "webhooks: unknown field `timeuot`"),
            ("webhooks: [{url: http://a}]", "webhooks: missing field `secret`"),
            ("poll-interval: 1s", "unknown key 'poll-interval', did you mean 'poll_interval'?"),
            ("route: {}", "unknown key 'route', did you mean 'routes'?"),
            ("routes: {a: {modle: m}}", "routes: unknown field `modle`"),
            ("zebra: 1", "unknown key 'zebra'"),
            ("workers: many", "workers: invalid type: string \"many\", expected usize"),
            ("poll_interval: soon", "poll_interval: expected a time such as 1s or 250ms, got 'soon'"),
            ("model_control_mode: pol", "unknown variant `pol`, expected one of `poll`, `explicit`, `none`"),
            ("[1]", "the file: expected a mapping of keys to values"),
            ("a: [", "not valid YAML (line"),
            (
                "prediction_log: {retian: 30d}",
                "unknown key 'prediction_log.retian', did you mean 'prediction_log.retain'?",
            ),
            ("prediction_log: {retain: 30}", "prediction_log.retain: expected a time longer than 0 with its unit"),
            ("prediction_log: {upload: 's3://x'}", "prediction_log.upload: expected a mapping whose url is"),
            ("prediction_log: 30d", "prediction_log: expected a mapping of keys to values, got '30d'"),
        ] {
            let fault = read_text(text).unwrap_err();
            assert!(fault.contains(expected), "{text}: {fault}");
        }
    }
}
