//! Why a command did not do what it was asked, and the exit status that says so.

use std::io;
use std::process::ExitCode;

/// A command that failed. The text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Arguments that don't parse; also `--help` and `--version`, which are no failure.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    #[error("{0}")]
    Usage(String),
    /// Refused by a server, or failed here.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    NotFound(String),
    /// Done as far as it could be: what was given lacks something.
    #[error("{0}")]
    Incomplete(String),
    #[error("no answer from {url}: {cause}. Is `headgate serve` running there? {flag} names another address")]
    Unreachable { url: String, cause: String, flag: &'static str },
    #[error("the output can't be written: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// The exit status: 1 refused or failed, 2 usage, 3 not found, 4 unreachable, 5 incomplete; 0 where nothing failed.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Arguments(error) => u8::try_from(error.exit_code()).unwrap_or(2),
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Unreachable { .. } => 4,
            Self::Incomplete(_) => 5,
            // Whoever read the output, such as `head`, has seen enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Refused(_) | Self::Output(_) => 1,
        }
    }

    /// Says what went wrong on standard error.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Arguments(error) => {
                // Help goes to standard output; a reader that left is as good as one that read it.
                let _ = error.print();
            }
            failure if failure.exit_status() == 0 => {}
            failure => eprintln!("headgate: {failure}"),
        }
        ExitCode::from(self.exit_status())
    }
}
