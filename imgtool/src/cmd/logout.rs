//! `imgtool logout [REGISTRY]`

use std::path::PathBuf;

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;

use crate::registry::credentials;
use crate::stdout;

/// Flags of `logout`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The registry, the hub where missing
    #[arg(default_value = "docker.io")]
    registry: String,
    /// All registries
    #[arg(short, long, conflicts_with = "registry")]
    all: bool,
    /// Credentials file instead of Docker's [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

/// # Errors
/// The credentials file cannot be changed. Not having been logged in is no failure, as in docker.
pub fn run(args: &Args) -> Result<Exit> {
    let host =
        args.registry.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    if host.is_empty() {
        fault!(Usage, "registry name is empty");
    }
    let target = (!args.all).then_some(host);
    let had = credentials::erase(args.authfile.as_deref(), target)?;
    stdout::line(match (args.all, had) {
        (true, _) => "Removing login credentials for all registries".into(),
        (false, true) => format!("Removing login credentials for {host}"),
        (false, false) => format!("Not logged in to {host}"),
    })?;
    Ok(Exit::Ok)
}
