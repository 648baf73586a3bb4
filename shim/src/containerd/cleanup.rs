//! `delete`: what a shim that died left of one container goes.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use prost::Message as _;

use super::cli::Flags;
use super::mounts;
use super::proto::Timestamp;
use super::proto::task::DeleteResponse;
use super::runtime::Runtime;
use super::server::complain;

/// The code of a container whose real one nobody saw: killed.
const KILLED: u32 = 128 + libc::SIGKILL as u32;

/// Returns the answer as bytes.
pub fn delete(flags: &Flags) -> Result<Vec<u8>> {
    let here = std::env::current_dir().context("find the current directory")?;
    // containerd starts us in the bundle, or in another one beside it.
    let bundle = match (&flags.bundle, here.parent()) {
        (bundle, _) if !bundle.as_os_str().is_empty() => bundle.clone(),
        (_, Some(parent)) => parent.join(&flags.id),
        (_, None) => PathBuf::from(&flags.id),
    };
    let runtime = Runtime::of_bundle(&bundle, &flags.namespace)?;
    let log = bundle.join("delete.log.json");
    let status = runtime.command(&log).args(["delete", "--force", &flags.id]).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => {
            let why = crate::supervisor::logged_error(&log).unwrap_or_else(|| status.to_string());
            complain("warning", &format!("delete container {}: {why}", flags.id));
        }
        Err(err) => complain("warning", &format!("execute {}: {err}", runtime.program().display())),
    }
    let _ = fs::remove_file(&log);
    if let Err(err) = mounts::unmount(&bundle.join("rootfs")) {
        complain("warning", &contracts::report::one_line(&err));
    }
    let pid = fs::read_to_string(bundle.join("init.pid")).unwrap_or_default();
    let pid = pid.trim().parse().unwrap_or(0);
    let answer = DeleteResponse { pid, exit_status: KILLED, exited_at: Some(Timestamp::now()) };
    Ok(answer.encode_to_vec())
}
