//! `imgtool catalog HOST` and `imgtool search HOST/TERM`

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;
use contracts::paths::Paths;

use crate::registry::{Client, Flags};
use crate::stdout;

/// Flags of `catalog`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The registry, host[:port]; with /TERM only repositories whose name holds TERM
    registry: String,
    #[command(flatten)]
    flags: Flags,
}

/// # Errors
/// The registry fails, or does not list its repositories.
pub fn run(args: &Args) -> Result<Exit> {
    let client = Client::new(&Paths::from_env(), &args.flags)?;
    let (host, term) = args.registry.split_once('/').unwrap_or((&args.registry, ""));
    if host.is_empty() {
        fault!(Usage, "registry name is empty");
    }
    let endpoint = client.endpoint(host)?;
    for name in client.catalog(&endpoint)?.iter().filter(|name| name.contains(term)) {
        // A hostile registry's names must not drive the terminal.
        stdout::line(name.chars().filter(|c| !c.is_control()).collect::<String>())?;
    }
    Ok(Exit::Ok)
}
