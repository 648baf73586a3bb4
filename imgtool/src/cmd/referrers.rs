//! `imgtool referrers NAME`: what refers to an image in a registry.

use anyhow::Result;
use contracts::exit::Exit;
use contracts::paths::Paths;

use crate::registry::repository::Repository;
use crate::registry::{Client, Flags};
use crate::stdout;
use crate::store::digest::Digest;

/// Referrers of referrers are followed this far: a registry could answer for ever.
const DEEPEST: u32 = 8;
/// And no tree that anybody reads has more branches.
const MOST: usize = 10_000;

/// Flags of `referrers`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: imgtool referrers --tree registry.example/web:1\nSee imgtool artifact attach."
)]
pub struct Args {
    /// The image in its registry
    name: String,
    /// Only artifacts of this type
    #[arg(long)]
    artifact_type: Option<String>,
    /// A tree, with what refers to the referrers
    #[arg(long)]
    tree: bool,
    #[command(flatten)]
    registry: Flags,
}

/// # Errors
/// No such image; the registry fails.
pub fn run(args: &Args) -> Result<Exit> {
    let client = Client::new(&Paths::from_env(), &args.registry)?;
    let name = client.parse(args.name.trim_start_matches("docker://"))?.or_latest();
    let repository = client.repository(&name, false)?;
    let digest = repository.digest(&name.manifest_name())?;
    if args.tree {
        let mut lines = vec![format!("{}@{digest}", name.familiar_name())];
        branch(&repository, &digest, args.artifact_type.as_deref(), "", &mut lines)?;
        stdout::write(&(lines.join("\n") + "\n"))?;
        return Ok(Exit::Ok);
    }
    let mut index = repository.referrers(&digest)?;
    if let Some(wanted) = &args.artifact_type {
        index.manifests.retain(|entry| entry.artifact_type.as_ref() == Some(wanted));
    }
    stdout::line(serde_json::to_string_pretty(&index)?)?;
    Ok(Exit::Ok)
}

/// Adds a line for each referrer of `digest`, indented by `prefix`, which grows by four columns a level.
fn branch(
    repository: &Repository<'_>,
    digest: &Digest,
    wanted: Option<&str>,
    prefix: &str,
    lines: &mut Vec<String>,
) -> Result<()> {
    let mut index = repository.referrers(digest)?;
    if let Some(wanted) = wanted {
        index.manifests.retain(|entry| entry.artifact_type.as_deref() == Some(wanted));
    }
    let deeper = prefix.chars().count() < 4 * DEEPEST as usize;
    for (at, entry) in index.manifests.iter().enumerate() {
        if lines.len() >= MOST {
            return Ok(());
        }
        let last = at + 1 == index.manifests.len();
        let kind = entry.artifact_type.as_deref().unwrap_or("unknown");
        // A hostile registry's words must not drive the terminal.
        let kind: String = kind.chars().filter(|c| !c.is_control()).collect();
        let (corner, below) = if last { ("└── ", "    ") } else { ("├── ", "│   ") };
        lines.push(format!("{prefix}{corner}{kind} {}", entry.digest));
        if deeper {
            branch(repository, &entry.digest, wanted, &format!("{prefix}{below}"), lines)?;
        }
    }
    Ok(())
}
