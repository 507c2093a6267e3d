//! `headgate rollout status --watch`: one rollout, shown anew until it has ended.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::render::text::fit;
use super::render::{self, Look};
use super::status::now_ms;
use crate::cli::failure::Failure;
use crate::rollout::view::RolloutView;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Looks that may fail one after the other, as while a server starts anew, before the watch gives up.
const MOST_FAILURES: u32 = 30;

/// Cursor to the upper left corner, erase to the end of the line, erase to the end of the screen.
///
/// Source: ECMA-48, CUP, EL, ED.
const HOME: &str = "\x1b[H";
const END_OF_LINE: &str = "\x1b[K\n";
const END_OF_SCREEN: &str = "\x1b[J";

/// What the watch writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    /// Redrawn from its upper left corner.
    Terminal(Look),
    /// A line whenever something has changed, without escape sequences.
    Pipe,
    /// The same, each line a JSON document.
    Json,
}

impl Screen {
    /// What standard output is.
    pub fn of_stdout() -> Self {
        if !io::stdout().is_terminal() {
            return Self::Pipe;
        }
        // Source: no-color.org; any value but the empty one.
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self::Terminal(Look { colour, ..Look::PLAIN })
    }

    /// How a terminal shows a view.
    pub fn look(self) -> Option<Look> {
        match self {
            Self::Terminal(look) => Some(look),
            Self::Pipe | Self::Json => None,
        }
    }
}

/// A watch of one rollout.
pub struct Watch<'a> {
    /// Asks for the rollout as it is.
    pub read: &'a dyn Fn() -> Result<RolloutView, Failure>,
    pub screen: Screen,
    /// Waits until the next look.
    pub pause: fn(Duration),
}

impl Watch<'_> {
    /// Shows the rollout until it has ended.
    ///
    /// # Errors
    /// `Refused` where it ended in anything but `completed`; what `read` answers, where it is not that the server is
    /// unreachable for a while.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let (mut failures, mut last) = (0, String::new());
        loop {
            match (self.read)() {
                Ok(view) => {
                    failures = 0;
                    self.show(out, &view, &mut last)?;
                    if view.ended {
                        return ending(&view);
                    }
                }
                Err(failure @ Failure::Unreachable { .. }) if failures < MOST_FAILURES => {
                    failures += 1;
                    self.tell(out, &failure)?;
                }
                Err(failure) => return Err(failure),
            }
            (self.pause)(INTERVAL);
        }
    }

    /// Says on a terminal, below what was shown last, why it is not anew.
    fn tell(&self, out: &mut dyn Write, failure: &Failure) -> Result<(), Failure> {
        if let Some(look) = self.screen.look() {
            write!(out, "\r{}{END_OF_SCREEN}", fit(&format!("trying again: {failure}"), look.width))?;
            out.flush()?;
        }
        Ok(())
    }

    /// `last` is the line that was written last.
    fn show(&self, out: &mut dyn Write, view: &RolloutView, last: &mut String) -> Result<(), Failure> {
        let line = match self.screen {
            Screen::Terminal(look) => {
                let text = render::render(view, look, now_ms()).replace('\n', END_OF_LINE);
                write!(out, "{HOME}{text}{END_OF_SCREEN}")?;
                return Ok(out.flush()?);
            }
            Screen::Pipe => render::line(view),
            Screen::Json => serde_json::to_string(view).map_err(io::Error::from)?,
        };
        if line != *last {
            writeln!(out, "{line}")?;
            out.flush()?;
            *last = line;
        }
        Ok(())
    }
}

fn ending(view: &RolloutView) -> Result<(), Failure> {
    if view.state == "completed" {
        return Ok(());
    }
    let cause = view.last_transition.as_ref().map_or("", |last| last.cause.as_str());
    Err(Failure::Refused(format!("{} ended as {}: {cause}", view.id, view.state)))
}
