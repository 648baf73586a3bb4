//! `shim cleanup`

use anyhow::Result;
use contracts::container::State;
use contracts::fault;

use super::rm;
use crate::cli::{CleanupFlags, RmFlags};
use crate::container::unmount::unmount;
use crate::container::{Store, again};
use crate::{tools, volume};

pub fn run(store: &Store, name: &str, flags: &CleanupFlags) -> Result<Option<String>> {
    let id = store.resolve(name)?;
    // What a killed supervisor left goes with this look at the container.
    let (lock, status) = again::lock_settled(store, &id)?;
    if status.owner.is_some() || (flags.stopped_only && status.state == State::Created) {
        if flags.stopped_only || flags.which.all {
            return Ok(None);
        }
        fault!(WrongState, "container {name} is {}: refusing to clean up", status.state.word());
    }
    if status.state == State::Removing {
        return Ok(Some(name.to_owned()));
    }
    unmount(store, &id)?;
    tools::network_down(&id)?;
    volume::options::release(store, &store.load(&id)?)?;
    drop(lock);
    if flags.rm {
        rm::one(store, &id, name, &RmFlags::default())?;
    }
    Ok(Some(name.to_owned()))
}
