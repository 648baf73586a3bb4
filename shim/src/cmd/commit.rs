//! `shim commit` and `shim diff`: the image tool's, on the container's bundle.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use contracts::container::{Config, State};
use contracts::exit::Exit;
use serde_json::json;

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
    // The image takes over what the container runs with; the user's own changes come after.
    for change in of_container(&store.load(&id)?.config).iter().chain(&flags.change) {
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

/// A container's config as instructions over its image's.
fn of_container(config: &Config) -> Vec<String> {
    let words = |list: &Option<Vec<String>>| json!(list.as_deref().unwrap_or_default()).to_string();
    // Before CMD, which an entrypoint may take away.
    let mut changes =
        vec![format!("ENTRYPOINT {}", words(&config.entrypoint)), format!("CMD {}", words(&config.cmd))];
    let pair = |(key, value): (&str, &str)| format!("{key}={}", quoted(value));
    changes
        .extend(config.env.iter().filter_map(|entry| Some(format!("ENV {}", pair(entry.split_once('=')?)))));
    changes
        .extend(config.labels.iter().map(|(key, value)| format!("LABEL {}={}", quoted(key), quoted(value))));
    changes.extend(config.exposed_ports.keys().map(|port| format!("EXPOSE {port}")));
    changes.extend(config.volumes.iter().flatten().map(|(path, _)| format!("VOLUME {}", json!([path]))));
    let mut one = |name: &str, value: &str| {
        if !value.is_empty() && value != "/" {
            changes.push(format!("{name} {}", quoted(value)));
        }
    };
    one("WORKDIR", &config.working_dir);
    one("USER", &config.user);
    one("STOPSIGNAL", &config.stop_signal);
    changes
}

/// As one word of a Dockerfile, taken as it is.
fn quoted(text: &str) -> String {
    let mut word = String::from('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '$') {
            word.push('\\');
        }
        word.push(c);
    }
    word.push('"');
    word
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
