//! `shim clone`

use anyhow::Result;
use contracts::exit::Exit;

use super::rm;
use crate::cli::{CloneFlags, RmFlags};
use crate::container::start::{Start, start};
use crate::container::{Store, clone, status};
use crate::request::resources;
use crate::{show, volume};

pub fn run(store: &Store, flags: &CloneFlags) -> Result<Exit> {
    let id = store.resolve(&flags.container)?;
    let original = store.load(&id)?;
    if flags.destroy && status::read(store, &id)?.state.is_live() && !flags.force {
        contracts::fault!(
            WrongState,
            "clone --destroy {}: it runs: stop it first, or say --force",
            flags.container
        );
    }
    let mut record = original.clone();
    resources::apply(&flags.resources, &mut record.host_config)?;
    let wanted = flags.name.as_ref().or(flags.new_name.as_ref());
    let name = wanted.map_or_else(|| free_name(store, &original.name), |name| name.clone());
    let made = clone::make(store, record, &name, flags.image.as_deref())?;
    if flags.destroy {
        let how = RmFlags { force: flags.force, ..RmFlags::default() };
        rm::one(store, &id, &flags.container, &how)?;
    }
    if flags.run {
        start(store, &made.record, &made.lock, Start::default())?;
    } else {
        volume::options::release(store, &made.record)?;
    }
    show::line(&made.record.id)?;
    Ok(Exit::Ok)
}

/// `web-clone`, or the next one of them.
fn free_name(store: &Store, name: &str) -> String {
    let first = format!("{name}-clone");
    let later = (1..).map(|number| format!("{first}{number}"));
    let mut names = std::iter::once(first.clone()).chain(later);
    names.find(|name| store.resolve(name).is_err()).unwrap_or(first.clone())
}
