//! Capabilities, seccomp, AppArmor, no_new_privs, masked paths.

use std::fs;

use anyhow::{Context as _, Result};
use contracts::container::Container;
use contracts::fault;
use serde_json::{Value, json};
use sys::capability::NAMES;

use super::{list, object, set, strings};

/// System calls that docker's profile allows only with a capability: giving the capability gives the calls.
const CALLS: &[(&str, &[&str])] = &[
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "init_module", "finit_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    (
        "CAP_SYS_PTRACE",
        &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"],
    ),
    ("CAP_SYS_RAWIO", &["iopl", "ioperm"]),
    ("CAP_SYS_TIME", &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
];

pub fn apply(record: &Container, spec: &mut Value) -> Result<()> {
    let host = &record.host_config;
    let before = strings(spec, "/process/capabilities/bounding");
    let caps = capabilities(record, &before)?;
    for set_name in ["bounding", "effective", "permitted"] {
        set(spec, &format!("/process/capabilities/{set_name}"), json!(caps));
    }
    // As docker since CVE-2022-24769: nothing inheritable, nothing ambient.
    for set_name in ["inheritable", "ambient"] {
        object(spec, "/process/capabilities").remove(set_name);
    }
    if host.privileged {
        for key in ["seccomp", "maskedPaths", "readonlyPaths"] {
            object(spec, "/linux").remove(key);
        }
        object(spec, "/process").remove("apparmorProfile");
    } else {
        allow_calls(spec, &before, &caps);
    }
    for option in host.security_opt.iter().flatten() {
        security_option(spec, option)?;
    }
    Ok(())
}

fn capabilities(record: &Container, default: &[String]) -> Result<Vec<String>> {
    let host = &record.host_config;
    if host.privileged {
        return Ok(NAMES.iter().map(|cap| format!("CAP_{cap}")).collect());
    }
    let add = read("CapAdd", host.cap_add.as_deref().unwrap_or_default())?;
    let drop = read("CapDrop", host.cap_drop.as_deref().unwrap_or_default())?;
    let all = |list: &[String]| list.iter().any(|cap| cap == "ALL");
    let base: Vec<String> = match () {
        () if all(&add) => NAMES.iter().map(|cap| format!("CAP_{cap}")).collect(),
        () if all(&drop) => Vec::new(),
        () => default.to_vec(),
    };
    let mut caps: Vec<String> = base.into_iter().filter(|cap| !drop.contains(cap)).collect();
    for cap in add {
        if cap != "ALL" && !caps.contains(&cap) {
            caps.push(cap);
        }
    }
    Ok(caps)
}

fn read(field: &str, caps: &[String]) -> Result<Vec<String>> {
    let mut read = Vec::new();
    for cap in caps {
        let upper = cap.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match name {
            "ALL" => read.push(name.into()),
            _ if NAMES.contains(&name) => read.push(format!("CAP_{name}")),
            _ => fault!(Usage, "invalid {field}: unknown capability: \"CAP_{name}\""),
        }
    }
    Ok(read)
}

fn allow_calls(spec: &mut Value, before: &[String], caps: &[String]) {
    if spec.pointer("/linux/seccomp").is_none() {
        return;
    }
    for (cap, calls) in CALLS {
        let given = caps.iter().any(|known| known == cap) && !before.iter().any(|known| known == cap);
        if given {
            let calls = json!({ "names": calls, "action": "SCMP_ACT_ALLOW" });
            // Before the rules that would refuse them: the first match wins in some compilers.
            list(spec, "/linux/seccomp/syscalls").insert(0, calls);
        }
    }
}

fn security_option(spec: &mut Value, option: &str) -> Result<()> {
    let split = option.split_once('=').or_else(|| option.split_once(':'));
    let (key, value) = split.unwrap_or((option, ""));
    match (key, value) {
        ("no-new-privileges", "" | "true") => set(spec, "/process/noNewPrivileges", json!(true)),
        ("no-new-privileges", "false") => set(spec, "/process/noNewPrivileges", json!(false)),
        ("seccomp", "unconfined") => drop(object(spec, "/linux").remove("seccomp")),
        ("seccomp", "builtin") => {}
        ("seccomp", file) => {
            let text = fs::read(file).with_context(|| format!("opening seccomp profile ({file}) failed"))?;
            let profile: Value = serde_json::from_slice(&text)
                .with_context(|| format!("decoding seccomp profile ({file}) failed"))?;
            set(
                spec,
                "/linux/seccomp",
                resolve_profile(profile, &strings(spec, "/process/capabilities/bounding")),
            );
        }
        ("apparmor", "unconfined") => drop(object(spec, "/process").remove("apparmorProfile")),
        ("apparmor", profile) => set(spec, "/process/apparmorProfile", json!(profile)),
        ("label", _) if !fs::exists("/sys/fs/selinux/enforce").unwrap_or(false) => {}
        ("label", "disable") => drop(object(spec, "/process").remove("selinuxLabel")),
        ("label", _) => fault!(
            Unsupported,
            "--security-opt {option}: SELinux labels are not made here; use label=disable"
        ),
        ("systempaths", "unconfined") => {
            for key in ["maskedPaths", "readonlyPaths"] {
                object(spec, "/linux").remove(key);
            }
        }
        ("writable-cgroups", _) => {
            for mount in list(spec, "/mounts").iter_mut().filter(|mount| mount["type"] == "cgroup") {
                if let Some(options) = mount["options"].as_array_mut() {
                    options.retain(|option| option != "ro");
                }
            }
        }
        _ => fault!(Usage, "invalid --security-opt: \"{option}\""),
    }
    Ok(())
}

/// Docker's profile files have rules that hold only with some capability or architecture; the runtime's have not.
fn resolve_profile(mut profile: Value, caps: &[String]) -> Value {
    let arch = std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64");
    let mentions = |rule: &Value, which: &str, key: &str, has: &dyn Fn(&str) -> bool| {
        let list = rule[which][key].as_array();
        list.map(|items| items.iter().filter_map(Value::as_str).map(has).collect::<Vec<bool>>())
    };
    if let Some(rules) = profile["syscalls"].as_array_mut() {
        rules.retain(|rule| {
            let cap = |name: &str| caps.iter().any(|known| known == name);
            let this = |name: &str| name == arch;
            let holds = |found: Option<Vec<bool>>| found.is_none_or(|hits| hits.iter().all(|&hit| hit));
            let any = |found: Option<Vec<bool>>| found.is_some_and(|hits| hits.contains(&true));
            holds(mentions(rule, "includes", "caps", &cap))
                && mentions(rule, "includes", "arches", &this).is_none_or(|hits| hits.contains(&true))
                && !any(mentions(rule, "excludes", "caps", &cap))
                && !any(mentions(rule, "excludes", "arches", &this))
        });
        for rule in rules.iter_mut().filter_map(Value::as_object_mut) {
            for key in ["includes", "excludes", "comment"] {
                rule.remove(key);
            }
            if let Some(name) = rule.remove("name") {
                rule.insert("names".into(), json!([name]));
            }
        }
    }
    if let Some(map) = profile.as_object_mut()
        && let Some(Value::Array(pairs)) = map.remove("archMap")
    {
        let native = if arch == "amd64" { "SCMP_ARCH_X86_64" } else { "SCMP_ARCH_AARCH64" };
        let mut arches = vec![json!(native)];
        for pair in pairs.iter().filter(|pair| pair["architecture"] == native) {
            arches.extend(pair["subArchitectures"].as_array().into_iter().flatten().cloned());
        }
        map.insert("architectures".into(), json!(arches));
    }
    profile
}

/// Every capability.
pub fn all() -> Vec<String> {
    NAMES.iter().map(|cap| format!("CAP_{cap}")).collect()
}
