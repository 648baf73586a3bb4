//! `shim start`

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;

use crate::attach::keys::Keys;
use crate::attach::session::{self, Options, Outcome};
use crate::cli::StartFlags;
use crate::container::{Store, start, status};

pub fn one(store: &Store, name: &str) -> Result<Option<String>> {
    let id = store.resolve(name)?;
    start::again(store, &id, None)?;
    Ok(Some(name.to_owned()))
}

/// `start -a`, `start -i`: in the foreground.
pub fn attached(store: &Store, flags: &StartFlags) -> Result<Exit> {
    let [name] = &flags.containers[..] else {
        fault!(Usage, "you cannot start and attach multiple containers at once")
    };
    let keys = Keys::parse(&flags.detach_keys)?;
    let id = store.resolve(name)?;
    let record = store.load(&id)?;
    if status::read(store, &id)?.state.is_live() {
        return super::attach::join(store, &record, keys, flags.interactive, true);
    }
    let signals = session::take_signals(!record.config.tty)?;
    let (ours, theirs) = sys::seqpacket::pair()?;
    if !start::again(store, &id, Some(theirs))? {
        return super::attach::join(store, &record, keys, flags.interactive, true);
    }
    let options = Options {
        stdin: flags.interactive && record.config.open_stdin,
        tty: record.config.tty,
        keys,
        show: (true, true),
    };
    match session::run(&ours, &signals, options)? {
        Outcome::Ended(code) => Ok(Exit::Payload(u8::try_from(code).unwrap_or(255))),
        Outcome::Detached => Ok(Exit::Ok),
    }
}
