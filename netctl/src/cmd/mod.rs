//! One file per verb.

mod connect;
mod create;
mod down;
mod gc;
mod inspect;
mod ls;
mod rm;
mod up;

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::fault;

use crate::cli::Command;
use crate::{dhcp, dns};

/// Does what the command line says.
///
/// # Errors
/// The verb's.
pub fn run(command: Command) -> Result<Exit> {
    match command {
        Command::Create(args) => create::run(args),
        Command::Ls(args) => ls::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Rm(args) => rm::run(&args),
        Command::Prune { force: _ } => rm::prune(),
        Command::Up(args) => up::run(*args),
        Command::Down(args) => down::run(&args),
        Command::Connect(args) => connect::run(args),
        Command::Disconnect(args) => connect::disconnect(&args),
        Command::Gc => gc::run(),
        Command::Reload => gc::reload(),
        Command::Dhcp { dir } => dhcp::run(&dir).map(|()| Exit::Ok),
        Command::Dns { dir } => dns::run(&dir).map(|()| Exit::Ok),
    }
}

/// Data on stdout.
fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("write to stdout")
}

/// `KEY=VALUE` flags.
fn pairs(flag: &str, values: &[String]) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for text in values {
        // A label without a value is docker's way to say an empty one.
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.is_empty() {
            fault!(Usage, "{flag} {text:?}: not KEY=VALUE");
        }
        found.insert(key.into(), value.into());
    }
    Ok(found)
}
