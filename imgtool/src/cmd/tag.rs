//! `imgtool tag SOURCE TARGET...`

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;

use super::open_store;
use crate::reference::Reference;

/// Flags of `tag`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image: a name, an id or the beginning of one
    source: String,
    /// The new names; one that exists moves
    #[arg(required = true)]
    targets: Vec<Reference>,
}

/// # Errors
/// No such image; a target with a digest.
pub fn run(args: &Args) -> Result<Exit> {
    if let Some(wrong) = args.targets.iter().find(|target| target.digest().is_some()) {
        fault!(
            Usage,
            "cannot tag as {}: a digest is not chosen but follows from the content",
            wrong.familiar()
        );
    }
    let store = open_store()?;
    // The target is looked up again under the lock: another command may remove the source meanwhile.
    let (_, target) = store.resolve(&args.source)?;
    store.update(|index| {
        let there = || anyhow::Ok(store.entries()?.iter().any(|entry| entry.digest == target.digest));
        if !index.holds(&target.digest) && !there()? {
            fault!(NotFound, "no such image: {}", args.source);
        }
        for name in &args.targets {
            index.set_name(&name.clone().or_latest(), &target);
        }
        Ok(())
    })?;
    Ok(Exit::Ok)
}
