//! `shim mount` and `shim unmount`

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;
use contracts::output::template::Format;
use serde_json::{Value, json};

use super::select;
use crate::cli::{MountFlags, UnmountFlags};
use crate::container::rootfs::{self, Shown};
use crate::container::unmount::{hold, holds, unmount};
use crate::container::{Store, again, short, status};
use crate::{show, tools};

pub fn run(store: &Store, flags: &MountFlags) -> Result<Exit> {
    let names = select::chosen(store, &flags.containers, flags.all, flags.latest, |_| Ok(true))?;
    let mut rows = Vec::new();
    if names.is_empty() && !flags.all {
        for id in store.ids()? {
            if tools::is_mounted(&store.bundle(&id)) {
                rows.extend(row(store, &id, flags.no_trunc).ok());
            }
        }
        rows.sort_by(|one, other| one["Names"].as_str().cmp(&other["Names"].as_str()));
        let lines = Format::parse(flags.format.as_deref().or(Some("{{.ID}}\\t{{.Path}}")), "")?;
        show::text(&lines.render(&[], &rows)?)?;
        return Ok(Exit::Ok);
    }
    let exit = super::each(&names, |name| {
        rows.push(mount(store, name).and_then(|id| row(store, &id, flags.no_trunc))?);
        Ok(None)
    })?;
    let lines = Format::parse(flags.format.as_deref().or(Some("{{.Path}}")), "")?;
    show::text(&lines.render(&[], &rows)?)?;
    Ok(exit)
}

fn row(store: &Store, id: &str, no_trunc: bool) -> Result<Value> {
    let record = store.load(id)?;
    Ok(json!({
        "ID": if no_trunc { id } else { short(id) }, "Names": record.name, "Path": store.bundle(id).join("rootfs"),
    }))
}

fn mount(store: &Store, name: &str) -> Result<String> {
    let id = store.resolve(name)?;
    let (lock, _) = again::lock_settled(store, &id)?;
    let times = holds(store, &id);
    hold(store, &id, times + 1)?;
    let show = || rootfs::show(&status::read_locked(store, &id, &lock)?, &store.bundle(&id)).map(Shown::keep);
    // Twice: a restart at that moment may have let them go just before it could see that somebody holds them.
    show().and_then(|()| show()).inspect_err(|_| drop(hold(store, &id, times)))?;
    Ok(id)
}

/// Lets one go; `all` minds none that has to stay.
pub fn undo(store: &Store, name: &str, flags: &UnmountFlags) -> Result<Option<String>> {
    let id = store.resolve(name)?;
    let (_lock, status) = again::lock_settled(store, &id)?;
    let times = holds(store, &id);
    if times == 0 && status.owner.is_some() {
        if flags.which.all {
            return Ok(None);
        }
        fault!(WrongState, "cannot unmount the files of container {name}: it is {}", status.state.word());
    }
    let left = if flags.force || flags.which.all { 0 } else { times.saturating_sub(1) };
    hold(store, &id, left)?;
    match left {
        0 if status.owner.is_none() => unmount(store, &id)?,
        0 => rootfs::let_go(store, &store.load(&id)?),
        _ => {}
    }
    Ok(Some(name.to_owned()))
}
