//! Everything a process can see of itself, as one JSON object.

use std::fs;
use std::io::IsTerminal as _;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::fstat;
use nix::unistd::{getpgrp, getpid, getppid, getsid};
use serde_json::{Map, Value, json};

use crate::kernel;

/// All facts; what cannot be found out is null.
pub fn collect() -> Value {
    json!({
        "pid": getpid().as_raw(),
        "ppid": getppid().as_raw(),
        "pgrp": getpgrp().as_raw(),
        "session": getsid(None).map(nix::unistd::Pid::as_raw).ok(),
        "args": std::env::args().collect::<Vec<_>>(),
        "env": environment(),
        "cwd": std::env::current_dir().ok(),
        "status": status(),
        "rlimits": rlimits(),
        "namespaces": namespaces(),
        "mounts": mounts(),
        "cgroup": text("/proc/self/cgroup"),
        "uid_map": text("/proc/self/uid_map"),
        "gid_map": text("/proc/self/gid_map"),
        "setgroups": text("/proc/self/setgroups"),
        "oom_score_adj": text("/proc/self/oom_score_adj").and_then(|text| text.trim().parse::<i64>().ok()),
        "hostname": text("/proc/sys/kernel/hostname").map(|text| text.trim_end().to_owned()),
        "domainname": text("/proc/sys/kernel/domainname").map(|text| text.trim_end().to_owned()),
        "timens_offsets": text("/proc/self/timens_offsets"),
        "descriptors": descriptors(),
        "stdio": stdio(),
        "terminal": terminal(),
        "io_priority": kernel::io_priority(),
        "scheduler": kernel::scheduler(),
        "nice": kernel::nice(),
        "personality": kernel::personality(),
        "session_keyring": kernel::session_keyring(),
        "interfaces": names("/sys/class/net"),
        "processes": names("/proc").map(|names| names.iter().filter_map(|name| name.parse().ok()).collect::<Vec<i32>>()),
    })
}

/// What the process has for a terminal.
pub fn terminal() -> Value {
    json!({
        "stdin": std::io::stdin().is_terminal(), "stdout": std::io::stdout().is_terminal(),
        "name": fs::read_link("/proc/self/fd/0").ok(),
        "size": kernel::terminal_size().map(|(rows, columns)| [rows, columns]),
        "pid": getpid().as_raw(),
        "session": getsid(None).map(nix::unistd::Pid::as_raw).ok(),
        "controlling": fs::File::open("/dev/tty").is_ok(),
    })
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn names(path: &str) -> Option<Vec<String>> {
    let entries = fs::read_dir(path).ok()?;
    Some(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

fn environment() -> Vec<String> {
    std::env::vars_os().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect()
}

/// The lines of /proc/self/status by name.
fn status() -> Value {
    let Some(text) = text("/proc/self/status") else { return Value::Null };
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), Value::from(value.trim()))).collect::<Map<_, _>>().into()
}

fn rlimits() -> Value {
    let all = [
        ("RLIMIT_AS", Resource::RLIMIT_AS),
        ("RLIMIT_CORE", Resource::RLIMIT_CORE),
        ("RLIMIT_CPU", Resource::RLIMIT_CPU),
        ("RLIMIT_DATA", Resource::RLIMIT_DATA),
        ("RLIMIT_FSIZE", Resource::RLIMIT_FSIZE),
        ("RLIMIT_LOCKS", Resource::RLIMIT_LOCKS),
        ("RLIMIT_MEMLOCK", Resource::RLIMIT_MEMLOCK),
        ("RLIMIT_MSGQUEUE", Resource::RLIMIT_MSGQUEUE),
        ("RLIMIT_NICE", Resource::RLIMIT_NICE),
        ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE),
        ("RLIMIT_NPROC", Resource::RLIMIT_NPROC),
        ("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO),
        ("RLIMIT_RTTIME", Resource::RLIMIT_RTTIME),
        ("RLIMIT_SIGPENDING", Resource::RLIMIT_SIGPENDING),
        ("RLIMIT_STACK", Resource::RLIMIT_STACK),
    ];
    let limit = |(name, resource): (&str, Resource)| {
        let (soft, hard) = getrlimit(resource).ok()?;
        Some((name.to_owned(), json!({"soft": soft, "hard": hard})))
    };
    all.into_iter().filter_map(limit).collect::<Map<_, _>>().into()
}

fn namespaces() -> Value {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let link = |kind: &str| Some((kind.to_owned(), fs::read_link(format!("/proc/self/ns/{kind}")).ok()?));
    let links = kinds.into_iter().filter_map(link);
    links.map(|(kind, link)| (kind, Value::from(link.to_string_lossy()))).collect::<Map<_, _>>().into()
}

/// /proc/self/mountinfo, one object per mount, in order.
fn mounts() -> Option<Vec<Value>> {
    Some(text("/proc/self/mountinfo")?.lines().filter_map(mount).collect())
}

fn mount(line: &str) -> Option<Value> {
    let (front, back) = line.split_once(" - ")?;
    let front: Vec<&str> = front.split(' ').collect();
    let mut back = back.split(' ');
    Some(json!({
        "root": front.get(3)?, "target": front.get(4)?,
        "options": front.get(5)?.split(',').collect::<Vec<_>>(),
        "propagation": front.get(6..)?,
        "type": back.next()?, "source": back.next()?,
        "super": back.next()?.split(',').collect::<Vec<_>>(),
    }))
}

/// Open descriptors and what they are, without the one that lists them.
fn descriptors() -> Value {
    let Some(names) = names("/proc/self/fd") else { return Value::Null };
    let link = |name: &String| Some((name.clone(), fs::read_link(format!("/proc/self/fd/{name}")).ok()?));
    // The listing's own descriptor is closed by now: its link is gone.
    let links = names.iter().filter_map(link);
    links.map(|(name, link)| (name, Value::from(link.to_string_lossy()))).collect::<Map<_, _>>().into()
}

/// Owners and types of descriptors 0, 1, 2.
fn stdio() -> Value {
    let all = [fstat(std::io::stdin()), fstat(std::io::stdout()), fstat(std::io::stderr())];
    let fact = |stat: nix::Result<libc::stat>| {
        stat.ok().map(|stat| json!({"uid": stat.st_uid, "gid": stat.st_gid, "mode": stat.st_mode, "rdev": stat.st_rdev}))
    };
    all.into_iter().map(fact).collect::<Vec<_>>().into()
}
