//! `shim rm`

use anyhow::{Context as _, Result};
use contracts::container::State;
use contracts::fault;
use contracts::fault::Kind;
use contracts::report;

use crate::attach::client;
use crate::attach::wire::Request;
use crate::cli::{CreateFlags, RmFlags};
use crate::container::{Store, again, names, remove, status};

pub fn run(store: &Store, name: &str, flags: &RmFlags) -> Result<Option<String>> {
    if flags.link {
        fault!(Unsupported, "rm --link {name}: a link cannot be taken from a container that exists");
    }
    let id = match store.resolve(name) {
        Ok(id) => id,
        Err(err) if flags.ignore && Kind::of(&err) == Some(Kind::NotFound) => return Ok(None),
        // As docker: said, but no failure.
        Err(err) if flags.force && Kind::of(&err) == Some(Kind::NotFound) => {
            report::print_error("shim", &err);
            return Ok(None);
        }
        Err(err) => return Err(err),
    };
    one(store, &id, name, flags)?;
    Ok(Some(name.to_owned()))
}

/// `--replace`: the container that has the name goes, whatever it does.
pub fn replaced(store: &Store, flags: &CreateFlags) -> Result<()> {
    if !flags.podman.replace || names::owner(store, &flags.name).is_none() {
        return Ok(());
    }
    let how = RmFlags { force: true, ..RmFlags::default() };
    run(store, &flags.name, &how).map(drop).with_context(|| format!("replace container {}", flags.name))
}

/// Removes a container by its id; `name` is for the words.
pub fn one(store: &Store, id: &str, name: &str, flags: &RmFlags) -> Result<()> {
    loop {
        let status = status::read(store, id)?;
        if status.state.is_live() {
            if !flags.force && status.state != State::Initialized {
                let what = if status.state == State::Paused {
                    "paused and must be unpaused first"
                } else {
                    "running"
                };
                fault!(
                    WrongState,
                    "cannot remove container \"{name}\": container is {what}: stop the container before removing or \
                     force remove"
                );
            }
            if let Some(socket) = client::connect(store, id)? {
                let (signal, timeout) = match flags.time {
                    Some(seconds) => (libc::SIGTERM, seconds),
                    None => (libc::SIGKILL, -1),
                };
                client::until_exit(&socket, &Request::Stop { signal, timeout })?;
            }
        }
        if let Some(owner) = status.owner {
            again::wait_for(store, id, owner)?;
        }
        if store.load(id).is_err() {
            return Ok(());
        }
        let Ok(lock) = store.lock(id) else { return Ok(()) };
        let now = status::read_locked(store, id, &lock)?;
        // Started again between two looks: once more from the beginning.
        if now.owner.is_some() && flags.force {
            continue;
        }
        if now.owner.is_some() {
            fault!(WrongState, "cannot remove container \"{name}\": container is running");
        }
        let Ok(record) = store.load(id) else { return Ok(()) };
        return remove::everything(store, &record, flags.volumes || record.host_config.auto_remove);
    }
}
