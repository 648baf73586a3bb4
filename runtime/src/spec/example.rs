//! The config.json that `runtime spec` writes: a shell in a container, with what runc's has.

use serde_json::{Value, json};

const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// The document; for an unprivileged user with `rootless`, mapping the caller to root.
#[must_use]
pub fn document(rootless: bool) -> Value {
    json!({
        "ociVersion": super::VERSION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "bulkhead",
        "mounts": mounts(rootless),
        "linux": linux(rootless),
    })
}

fn mounts(rootless: bool) -> Value {
    let plain = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&'static str]| plain.iter().chain(more).copied().collect::<Vec<&str>>();
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    let sys = if rootless {
        // A fresh sysfs belongs to whoever owns the network namespace, and this one is the host's.
        json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] })
    } else {
        pts.push("gid=5");
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": with(&["ro"]) })
    };
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
          "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": pts },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": with(&["mode=1777", "size=65536k"]) },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": plain },
        sys,
        { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": with(&["relatime", "ro"]) },
    ])
}

fn linux(rootless: bool) -> Value {
    let kinds: &[&str] = if rootless {
        &["pid", "ipc", "uts", "mount", "cgroup", "user"]
    } else {
        &["pid", "network", "ipc", "uts", "mount", "cgroup"]
    };
    let namespaces: Vec<Value> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
    let mut linux = json!({ "namespaces": namespaces, "maskedPaths": MASKED, "readonlyPaths": READ_ONLY });
    if rootless {
        let map = |own: u32| json!([{ "containerID": 0, "hostID": own, "size": 1 }]);
        linux["uidMappings"] = map(nix::unistd::geteuid().as_raw());
        linux["gidMappings"] = map(nix::unistd::getegid().as_raw());
    } else {
        linux["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    }
    linux
}
