//! A process named so that a recycled pid is never mistaken for it: pid plus start time.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

/// A process as it stands in a file: its pid and its start time in clock ticks since boot (field 22 of
/// `/proc/PID/stat`, proc(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id in the namespace of the writer.
    pub pid: i32,
    /// Clock ticks since boot.
    pub start_time: u64,
}

impl Process {
    /// Names a running process.
    ///
    /// # Errors
    /// `NotFound` where it does not exist.
    pub fn of(pid: i32) -> io::Result<Self> {
        Ok(Self { pid, start_time: read_stat(pid)?.start_time })
    }

    /// This process itself.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn current() -> io::Result<Self> {
        Self::of(nix::unistd::getpid().as_raw())
    }

    /// Whether that very process still runs; a zombie does not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        read_stat(self.pid)
            .is_ok_and(|stat| stat.start_time == self.start_time && !matches!(stat.state, 'Z' | 'X'))
    }

    /// Whether that very process has let go of all it had and waits only for its children to be reaped, as the first process
    /// of a PID namespace does for those that were put in from outside.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        read_stat(self.pid)
            .is_ok_and(|stat| stat.start_time == self.start_time && stat.is_exiting && stat.memory == 0)
    }

    /// A pidfd of that very process, or `None` where it has gone (whoever has its pid now).
    ///
    /// # Errors
    /// `pidfd_open(2)` failed for another reason than a missing process.
    pub fn open(&self) -> io::Result<Option<OwnedFd>> {
        let fd = match sys::pidfd::open(self.pid) {
            Ok(fd) => fd,
            Err(err) if err.raw_os_error() == Some(nix::libc::ESRCH) => return Ok(None),
            Err(err) => return Err(err),
        };
        // Checked after the open: from here on the descriptor cannot come to mean another process.
        Ok(read_stat(self.pid).is_ok_and(|stat| stat.start_time == self.start_time).then_some(fd))
    }
}

/// linux/sched.h.
const PF_EXITING: u32 = 4;

struct Stat {
    state: char,
    is_exiting: bool,
    start_time: u64,
    /// Bytes of address space.
    memory: u64,
}

fn read_stat(pid: i32) -> io::Result<Stat> {
    // One read: a file of /proc has no size to go by, and growing a buffer takes five.
    let mut text = [0; 1024];
    let length = File::open(format!("/proc/{pid}/stat"))?.read(&mut text)?;
    parse_stat(&text[..length])
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat")))
}

/// The command name is in parentheses and may itself hold `) `, so the fields are counted from the last one.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let after_name = text.iter().rposition(|&byte| byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&text[after_name..]).ok()?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let flags: u32 = fields.nth(5)?.parse().ok()?;
    let start_time = fields.nth(12)?.parse().ok()?;
    Some(Stat {
        state,
        is_exiting: flags & PF_EXITING != 0,
        start_time,
        memory: fields.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_fields() {
        let line = format!("7 (a) b (c)) S 1 2 {}99 0", "0 ".repeat(16));
        assert_eq!(parse_stat(line.as_bytes()).unwrap().start_time, 99);
    }

    #[test]
    fn knows_itself_and_not_a_recycled_pid() {
        let own = Process::current().unwrap();
        assert!(own.is_running() && own.open().unwrap().is_some());
        let other = Process { start_time: own.start_time + 1, ..own };
        assert!(!other.is_running() && other.open().unwrap().is_none());
    }
}
