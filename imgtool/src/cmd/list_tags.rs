//! `imgtool list-tags REPOSITORY`

use anyhow::Result;
use contracts::exit::Exit;
use contracts::paths::Paths;
use serde_json::json;

use crate::registry::{Client, Flags};
use crate::stdout;

/// Flags of `list-tags`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository, host/name
    repository: String,
    /// One JSON object, as skopeo prints it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    registry: Flags,
}

/// # Errors
/// No such repository; the registry fails.
pub fn run(args: &Args) -> Result<Exit> {
    let client = Client::new(&Paths::from_env(), &args.registry)?;
    let written = args.repository.trim_start_matches("docker://");
    let name = client.parse(written)?;
    let tags = client.repository(&name, false)?.tags()?;
    if args.json {
        stdout::line(serde_json::to_string_pretty(
            &json!({ "Repository": name.repository(), "Tags": tags }),
        )?)?;
    } else {
        for tag in tags {
            stdout::line(tag)?;
        }
    }
    Ok(Exit::Ok)
}
