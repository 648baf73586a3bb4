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

/// A duration as Go writes it: numbers with units, `1h2m3.5s`.
///
/// # Errors
/// What is wrong, for the command line.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is no duration like 5s or 1m30s");
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit() && char != '.').ok_or_else(wrong)?;
        let unit_end = rest[digits..].find(|char: char| char.is_ascii_digit() || char == '.');
        let unit_end = unit_end.map_or(rest.len(), |at| digits + at);
        let seconds = match &rest[digits..unit_end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[unit_end..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::{Duration, parse_duration};

    #[test]
    fn durations_as_go_writes_them() {
        let good = [("5s", 5000), ("500ms", 500), ("1m30s", 90_000), ("1.5h", 5_400_000), ("0s", 0)];
        for (text, millis) in good {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for wrong in ["", "5", "s", "5x", "-1s", "1..2s", "99999999999999999999h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
