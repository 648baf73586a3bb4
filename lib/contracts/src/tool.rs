//! How one tool finds another: told by the environment, else beside its own executable, else by `PATH`.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The program to execute for `name` (`runtime`, `shim`, `imgtool`, `netctl`).
///
/// `BULKHEAD_RUNTIME` and the like win; then a program of that name beside this executable (so a build tree or an
/// unpacked archive works in place); then the bare name, left to `PATH`.
#[must_use]
pub fn find(name: &str) -> PathBuf {
    if let Some(path) =
        env::var_os(format!("BULKHEAD_{}", name.to_uppercase())).filter(|path| !path.is_empty())
    {
        return path.into();
    }
    let beside = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(name)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| name.into())
}

/// Runs the tool `name` with nothing to read and without a word. Says whether it could be executed and exited with 0.
#[must_use]
pub fn succeeds(name: &str, args: &[&str]) -> bool {
    let ended = Command::new(find(name))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    ended.is_ok_and(|status| status.success())
}
