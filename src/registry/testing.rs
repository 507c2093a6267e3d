//! Programs for tests to run in the place of a child.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Makes a program of shell commands. A process of its own writes it: a child that another test starts while it is written
/// here would hold it open, and what is open for writing can't be run.
pub fn write_program(path: &Path, commands: &str) {
    let text = path.with_extension("text");
    fs::write(&text, format!("#!/bin/sh\n{commands}\n")).unwrap();
    let installed = Command::new("install").args(["-m", "755"]).arg(text).arg(path).status().unwrap();
    assert!(installed.success(), "{installed}");
}
