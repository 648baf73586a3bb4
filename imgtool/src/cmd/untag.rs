//! `imgtool untag IMAGE [NAME...]`

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;

use super::open_store;
use crate::reference::Reference;
use crate::store::index::name_of;

/// Flags of `untag`.
#[derive(Debug, clap::Args)]
#[command(after_help = "The image stays, as <none> where no name is left; imgtool rmi removes it.\n\
                  Examples:\n  imgtool untag web:old\n  imgtool untag 3f5a web:old web:older")]
pub struct Args {
    /// The image: a name, an id or the beginning of one
    image: String,
    /// The names to take away [default: all that it has]
    names: Vec<Reference>,
}

/// # Errors
/// No such image; a name that it does not have.
pub fn run(args: &Args) -> Result<Exit> {
    let store = open_store()?;
    let (name, target) = store.resolve(&args.image)?;
    store.refuse_additional(name.as_ref(), &target)?;
    let wanted: Vec<Reference> = args.names.iter().map(|name| name.clone().or_latest()).collect();
    store.update(|index| {
        let same = index.manifests.iter().filter(|entry| entry.digest == target.digest);
        let own: Vec<Reference> = same.filter_map(name_of).collect();
        if let Some(other) = wanted.iter().find(|name| !own.contains(name)) {
            fault!(NotFound, "image {} has no name {}", args.image, other.familiar());
        }
        for name in if wanted.is_empty() { &own } else { &wanted } {
            index.drop_name(&name.to_string(), true);
        }
        Ok(())
    })?;
    Ok(Exit::Ok)
}
