//! Becoming the container's user.

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::procfs::Procfs;
use crate::spec::process::User;

/// Becomes the root of a user namespace, once it has its maps.
///
/// # Errors
/// Id 0 is not mapped.
pub fn become_namespace_root() -> Result<()> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid).context("become group 0 of the user namespace")?;
    setresuid(uid, uid, uid).context("become user 0 of the user namespace")
}

/// Takes the groups, then the user: afterwards there is no right to.
///
/// # Errors
/// An id that the user namespace does not map, or groups where `setgroups(2)` is denied.
pub fn switch(proc: &Procfs, user: &User) -> Result<()> {
    if user.keep_groups {
        return take_ids(user);
    }
    let groups: Vec<Gid> = user.additional_gids.iter().copied().map(Gid::from_raw).collect();
    match setgroups(&groups) {
        Ok(()) => {}
        // In an unprivileged user namespace nobody can drop groups either: that is fine as long as none are asked.
        Err(Errno::EPERM) if groups.is_empty() && setgroups_is_denied(proc) => {}
        Err(err) if groups.is_empty() => return Err(err).context("drop supplementary groups"),
        Err(Errno::EPERM) if setgroups_is_denied(proc) => {
            bail!("process.user.additionalGids: cannot be set in an unprivileged user namespace")
        }
        Err(err) => {
            return Err(err)
                .with_context(|| format!("process.user.additionalGids: set {:?}", user.additional_gids));
        }
    }
    take_ids(user)
}

fn take_ids(user: &User) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setresgid(gid, gid, gid).with_context(|| format!("become group {gid}"))?;
    setresuid(uid, uid, uid).with_context(|| format!("become user {uid}"))
}

fn setgroups_is_denied(proc: &Procfs) -> bool {
    proc.read("self/setgroups").is_ok_and(|text| text.trim() == "deny")
}
