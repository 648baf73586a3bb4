//! `shim run`

use std::io::{self, IsTerminal as _};

use anyhow::{Result, bail};
use contracts::exit::Exit;
use contracts::fault;

use crate::attach::keys::Keys;
use crate::attach::session::{self, Options};
use crate::cli::RunFlags;
use crate::container::start::{self, Start};
use crate::container::{Store, create, remove};
use crate::{log, show};

pub fn run(store: &Store, flags: &RunFlags) -> Result<Exit> {
    let keys = Keys::parse(&flags.detach_keys)?;
    let create = &flags.create;
    if flags.detach && !create.attach.is_empty() {
        fault!(Usage, "conflicting options: cannot specify both --attach and --detach");
    }
    if !flags.detach && create.tty && create.interactive && !io::stdin().is_terminal() {
        bail!("the input device is not a TTY");
    }
    if create.log_driver.as_deref() == Some("passthrough")
        && (io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal())
    {
        fault!(
            Usage,
            "--log-driver passthrough cannot be used on a terminal, which it would hand to the container: --log-driver passthrough-tty does"
        );
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
    let shown = !log::is_passthrough(&created.record);
    let attached = |wanted: bool| shown && (create.attach.is_empty() || wanted);
    let options = Options {
        stdin: config.open_stdin && attached(config.attach_stdin),
        tty: config.tty,
        keys,
        show: (attached(config.attach_stdout), attached(config.attach_stderr)),
    };
    let (ours, theirs) = sys::seqpacket::pair()?;
    start(store, created, Some(theirs))?;
    session::run(&ours, &signals, options).map(|outcome| outcome.exit())
}

fn start(store: &Store, created: create::Created, client: Option<std::os::fd::OwnedFd>) -> Result<()> {
    let detached = client.is_none();
    let record = created.record;
    let started = start::start(
        store,
        &record,
        &created.lock,
        Start { network: created.network, client, ..Start::default() },
    );
    if started.is_err() && record.host_config.auto_remove {
        let _ = remove::everything(store, &record, true);
    }
    started?;
    if detached { show::line(&record.id) } else { Ok(()) }
}
