//! The bundle a case starts from: what `runtime spec` would give, with the probe as its program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Map, Value, json};

/// Capabilities of a container with docker's defaults, less those a plain test does not need.
pub const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A config.json: the usual mounts, namespaces and masks, root with few capabilities, `args` to run.
#[must_use]
pub fn config(args: &[&str]) -> Value {
    let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "conformance",
        "mounts": mounts(),
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    })
}

/// The default file systems of config-linux.md.
#[must_use]
pub fn mounts() -> Value {
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ])
}

/// Makes `rootfs` with the probe (a hard link to `probe`, or a copy across file systems) and a few users.
///
/// # Errors
/// The file system refuses.
pub fn root_file_system(rootfs: &Path, probe: &Path) -> Result<()> {
    for dir in ["proc", "dev", "sys", "tmp", "etc", "bin", "home"] {
        fs::create_dir_all(rootfs.join(dir))
            .with_context(|| format!("make {}", rootfs.join(dir).display()))?;
    }
    fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1234:5678::/home:/bin/sh\n")?;
    fs::write(rootfs.join("etc/group"), "root:x:0:\napp:x:5678:\nextra:x:77:app\n")?;
    let target = rootfs.join("probe");
    fs::hard_link(probe, &target).or_else(|_| fs::copy(probe, &target).map(drop)).context("copy the probe")
}

/// Puts `value` at a JSON pointer, making the objects on the way; a list index must exist, `-` appends.
///
/// # Errors
/// The pointer leads through something that is neither object nor list.
pub fn set(document: &mut Value, pointer: &str, value: Value) -> Result<()> {
    let wrong = || anyhow!("cannot set {pointer}");
    let mut place = document;
    for key in pointer.split('/').skip(1) {
        if place.is_null() {
            *place = if key == "-" { Value::Array(Vec::new()) } else { Value::Object(Map::new()) };
        }
        place = match place {
            Value::Object(map) => map.entry(key).or_insert(Value::Null),
            Value::Array(list) => {
                let index = if key == "-" { list.len() } else { key.parse().map_err(|_| wrong())? };
                if key == "-" {
                    list.push(Value::Null);
                }
                list.get_mut(index).ok_or_else(wrong)?
            }
            _ => return Err(wrong()),
        };
    }
    *place = value;
    Ok(())
}

/// Takes a key away from the object at a JSON pointer.
pub fn remove(document: &mut Value, pointer: &str, key: &str) {
    if let Some(Value::Object(map)) = document.pointer_mut(pointer) {
        map.remove(key);
    }
}
