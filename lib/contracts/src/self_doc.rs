//! `TOOL self-doc man|completions DIR`: manual pages and shell completions from the tool's own flags. Behind a feature,
//! so that installed binaries do not carry it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory, ValueEnum as _};
use clap_complete::Shell;

use crate::exit::Exit;
use crate::fault;

/// Writes the documents if the command line asks for them.
#[must_use]
pub fn asked<Cli: CommandFactory>(name: &'static str) -> Option<Result<Exit>> {
    asked_of(name, Cli::command)
}

/// [`asked`] where the command line is more than what is derived.
#[must_use]
pub fn asked_of(name: &'static str, command: impl FnOnce() -> Command) -> Option<Result<Exit>> {
    let arguments: Vec<String> =
        sys::start::arguments().into_iter().filter_map(|word| word.into_string().ok()).collect();
    let [_, verb, kind, directory] = arguments.as_slice() else { return None };
    (verb == "self-doc").then(|| write(command().name(name), kind, directory.into()).map(|()| Exit::Ok))
}

fn write(mut command: Command, kind: &str, directory: PathBuf) -> Result<()> {
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let context = || format!("write into {}", directory.display());
    match kind {
        // One page per verb: `shim(1)`, `shim-run(1)`, …
        "man" => clap_mangen::generate_to(command, &directory).with_context(context),
        "completions" => {
            let name = command.get_name().to_owned();
            for shell in Shell::value_variants() {
                clap_complete::generate_to(*shell, &mut command, &name, &directory).with_context(context)?;
            }
            Ok(())
        }
        _ => fault!(Usage, "self-doc {kind}: man or completions"),
    }
}
