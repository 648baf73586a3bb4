//! `shim rename`

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::fault;

use crate::attach::client;
use crate::attach::wire::Request;
use crate::cli::RenameFlags;
use crate::container::{Store, claim, names, status};
use crate::events;

pub fn run(store: &Store, flags: &RenameFlags) -> Result<Exit> {
    let id = store.resolve(&flags.container)?;
    let lock = store.lock(&id)?;
    let mut record = store.load(&id)?;
    let name = flags.name.strip_prefix('/').unwrap_or(&flags.name);
    names::check(name)?;
    if name == record.name {
        fault!(Usage, "Renaming a container with the same name as its current name");
    }
    let old = std::mem::replace(&mut record.name, name.to_owned());
    // Claimed before the record says so, released after: a crash in between leaves both names with one owner.
    claim::name(store, name, &id).context("Error when allocating new name")?;
    record.network.name = name.to_owned();
    store.save(&record)?;
    names::release(store, &old, &id);
    events::container(store, &record, "rename", &[("oldName", &old)]);
    if status::read_locked(store, &id, &lock)?.state.is_live() {
        client::request(store, &id, &Request::Reload)?;
    }
    Ok(Exit::Ok)
}
