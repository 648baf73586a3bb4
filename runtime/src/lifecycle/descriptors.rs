//! Which of the caller's descriptors the program keeps.

use anyhow::Result;
use contracts::fault;

/// Descriptors from 3 on: first the sockets of `LISTEN_FDS`, then those of `--preserve-fds`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Descriptors {
    /// How many sockets a service manager has opened for the program (sd_listen_fds(3)).
    pub sockets: u32,
    /// How many there are of both.
    pub all: u32,
}

impl Descriptors {
    /// What the caller passes on to the program of a container, or with `sockets` off to one more process of it.
    ///
    /// # Errors
    /// A usage fault where a descriptor is not open.
    pub fn read(preserve: u32, sockets: bool) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let sockets = if sockets {
            announced(&variable("LISTEN_PID"), &variable("LISTEN_FDS"), std::process::id())
        } else {
            0
        };
        let all = sockets.saturating_add(preserve);
        for number in 0..all {
            // Not just open: our own descriptors take the same numbers.
            if !sys::clone::is_inherited(number.saturating_add(3).cast_signed()) {
                fault!(
                    Usage,
                    "--preserve-fds {preserve}, LISTEN_FDS {sockets}: descriptor {} is not open",
                    number + 3
                );
            }
        }
        Ok(Self { sockets, all })
    }
}

/// The count in `LISTEN_FDS`, which holds only for the process that `LISTEN_PID` names.
fn announced(pid: &str, count: &str, own: u32) -> u32 {
    if pid.parse() == Ok(own) { count.parse().unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::announced;

    #[test]
    fn sockets_are_for_one_process_only() {
        assert_eq!(announced("7", "2", 7), 2);
        for (pid, count) in [("8", "2"), ("", "2"), ("7", ""), ("7", "-1"), ("7", "x")] {
            assert_eq!(announced(pid, count, 7), 0, "{pid} {count}");
        }
    }
}
