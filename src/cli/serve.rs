//! `headgate serve`.

use std::io::ErrorKind;
use std::path::PathBuf;

use tokio::runtime;

use super::failure::Failure;
use super::settings_file;
use crate::app;
use crate::config::{Config, ConfigError, Settings};
use crate::telemetry::logging;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// File of settings (headgate.yaml); a flag wins over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl Args {
    /// Serves until a signal ends it.
    pub fn run(self) -> Result<(), Failure> {
        let config = self.into_config()?;
        logging::start(&config.log).map_err(Failure::Usage)?;
        let runtime = runtime::Builder::new_multi_thread().enable_all().thread_name("io").build()?;
        let outcome = runtime.block_on(serve(config));
        // What was in flight is answered; a load that still runs must not hold the exit up.
        runtime.shutdown_background();
        outcome
    }

    fn into_config(self) -> Result<Config, Failure> {
        let file = match &self.config {
            None => Settings::default(),
            Some(path) => settings_file::read(path)?,
        };
        self.settings.or(file).into_config().map_err(|error| match &error {
            ConfigError::Repository { cause, .. } if cause.kind() == ErrorKind::NotFound => {
                Failure::NotFound(error.to_string())
            }
            _ => Failure::Usage(error.to_string()),
        })
    }
}

async fn serve(config: Config) -> Result<(), Failure> {
    app::run(config).await.map_err(|cause| Failure::Refused(cause.to_string()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::ModelControlMode;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        args: Args,
    }

    fn config(args: &[&str]) -> Result<Config, Failure> {
        Only::try_parse_from([&["serve"], args].concat())?.args.into_config()
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = tempfile("model_control_mode: explicit\npoll_interval: 250ms\nworkers: 3\nrepositories: [src]\n");
        let path = file.to_str().unwrap();
        let config = config(&["--config", path, "--workers", "5"]).unwrap();
        assert_eq!(config.serving.workers, 5);
        assert_eq!(config.model_control_mode, ModelControlMode::Explicit);
        assert_eq!(config.poll_interval.as_millis(), 250);
        assert_eq!(config.serving.max_queue_size, 1000);
        assert_eq!(config.repositories, [PathBuf::from("src")]);
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn what_cannot_be_served_has_its_exit_status() {
        let path = tempfile("wrokers: 3\n");
        for (args, status, text) in [
            (vec![], 2, "no model repository given"),
            (vec!["no-such-directory"], 3, "is not a directory that can be read"),
            (vec!["src", "--workers", "0"], 2, "workers expects 1 or more"),
            (vec!["src", "--poll-interval", "soon"], 2, "invalid value 'soon'"),
            (vec!["src", "--admin-address", "0.0.0.0:8002"], 2, "only listens on a loopback address"),
            (vec!["src", "--config", path.to_str().unwrap()], 2, "unknown key 'wrokers', did you mean 'workers'?"),
            (vec!["src", "--config", "no-such-file.yaml"], 3, "no-such-file.yaml"),
        ] {
            let failure = config(&args).unwrap_err();
            assert_eq!(failure.exit_status(), status, "{args:?}: {failure}");
            assert!(failure.to_string().contains(text), "{args:?}: {failure}");
        }
        std::fs::remove_file(path).unwrap();
    }

    fn tempfile(text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("headgate-{}-{}.yaml", std::process::id(), fastrand::u64(..)));
        std::fs::write(&path, text).unwrap();
        path
    }
}
