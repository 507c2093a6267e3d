//! `headgate completions`.

use std::io::Write;

use clap_complete::Shell;

use super::failure::Failure;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell that will read the script
    shell: Shell,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        // The generator panics when it can't write, so it writes where it can.
        let mut script = vec![];
        clap_complete::generate(self.shell, &mut super::command(), "headgate", &mut script);
        Ok(out.write_all(&script)?)
    }
}
