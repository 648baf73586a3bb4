//! AppArmor profiles and SELinux labels, which take effect when the program is executed.

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
        if !std::path::Path::new("/sys/module/apparmor").exists() {
            if apparmor == "unconfined" && selinux.is_empty() {
                return Ok(());
            }
            fault!(Unsupported, "apply AppArmor profile {apparmor}: this kernel has no AppArmor");
        }
        proc.write(own, &value).with_context(|| format!("apply AppArmor profile {apparmor}"))?;
    }
    if !selinux.is_empty() {
        if !selinux_is_enabled() {
            fault!(Unsupported, "apply SELinux label {selinux}: SELinux is disabled or not supported");
        }
        proc.write("self/attr/exec", selinux).with_context(|| format!("apply SELinux label {selinux}"))?;
    }
    Ok(())
}

/// Whether SELinux runs: its file system is there.
#[must_use]
pub fn selinux_is_enabled() -> bool {
    std::path::Path::new("/sys/fs/selinux/enforce").exists()
}
