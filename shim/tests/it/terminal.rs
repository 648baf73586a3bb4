//! Real terminals: a pty whose other end is the test.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};

use nix::pty::openpty;

use crate::rig::Rig;

struct Terminal {
    child: Child,
    master: File,
    seen: String,
}

/// Runs a command on a terminal of its own.
fn on_terminal(mut command: Command) -> Terminal {
    let pty = openpty(None, None).unwrap();
    let slave = |fd: &OwnedFd| fd.try_clone().unwrap();
    command.stdin(slave(&pty.slave)).stdout(slave(&pty.slave)).stderr(slave(&pty.slave));
    let child = command.spawn().unwrap();
    Terminal { child, master: File::from(pty.master), seen: String::new() }
}

impl Terminal {
    #[track_caller]
    fn expect(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        while !self.seen.contains(text) {
            match self.master.read(&mut buffer) {
                Ok(length) if length > 0 => self.seen.push_str(&String::from_utf8_lossy(&buffer[..length])),
                _ => panic!("the terminal ended before {text:?}: {:?}", self.seen),
            }
        }
        self.seen = self.seen.split_once(text).map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    }

    fn code(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

#[test]
fn a_shell_on_a_terminal() {
    let rig = Rig::new();
    let mut terminal = on_terminal(rig.shim(&["run", "-it", "--rm", "--network", "none", "busybox", "sh"]));
    terminal.expect("# ");
    terminal.master.write_all(b"tty; echo $TERM $((40+2))\r").unwrap();
    terminal.expect("/dev/pts/0");
    terminal.expect("xterm 42");
    terminal.master.write_all(b"exit 5\r").unwrap();
    assert_eq!(terminal.code(), 5);
}

#[test]
fn detach_and_come_back() {
    let rig = Rig::new();
    let mut terminal =
        on_terminal(rig.shim(&["run", "-it", "--name", "dq", "--network", "none", "busybox", "sh"]));
    terminal.expect("# ");
    terminal.master.write_all(b"\x10\x11").unwrap();
    assert_eq!(terminal.code(), 0);
    assert_eq!(rig.inspect("dq", "{{.State.Status}}"), "running");
    let mut terminal = on_terminal(rig.shim(&["attach", "dq"]));
    terminal.master.write_all(b"echo back $((1+1))\r").unwrap();
    terminal.expect("back 2");
    terminal.master.write_all(b"exit 4\r").unwrap();
    assert_eq!(terminal.code(), 4);
}

#[test]
fn exec_on_a_terminal() {
    let rig = Rig::new();
    rig.sleeper("ex", &[]);
    let mut terminal = on_terminal(rig.shim(&["exec", "-it", "ex", "sh", "-c", "tty; exit 3"]));
    terminal.expect("/dev/pts/");
    assert_eq!(terminal.code(), 3);
}

#[test]
fn a_pipe_is_no_terminal() {
    let rig = Rig::new();
    assert!(rig.fails(125, &["run", "-it", "busybox", "true"]).contains("the input device is not a TTY"));
}
