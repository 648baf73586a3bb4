//! `shim run`

use std::io::{self, IsTerminal as _};

use anyhow::{Result, bail};
use contracts::exit::Exit;
use contracts::fault;

use crate::attach::keys::Keys;
use crate::attach::session::{self, Options, Outcome};
use crate::cli::RunFlags;
use crate::container::{Store, create, remove, start};
use crate::show;

pub fn run(store: &Store, flags: &RunFlags) -> Result<Exit> {
    let keys = Keys::parse(&flags.detach_keys)?;
    let create = &flags.create;
    if flags.detach && !create.attach.is_empty() {
        fault!(Usage, "conflicting options: cannot specify both --attach and --detach");
    }
    if !flags.detach && create.tty && create.interactive && !io::stdin().is_terminal() {
        bail!("the input device is not a TTY");
    }
    if flags.detach {
        let created = create::create(store, create, true)?;
        start(store, created, None)?;
        return Ok(Exit::Ok);
    }
    // Before the container: a signal that comes early waits until it can be passed on.
    let signals = session::take_signals(flags.sig_proxy && !create.tty)?;
    let created = create::create(store, create, true)?;
    let config = &created.record.config;
    let attached = |wanted: bool| create.attach.is_empty() || wanted;
    let options = Options {
        stdin: config.open_stdin && attached(config.attach_stdin),
        tty: config.tty,
        keys,
        show: (attached(config.attach_stdout), attached(config.attach_stderr)),
    };
    let (ours, theirs) = sys::seqpacket::pair()?;
    start(store, created, Some(theirs))?;
    match session::run(&ours, &signals, options)? {
        Outcome::Ended(code) => Ok(Exit::Payload(u8::try_from(code).unwrap_or(255))),
        Outcome::Detached => Ok(Exit::Ok),
    }
}

fn start(store: &Store, created: create::Created, client: Option<std::os::fd::OwnedFd>) -> Result<()> {
    let detached = client.is_none();
    let record = created.record;
    let started = start::start(store, &record, &created.lock, created.network, client);
    if started.is_err() && record.host_config.auto_remove {
        let _ = remove::everything(store, &record, true);
    }
    started?;
    if detached { show::line(&record.id) } else { Ok(()) }
}
