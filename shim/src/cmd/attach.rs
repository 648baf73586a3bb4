//! `shim attach`

use std::io::{self, IsTerminal as _};

use anyhow::{Result, bail};
use contracts::container::{Container, State};
use contracts::exit::Exit;
use contracts::fault;

use crate::attach::client;
use crate::attach::keys::Keys;
use crate::attach::session::{self, Options};
use crate::attach::wire::Request;
use crate::cli::AttachFlags;
use crate::container::{Store, status};
use crate::log;

pub fn run(store: &Store, flags: &AttachFlags) -> Result<Exit> {
    let keys = Keys::parse(&flags.detach_keys)?;
    let id = store.resolve(&flags.container)?;
    let record = store.load(&id)?;
    match status::read(store, &id)?.state {
        State::Running => {}
        State::Paused => fault!(WrongState, "You cannot attach to a paused container, unpause it first"),
        State::Restarting => {
            fault!(WrongState, "You cannot attach to a restarting container, wait until it is running")
        }
        _ => fault!(WrongState, "You cannot attach to a stopped container, start it first"),
    }
    if record.config.tty && !flags.no_stdin && !io::stdin().is_terminal() && record.config.open_stdin {
        bail!("the input device is not a TTY");
    }
    join(store, &record, keys, !flags.no_stdin, flags.sig_proxy)
}

/// Joins a running container, or one that is ready, which then begins.
pub fn join(store: &Store, record: &Container, keys: Keys, stdin: bool, proxy: bool) -> Result<Exit> {
    if log::is_passthrough(record) {
        let driver = &record.host_config.log_config.driver;
        fault!(
            WrongState,
            "container {} has log driver {driver}: there is nothing to attach to",
            record.name
        );
    }
    let signals = session::take_signals(proxy && !record.config.tty)?;
    let Some(socket) = client::connect(store, &record.id)? else {
        fault!(WrongState, "You cannot attach to a stopped container, start it first")
    };
    let stdin = stdin && record.config.open_stdin;
    client::ask(&socket, &Request::Attach { stdin })?;
    if status::read(store, &record.id)?.state == State::Initialized {
        client::request(store, &record.id, &Request::Start)?;
    }
    let options = Options { stdin, tty: record.config.tty, keys, show: (true, true) };
    session::run(&socket, &signals, options).map(|outcome| outcome.exit())
}
