//! `runtime events`.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::fault;
use nix::errno::Errno;
use nix::poll::{PollFd, PollTimeout, poll};
use serde::Serialize;

use super::Context;
use crate::cgroup::OomEvents;
use crate::cgroup::stats::Stats;
use crate::cli;
use crate::container::directory::Directory;
use crate::container::status::Status;

/// One line of output, as runc writes it.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

/// Prints statistics at an interval, and each time the container runs out of memory, until it ends; with `--stats`
/// once.
///
/// # Errors
/// The container is not running, or has no memory controller to watch.
pub fn run(context: &Context, flags: &cli::Events) -> Result<Exit> {
    if flags.interval.is_zero() {
        fault!(Usage, "duration interval must be greater than 0");
    }
    let directory = Directory::open(&context.root, &flags.id)?;
    let state = directory.state()?;
    if Status::of(&directory, &state)? == Status::Stopped {
        fault!(WrongState, "container with id {} is not running", state.id);
    }
    let location = state.cgroup.clone().unwrap_or_default();
    let stats = |id| Event { kind: "stats", id, data: Some(location.stats()) };
    if flags.stats {
        print(&stats(&state.id))?;
        return Ok(Exit::Ok);
    }
    let mut memory = OomEvents::watch(&location)?;
    let mut next = Instant::now() + flags.interval;
    loop {
        // Whether the container still runs is looked at once a second: an empty cgroup wakes nobody on v1.
        let wait = next.saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
        let wait = PollTimeout::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::ZERO);
        let woken = match poll(&mut [PollFd::new(memory.as_fd(), memory.interest())], wait) {
            Ok(count) => count > 0,
            Err(Errno::EINTR) => false,
            Err(err) => return Err(err).context("wait for events"),
        };
        if woken {
            let Some(kills) = memory.take()? else { return Ok(Exit::Ok) };
            for _ in 0..kills {
                print(&Event { kind: "oom", id: &state.id, data: None })?;
            }
        }
        if !state.init.is_some_and(|init| init.is_running()) {
            return Ok(Exit::Ok);
        }
        if Instant::now() >= next {
            print(&stats(&state.id))?;
            next += flags.interval;
        }
    }
}

fn print(event: &Event<'_>) -> Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    std::io::stdout().write_all(&line).context("write to stdout")
}
