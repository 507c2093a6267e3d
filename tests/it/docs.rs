//! The manual says what the program does.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use headgate::config::{FILE_ONLY, Settings};

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

/// Key and default of every row under the heading, down to the next of its level.
fn rows(page: &str, heading: &str) -> BTreeMap<String, String> {
    let section = page.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let row = |line: &str| {
        let mut cells = line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned());
        Some((cells.next()?.trim_matches('`').to_owned(), cells.next()?))
    };
    section.lines().filter(|line| line.starts_with("| `")).filter_map(row).collect()
}

#[test]
fn every_setting_is_documented_with_the_default_that_help_states() {
    let command = Settings::augment_args(clap::Command::new("serve"));
    let stated = command.get_arguments().map(|argument| {
        let help = argument.get_help().unwrap().to_string();
        let default = help.split_once("[default: ").map_or("none", |(_, rest)| rest.trim_end_matches(']'));
        (argument.get_id().to_string(), default.to_owned())
    });
    let in_the_file = FILE_ONLY.into_iter().map(|key| (key.to_owned(), "none".to_owned()));
    assert_eq!(rows(&page("configuration.md"), "The server"), stated.chain(in_the_file).collect());
}

#[test]
fn every_command_is_documented() {
    let page = page("cli.md");
    for command in headgate::cli::command().get_subcommands() {
        assert!(page.contains(&format!("| `headgate {}", command.get_name())), "{} is missing", command.get_name());
        for below in command.get_subcommands() {
            let row = format!("| `headgate {} {} ", command.get_name(), below.get_name());
            assert!(page.contains(&row), "{row} is missing");
        }
    }
}
