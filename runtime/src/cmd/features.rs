//! `runtime features`.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use oci_spec::runtime::{Arch, LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag};
use serde::Serialize;
use serde_json::{Value, json};

use crate::rootfs::options;
use crate::security::{capabilities, scheduling};
use crate::{seccomp, spec};

const ACTIONS: [Action; 9] = [
    Action::ScmpActAllow,
    Action::ScmpActErrno,
    Action::ScmpActKill,
    Action::ScmpActKillProcess,
    Action::ScmpActKillThread,
    Action::ScmpActLog,
    Action::ScmpActNotify,
    Action::ScmpActTrace,
    Action::ScmpActTrap,
];

const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

const ARCHITECTURES: [Arch; 23] = [
    Arch::ScmpArchAarch64,
    Arch::ScmpArchArm,
    Arch::ScmpArchLoongarch64,
    Arch::ScmpArchM68k,
    Arch::ScmpArchMips,
    Arch::ScmpArchMips64,
    Arch::ScmpArchMips64n32,
    Arch::ScmpArchMipsel,
    Arch::ScmpArchMipsel64,
    Arch::ScmpArchMipsel64n32,
    Arch::ScmpArchParisc,
    Arch::ScmpArchParisc64,
    Arch::ScmpArchPpc,
    Arch::ScmpArchPpc64,
    Arch::ScmpArchPpc64le,
    Arch::ScmpArchRiscv64,
    Arch::ScmpArchS390,
    Arch::ScmpArchS390x,
    Arch::ScmpArchSh,
    Arch::ScmpArchSheb,
    Arch::ScmpArchX32,
    Arch::ScmpArchX86,
    Arch::ScmpArchX86_64,
];

const FLAGS: [Flag; 4] = [
    Flag::SeccompFilterFlagLog,
    Flag::SeccompFilterFlagSpecAllow,
    Flag::SeccompFilterFlagTsync,
    Flag::SeccompFilterFlagWaitKillableRecv,
];

/// Prints what this runtime and this kernel can do (features.md of the specification).
///
/// # Errors
/// stdout cannot be written to.
pub fn run() -> Result<Exit> {
    let document = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": spec::VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": options::names(),
        "linux": linux()?,
        "annotations": {
            "io.bulkhead.runtime.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.runc.checkpoint.enabled": "true",
        },
        // A caller that passes these on from strangers lets them reach the host.
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property.", "org.criu.config", "run.oci."],
    });
    let mut text = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut text, indent))?;
    text.push(b'\n');
    std::io::stdout().write_all(&text).context("write to stdout")?;
    Ok(Exit::Ok)
}

fn linux() -> Result<Value> {
    let enabled = json!({ "enabled": true });
    Ok(json!({
        "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
        "capabilities": capabilities::names().collect::<Vec<_>>(),
        "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
        "seccomp": seccomp_section()?,
        "apparmor": enabled,
        "selinux": enabled,
        "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
        "memoryPolicy": {
            "modes": scheduling::MEMORY_MODES.map(|(name, _)| name),
            "flags": scheduling::MEMORY_FLAGS.map(|(name, _)| name),
        },
        "mountExtensions": { "idmap": enabled },
        "netDevices": enabled,
    }))
}

fn seccomp_section() -> Result<Value> {
    let actions: Vec<Action> = ACTIONS.into_iter().filter(|action| seccomp::knows_action(*action)).collect();
    let supported: Vec<Flag> = FLAGS.into_iter().filter(|flag| seccomp::knows_flag(*flag)).collect();
    Ok(json!({
        "enabled": true,
        "actions": serde_json::to_value(actions)?,
        "operators": OPERATORS,
        "archs": serde_json::to_value(ARCHITECTURES)?,
        "knownFlags": serde_json::to_value(FLAGS)?,
        "supportedFlags": serde_json::to_value(supported)?,
    }))
}
