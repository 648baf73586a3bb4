//! `linux.devices` and the devices and links every container has.

use anyhow::{Result, ensure};
use serde_json::json;

use super::expect::{allowed, refused, same};
use crate::case::Case;
use crate::machine::Need;
use crate::rig::Rig;

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("devices/default", "config-linux.md#default-devices", defaults),
    Case::new("devices/links", "runtime-linux.md#dev-symbolic-links", links),
    Case::new("devices/work", "config-linux.md#default-devices", work),
    Case::new("devices/made", "config-linux.md#devices", made),
    Case::new("devices/fifo", "config-linux.md#devices", fifo),
    Case::new("devices/unknown-type", "config-linux.md#devices", unknown_type),
    Case::new("devices/denied-by-default", "config-linux.md#allowed-device-list", denied)
        .needs(&[Need::Controller("devices")]),
    Case::new("devices/allowed", "config-linux.md#allowed-device-list", allowed_device)
        .needs(&[Need::Controller("devices")]),
    Case::new("devices/read-only-rule", "config-linux.md#allowed-device-list", read_only_rule)
        .needs(&[Need::Controller("devices")]),
    Case::new("devices/mknod-denied", "config-linux.md#allowed-device-list", mknod_denied),
];

fn defaults(rig: &mut Rig<'_>) -> Result<()> {
    let wanted =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    let operations: Vec<String> = wanted.iter().map(|(name, ..)| format!("stat /dev/{name}")).collect();
    let names: Vec<&str> = operations.iter().map(String::as_str).collect();
    let tries = rig.attempt(&names)?;
    for ((name, major, minor), operation) in wanted.iter().zip(names) {
        let stat = allowed(&tries, operation)?;
        let found = json!([stat["type"], stat["major"], stat["minor"], stat["mode"]]);
        same(&format!("/dev/{name}"), &found, json!(["char", major, minor, 0o666]))?;
    }
    Ok(())
}

fn links(rig: &mut Rig<'_>) -> Result<()> {
    let wanted = [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ];
    let operations: Vec<String> = wanted.iter().map(|(link, _)| format!("readlink {link}")).collect();
    let names: Vec<&str> = operations.iter().map(String::as_str).collect();
    let tries = rig.attempt(&names)?;
    for ((link, target), operation) in wanted.iter().zip(names) {
        same(link, allowed(&tries, operation)?, *target)?;
    }
    let tries = rig.attempt(&["readlink /dev/ptmx", "stat /dev/ptmx"])?;
    let stat = allowed(&tries, "stat /dev/ptmx")?;
    same("/dev/ptmx", &json!([stat["type"], stat["major"], stat["minor"]]), json!(["char", 5, 2]))
}

fn work(rig: &mut Rig<'_>) -> Result<()> {
    let tries = rig.attempt(&["write /dev/null x", "write /dev/full x", "open-rw /dev/zero"])?;
    allowed(&tries, "write /dev/null x")?;
    refused(&tries, "write /dev/full x", &["ENOSPC"])?;
    allowed(&tries, "open-rw /dev/zero").map(drop)
}

fn made(rig: &mut Rig<'_>) -> Result<()> {
    let device = json!({"path": "/dev/mine", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 12, "gid": 34});
    let tries = rig.set("/linux/devices", json!([device]))?.attempt(&["stat /dev/mine"])?;
    let stat = allowed(&tries, "stat /dev/mine")?;
    let found = json!([stat["type"], stat["major"], stat["minor"], stat["mode"], stat["uid"], stat["gid"]]);
    same("/dev/mine", &found, json!(["char", 10, 229, 0o640, 12, 34]))
}

fn fifo(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/devices", json!([{"path": "/dev/pipe", "type": "p", "fileMode": 0o600}]))?;
    let tries = rig.attempt(&["stat /dev/pipe"])?;
    same("/dev/pipe", &allowed(&tries, "stat /dev/pipe")?["type"], "fifo")
}

fn unknown_type(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/devices", json!([{"path": "/dev/mine", "type": "z", "major": 1, "minor": 3}]))?
        .run()?
        .fails()?;
    Ok(())
}

const DENY_ALL: &str = "/linux/resources/devices";

fn denied(rig: &mut Rig<'_>) -> Result<()> {
    // /dev/mem's number: nothing in a container may open it, whoever makes the node.
    rig.set(DENY_ALL, json!([{"allow": false, "access": "rwm"}]))?
        .set(
            "/linux/devices",
            json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 1, "fileMode": 0o666}]),
        )?
        // The list of devices is not a permission; a rule is.
        .set(
            "/linux/resources/devices/-",
            json!({"allow": false, "type": "c", "major": 1, "minor": 1, "access": "rwm"}),
        )?;
    let tries = rig.attempt(&["open-rw /dev/mine", "open-rw /dev/null"])?;
    refused(&tries, "open-rw /dev/mine", &["EPERM"])?;
    allowed(&tries, "open-rw /dev/null").map(drop)
}

fn allowed_device(rig: &mut Rig<'_>) -> Result<()> {
    // A second /dev/zero under another number would need a driver; /dev/kmsg exists everywhere.
    let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"});
    rig.set(DENY_ALL, json!([{"allow": false, "access": "rwm"}, rule]))?.set(
        "/linux/devices",
        json!([{"path": "/dev/log", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}]),
    )?;
    let tries = rig.attempt(&["open-rw /dev/log"])?;
    let outcome = &tries["open-rw /dev/log"];
    // Past the cgroup, the driver itself wants CAP_SYSLOG where dmesg is restricted: EPERM would be either's.
    let restricted =
        std::fs::read_to_string("/proc/sys/kernel/dmesg_restrict").is_ok_and(|text| text.trim() == "1");
    ensure!(outcome["ok"] == true || restricted, "an allowed device cannot be opened: {outcome}");
    Ok(())
}

fn read_only_rule(rig: &mut Rig<'_>) -> Result<()> {
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"},
    ]);
    rig.set(DENY_ALL, rules)?.set(
        "/linux/devices",
        json!([{"path": "/dev/log", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}]),
    )?;
    refused(&rig.attempt(&["open-rw /dev/log"])?, "open-rw /dev/log", &["EPERM"])
}

fn mknod_denied(rig: &mut Rig<'_>) -> Result<()> {
    // Without CAP_MKNOD, which the bundle does not give.
    refused(&rig.attempt(&["mknod /tmp/disk b 8 0"])?, "mknod /tmp/disk b 8 0", &["EPERM"])
}
