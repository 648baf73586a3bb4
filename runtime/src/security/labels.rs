//! AppArmor profiles and SELinux labels, which take effect when the program is executed.

use std::io;

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::fcntl::OFlag;

use super::procfs::Procfs;

/// Asks for both, where the process has them.
///
/// # Errors
/// The kernel does not have the module, or refuses the label. Never goes on without a label that was asked for.
pub fn apply(proc: &Procfs, apparmor: &str, selinux: &str) -> Result<()> {
    if !apparmor.is_empty() {
        let value = format!("exec {apparmor}");
        // Before Linux 5.8 all modules shared one file.
        let own = if proc.file("self/attr/apparmor/exec", OFlag::O_WRONLY).is_ok() {
            "self/attr/apparmor/exec"
        } else {
            "self/attr/exec"
        };
        let asked = proc.write(own, &value);
        if asked.is_err() && !has_apparmor(proc) {
            // What is asked for is what there is.
            if apparmor != "unconfined" {
                fault!(Unsupported, "apply AppArmor profile {apparmor}: this kernel has no AppArmor");
            }
        } else {
            asked.with_context(|| format!("apply AppArmor profile {apparmor}"))?;
        }
    }
    if !selinux.is_empty() {
        proc.write("self/attr/exec", selinux).with_context(|| format!("apply SELinux label {selinux}"))?;
    }
    Ok(())
}

/// Whether AppArmor runs. Asked of procfs: what the container has at `/sys` is no answer.
fn has_apparmor(proc: &Procfs) -> bool {
    const OWN: &str = "self/attr/apparmor/current";
    let file = if proc.file(OWN, OFlag::O_RDONLY).is_ok() { OWN } else { "self/attr/current" };
    proc.read(file).is_ok()
}

/// Makes a session keyring of this name, with the SELinux label of the process that is to use it.
///
/// # Errors
/// `EDQUOT` over the user's quota; the kernel refuses the label.
pub fn join_new_keyring(proc: &Procfs, name: &str, selinux: &str) -> Result<()> {
    const LABEL: &str = "self/attr/keycreate";
    if !selinux.is_empty() {
        proc.write(LABEL, selinux)
            .with_context(|| format!("apply SELinux label {selinux} to the session keyring"))?;
    }
    let joined = sys::keyring::join_new_session(name);
    if !selinux.is_empty() {
        // What the container makes later has the label of whoever makes it.
        proc.write(LABEL, "\n").context("take the label of new keys back")?;
    }
    match joined {
        Err(err) if err.kind() != io::ErrorKind::Unsupported => Err(err).context("make a session keyring"),
        _ => Ok(()),
    }
}

/// Whether SELinux runs: its file system is there. To be asked on the host, containers rarely see it.
#[must_use]
pub fn selinux_is_enabled() -> bool {
    std::path::Path::new("/sys/fs/selinux/enforce").exists()
}
