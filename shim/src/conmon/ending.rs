//! The end: who waits is told, files say the code, the exit command cleans up.

use std::fs::{self, File};
use std::os::fd::RawFd;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::FdFlag;
use sys::command::with_clean_signals;

use super::cli::Options;
use super::create::bundle;
use super::write_whole;

/// Who is told how it goes.
pub struct Ends {
    /// The sync pipe.
    pub sync: Option<File>,
    /// The key of its next number.
    pub key: &'static str,
    /// What podman leaked into us: its reserved ports.
    pub leaked: Vec<RawFd>,
}

impl Default for Ends {
    fn default() -> Self {
        Self { sync: None, key: "data", leaked: leaked_descriptors() }
    }
}

impl Ends {
    /// Lets go of what was leaked: the ports are free for whoever sees the exit file.
    pub fn close_leaked(&mut self) {
        for number in self.leaked.drain(..) {
            sys::inherited::close(number);
        }
    }
}

/// What was inherited beyond the streams and is no pipe to us.
fn leaked_descriptors() -> Vec<RawFd> {
    let ours: Vec<String> = ["_OCI_SYNCPIPE", "_OCI_STARTPIPE", "_OCI_ATTACHPIPE"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .collect();
    let names = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let numbers = names.filter(|name| !ours.contains(name)).filter_map(|name| name.parse().ok());
    numbers.filter(|&number: &RawFd| number > 2 && is_inherited(number)).collect()
}

fn is_inherited(number: RawFd) -> bool {
    // Everything of our own is closed on exec.
    sys::inherited::flags(number).is_ok_and(|flags| flags & FdFlag::FD_CLOEXEC.bits() == 0)
}

/// The files that podman and CRI-O look for after an out-of-memory kill.
pub fn write_oom(options: &Options) {
    for dir in options.persist_dir.iter().cloned().chain([bundle(options)]) {
        let _ = File::create(dir.join("oom"));
    }
}

/// `PERSIST/exit`, then `EXIT_DIR/CID`: the second one is what everybody waits for.
pub fn write_exit_files(options: &Options, code: i32) {
    let text = code.to_string();
    if let Some(dir) = &options.persist_dir {
        let _ = write_whole(&dir.join("exit"), text.as_bytes());
    }
    if let Some(dir) = &options.exit_dir {
        let _ = write_whole(&dir.join(&options.cid), text.as_bytes());
    }
}

/// The exit command, whatever happened; its failure is ours.
pub fn finish(options: &Options, mut ends: Ends, code: u8) -> u8 {
    ends.close_leaked();
    drop(ends);
    let Some(program) = &options.exit_command else { return code };
    // Its children are not ours.
    let _ = nix::sys::prctl::set_child_subreaper(false);
    sleep(Duration::from_secs(options.exit_delay));
    let mut command = Command::new(program);
    command.args(&options.exit_args).stdin(Stdio::null());
    for name in ["_OCI_SYNCPIPE", "_OCI_STARTPIPE", "_OCI_ATTACHPIPE"] {
        command.env_remove(name);
    }
    match with_clean_signals(&mut command).status() {
        Ok(status) if status.success() => code,
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
        Err(_) => 127,
    }
}
