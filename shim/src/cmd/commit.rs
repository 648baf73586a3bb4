//! `shim commit` and `shim diff`: the image tool's, on the container's bundle.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use contracts::container::State;
use contracts::exit::Exit;

use super::pause;
use crate::cli::CommitFlags;
use crate::container::{Store, status};
use crate::tools;

pub fn run(store: &Store, flags: &CommitFlags) -> Result<Exit> {
    let id = store.resolve(&flags.container)?;
    let mut command = tools::imgtool("commit");
    if let Some(author) = &flags.author {
        command.args(["--author", author]);
    }
    if let Some(message) = &flags.message {
        command.args(["--message", message]);
    }
    for change in &flags.change {
        command.args(["--change", change]);
    }
    command.arg(store.bundle(&id)).args(&flags.reference);
    let freeze = flags.pause && status::read(store, &id)?.state == State::Running;
    if freeze {
        pause::run(store, &id, true)?;
    }
    let done = pass(&mut command);
    if freeze {
        pause::run(store, &id, false)?;
    }
    done
}

pub fn diff(store: &Store, name: &str) -> Result<Exit> {
    let id = store.resolve(name)?;
    pass(tools::imgtool("diff").arg(store.bundle(&id)))
}

fn pass(command: &mut Command) -> Result<Exit> {
    let status = command.stdin(Stdio::null()).status().context("execute imgtool")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(Exit::Payload(code))
}
