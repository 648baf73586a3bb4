//! containerd's shim, version 2: what `--runtime io.containerd.bulkhead.v2` executes (`containerd-shim-bulkhead-v2` as
//! the program's name, or `shim containerd-shim`). One process for all containers of a pod, one epoll, no threads.
//!
//! Owns its socket below containerd's `s/`, and in each bundle `options.json`, `init.pid`, `*.pid` and what a command
//! needs while it runs. Executes the OCI runtime; keeps nothing else: the kernel and containerd know the rest.

mod boot;
mod call;
mod cleanup;
mod cli;
mod console;
mod control;
mod create;
mod dispatch;
mod events;
mod exits;
mod frame;
mod info;
mod job;
mod jobs;
mod mounts;
mod pod;
mod proto;
mod pump;
mod query;
mod runtime;
mod sandbox;
mod server;
mod start;
mod status;
mod stdio;
mod task;
mod wire;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

/// The action of the process that stays.
const SERVE: &str = "serve";

/// Whether this program is called by this face's name.
pub fn is_name(program: &str) -> bool {
    program.rsplit('/').next().is_some_and(|name| name.starts_with("containerd-shim-"))
}

/// All of it; `words` come after the program's name.
pub fn main(words: &[OsString]) -> ExitCode {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    match begin(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            // containerd shows what `start` and `delete` say.
            let text = contracts::report::one_line(&err);
            contracts::report::say(format_args!("io.containerd.bulkhead.v2: {text}"));
            ExitCode::FAILURE
        }
    }
}

fn begin(words: &[String]) -> Result<()> {
    let flags = cli::parse(words)?;
    if flags.help {
        return say(cli::HELP.as_bytes());
    }
    if flags.version {
        let version = env!("CARGO_PKG_VERSION");
        return say(format!("containerd-shim-bulkhead-v2:\n  Version:  {version}\n").as_bytes());
    }
    if flags.info {
        return say(&info::info()?);
    }
    if flags.namespace.is_empty() {
        bail!("shim namespace cannot be empty");
    }
    contracts::name::check("container", &flags.id)?;
    match flags.action.as_str() {
        "start" => say(&boot::start(&flags)?),
        "delete" => say(&cleanup::delete(&flags)?),
        SERVE => server::Server::open(flags)?.run(),
        "" => bail!("neither start nor delete"),
        action => bail!("unknown action {action}"),
    }
}

fn say(bytes: &[u8]) -> Result<()> {
    std::io::stdout().write_all(bytes).context("write to stdout")
}
