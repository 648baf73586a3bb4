//! System call filters: the profile of a container's configuration, compiled and installed without a library.
//!
//! The parent compiles before the container's process exists; that process only installs, and `exec` finds the program
//! ready. `calls` and `abi` know the numbers, `profile` checks, `compile` decides, `assemble` writes instructions,
//! `program` installs and keeps them, `verdict` reads them, `notify` talks to the agent.

mod abi;
mod assemble;
mod calls;
mod compile;
mod notify;
mod profile;
mod program;
mod verdict;

use anyhow::{Context as _, Result};
use contracts::fault;
use oci_spec::runtime::{LinuxSeccompAction, LinuxSeccompFilterFlag as Flag};

use crate::spec::seccomp::Seccomp;

pub use calls::Call;
pub use notify::Listener;
use profile::Profile;
pub use program::Program;

/// What failed where a filter could not be installed.
pub const INSTALL: &str = "install the seccomp filter";

/// Compiles a profile for this kernel's architecture.
///
/// # Errors
/// What the profile asks for is contradictory or too long for the kernel.
pub fn compile(seccomp: &Seccomp) -> Result<Program> {
    if let Some(bytes) = &seccomp.program {
        return given(seccomp, bytes);
    }
    let profile = Profile::read(seccomp).context("linux.seccomp")?;
    let instructions = compile::compile(&profile, abi::NATIVE).context("linux.seccomp")?;
    let listener = profile.notifies.then(|| Listener {
        path: seccomp.listener_path.clone(),
        metadata: seccomp.listener_metadata.clone(),
    });
    Ok(Program { instructions, flags: flags(seccomp.flags.as_deref(), listener.is_some()), listener })
}

/// A program that somebody else compiled: the kernel's instructions one after the other. Who is named as its listener
/// is one, for nobody can say of a program whether it notifies.
fn given(seccomp: &Seccomp, bytes: &[u8]) -> Result<Program> {
    let Some(instructions) = program::instructions(bytes) else {
        fault!(Usage, "a seccomp program of {} bytes, not 1 to 4096 instructions of 8", bytes.len());
    };
    let listener = (!seccomp.listener_path.as_os_str().is_empty()).then(|| Listener {
        path: seccomp.listener_path.clone(),
        metadata: seccomp.listener_metadata.clone(),
    });
    Ok(Program { instructions, flags: flags(seccomp.flags.as_deref(), listener.is_some()), listener })
}

/// The kernel's flags. A profile that says nothing gets `SPEC_ALLOW`, as containers did before the mitigation was
/// tied to seccomp; one that lists flags gets those alone.
fn flags(asked: Option<&[Flag]>, notifies: bool) -> u32 {
    let Some(asked) = asked else {
        return sys::seccomp::SPEC_ALLOW | if notifies { sys::seccomp::NEW_LISTENER } else { 0 };
    };
    let mut flags = asked.iter().map(|flag| kernel_flag(*flag)).fold(0, |all, flag| all | flag);
    if notifies {
        flags |= sys::seccomp::NEW_LISTENER;
        if flags & sys::seccomp::TSYNC != 0 {
            flags |= sys::seccomp::TSYNC_ESRCH;
        }
    } else {
        // Means nothing, and the kernel refuses it, where nobody is notified.
        flags &= !sys::seccomp::WAIT_KILLABLE_RECV;
    }
    flags
}

fn kernel_flag(flag: Flag) -> u32 {
    match flag {
        Flag::SeccompFilterFlagTsync => sys::seccomp::TSYNC,
        Flag::SeccompFilterFlagLog => sys::seccomp::LOG,
        Flag::SeccompFilterFlagSpecAllow => sys::seccomp::SPEC_ALLOW,
        Flag::SeccompFilterFlagWaitKillableRecv => sys::seccomp::WAIT_KILLABLE_RECV,
    }
}

/// Whether this kernel can install filters with a flag (for `features`).
#[must_use]
pub fn knows_flag(flag: Flag) -> bool {
    sys::seccomp::knows_flag(kernel_flag(flag))
}

/// Whether this kernel knows an action (for `features`).
#[must_use]
pub fn knows_action(action: LinuxSeccompAction) -> bool {
    sys::seccomp::knows_action(profile::plain_verdict(action))
}

#[cfg(test)]
mod tests;
