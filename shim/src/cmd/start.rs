//! `shim start`

use std::path::PathBuf;

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;

use crate::attach::keys::Keys;
use crate::attach::session::{self, Options};
use crate::cli::StartFlags;
use crate::container::start::Start;
use crate::container::{Store, again, checkpoints, status};
use crate::log;

pub fn one(store: &Store, name: &str, flags: &StartFlags) -> Result<Option<String>> {
    let id = store.resolve(name)?;
    let images = images(store, &id, flags)?;
    again::again(store, &id, Start { checkpoint: images.as_deref(), ..Start::default() })?;
    Ok(Some(name.to_owned()))
}

/// `--checkpoint`: the directory of its images.
fn images(store: &Store, id: &str, flags: &StartFlags) -> Result<Option<PathBuf>> {
    let Some(checkpoint) = &flags.checkpoint else { return Ok(None) };
    let [name] = &flags.which.containers[..] else {
        fault!(Usage, "you cannot restore multiple containers at once")
    };
    if status::read(store, id)?.state.is_live() {
        fault!(WrongState, "container {name} is running: it cannot be restored from a checkpoint");
    }
    let dir = checkpoints::dir(store, id, flags.checkpoint_dir.as_deref())?;
    checkpoints::find(&dir, checkpoint, name).map(Some)
}

/// `start -a`, `start -i`: in the foreground.
pub fn attached(store: &Store, flags: &StartFlags) -> Result<Exit> {
    let [name] = &flags.which.containers[..] else {
        fault!(Usage, "you cannot start and attach multiple containers at once")
    };
    let keys = Keys::parse(&flags.detach_keys)?;
    let id = store.resolve(name)?;
    let record = store.load(&id)?;
    let images = images(store, &id, flags)?;
    if status::read(store, &id)?.state.is_live() {
        return super::attach::join(store, &record, keys, flags.interactive, true);
    }
    let signals = session::take_signals(!record.config.tty)?;
    let (ours, theirs) = sys::seqpacket::pair()?;
    let how = Start { client: Some(theirs), checkpoint: images.as_deref(), ..Start::default() };
    if !again::again(store, &id, how)? {
        return super::attach::join(store, &record, keys, flags.interactive, true);
    }
    // With log driver passthrough the payload has our streams itself.
    let shown = !log::is_passthrough(&record);
    let options = Options {
        stdin: flags.interactive && record.config.open_stdin && shown,
        tty: record.config.tty,
        keys,
        show: (shown, shown),
    };
    session::run(&ours, &signals, options).map(|outcome| outcome.exit())
}
