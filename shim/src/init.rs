//! `--init`: process 1 of a container that passes signals to its one child and reaps everybody else's.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use contracts::exit::Exit;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, tcsetpgrp};
use sys::command::with_clean_signals;

/// `docker-init [--] COMMAND [ARG]...`
pub fn main(arguments: &[OsString]) -> Exit {
    let command = match arguments.split_first() {
        Some((dashes, rest)) if dashes == "--" => rest,
        _ => arguments,
    };
    let Some((program, rest)) = command.split_first() else {
        let _ = writeln!(io::stderr(), "docker-init: no command");
        return Exit::Usage;
    };
    let mut signals = SigSet::all();
    for own in
        [Signal::SIGFPE, Signal::SIGILL, Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGABRT, Signal::SIGTRAP]
    {
        signals.remove(own);
    }
    if signals.thread_block().is_err() {
        return Exit::Failed;
    }
    // A group of its own, so that it can be the terminal's foreground.
    let mut command = Command::new(program);
    command.args(rest).process_group(0);
    let child = match with_clean_signals(&mut command).spawn() {
        Ok(child) => child,
        Err(err) => {
            contracts::report::say(format_args!("docker-init: exec {}: {err}", program.display()));
            return Exit::Payload(if err.kind() == io::ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    let child = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
    if io::stdin().is_terminal() {
        let _ = tcsetpgrp(io::stdin().as_fd(), child);
    }
    supervise(child, &signals)
}

fn supervise(child: Pid, signals: &SigSet) -> Exit {
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(exit) = reap(child) {
                    return exit;
                }
            }
            Ok(signal) => drop(kill(child, signal)),
            Err(_) => {}
        }
    }
}

fn reap(child: Pid) -> Option<Exit> {
    let mut exit = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => {
                exit = Some(Exit::Payload(u8::try_from(code).unwrap_or(255)));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                exit = Some(Exit::Payload(u8::try_from(128 + signal as i32).unwrap_or(255)));
            }
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return exit,
            _ => {}
        }
    }
}
