//! `imgtool manifest`, `imgtool digest`, `imgtool delete`: single requests to a registry.

use anyhow::Result;
use contracts::exit::Exit;
use contracts::paths::Paths;
use serde_json::Value;

use crate::registry::{Client, Flags};
use crate::stdout;
use crate::store::document::{Document, Kind, Platform};
use crate::store::platform;

/// Flags of `manifest`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image in its registry
    name: String,
    /// Of an index, the manifest for this platform
    #[arg(long)]
    platform: Option<Platform>,
    /// As it is, byte for byte
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    registry: Flags,
}

/// # Errors
/// No such image; the registry fails.
pub fn run(args: &Args) -> Result<Exit> {
    let client = Client::new(&Paths::from_env(), &args.registry)?;
    let document = fetch(&client, &args.name, args.platform.as_ref())?;
    if args.raw {
        stdout::write(&String::from_utf8_lossy(&document.bytes))?;
    } else {
        let value: Value = serde_json::from_slice(&document.bytes)?;
        stdout::line(serde_json::to_string_pretty(&value)?)?;
    }
    Ok(Exit::Ok)
}

/// Flags of `digest`.
#[derive(Debug, clap::Args)]
pub struct DigestArgs {
    /// The image in its registry
    name: String,
    /// Of an index, the manifest for this platform
    #[arg(long)]
    platform: Option<Platform>,
    #[command(flatten)]
    registry: Flags,
}

/// # Errors
/// No such image; the registry fails.
pub fn digest(args: &DigestArgs) -> Result<Exit> {
    let client = Client::new(&Paths::from_env(), &args.registry)?;
    let digest = match &args.platform {
        Some(platform) => fetch(&client, &args.name, Some(platform))?.digest,
        None => {
            let name = client.parse(args.name.trim_start_matches("docker://"))?.or_latest();
            client.repository(&name, false)?.digest(&name.manifest_name())?
        }
    };
    stdout::line(digest.to_string())?;
    Ok(Exit::Ok)
}

/// Flags of `delete`.
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    /// The images in their registries
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    registry: Flags,
}

/// # Errors
/// No such image; the registry does not allow it.
pub fn delete(args: &DeleteArgs) -> Result<Exit> {
    let client = Client::new(&Paths::from_env(), &args.registry)?;
    for written in &args.names {
        let name = client.parse(written.trim_start_matches("docker://"))?.or_latest();
        let repository = client.repository(&name, true)?;
        // Registries delete manifests, not tags; all tags of the manifest go with it.
        let digest = repository.digest(&name.manifest_name())?;
        repository.delete_manifest(&digest.to_string())?;
        stdout::line(format!("Deleted: {}@{digest}", name.familiar_name()))?;
    }
    Ok(Exit::Ok)
}

fn fetch(client: &Client, written: &str, wanted: Option<&Platform>) -> Result<Document> {
    let name = client.parse(written.trim_start_matches("docker://"))?.or_latest();
    let repository = client.repository(&name, false)?;
    let document = repository.manifest(&name.manifest_name())?;
    match (&document.kind, wanted) {
        (Kind::Index(index), Some(wanted)) => match platform::select(index, wanted) {
            Some(child) => repository.manifest(&child.digest.to_string()),
            None => contracts::fault!(NotFound, "no manifest for {wanted} in {}", name.familiar()),
        },
        _ => Ok(document),
    }
}
