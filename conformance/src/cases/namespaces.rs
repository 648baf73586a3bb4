//! `linux.namespaces`, id maps, host names, sysctl, time offsets, personality.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::expect::{allowed, same};
use crate::case::Case;
use crate::machine::Need;
use crate::rig::Rig;

const SECTION: &str = "config-linux.md#namespaces";
const MAPS: &str = "config-linux.md#user-namespace-mappings";

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("namespaces/new", SECTION, fresh),
    Case::new("namespaces/inherited", SECTION, inherited),
    Case::new("namespaces/joined", SECTION, joined),
    Case::new("namespaces/path-missing", SECTION, path_missing),
    Case::new("namespaces/path-of-wrong-kind", SECTION, wrong_kind),
    Case::new("namespaces/duplicate", SECTION, duplicate),
    Case::new("namespaces/unknown", SECTION, unknown),
    Case::new("namespaces/cgroup", "config-linux.md#cgroup-namespace", cgroup),
    Case::new("namespaces/network-is-empty", "config-linux.md#network", network),
    Case::new("namespaces/user", MAPS, user),
    Case::new("namespaces/user-file-owners", MAPS, user_owners),
    Case::new("namespaces/time-offsets", "config-linux.md#offset-for-time-namespace", time_offsets)
        .needs(&[Need::Namespace("time")]),
    Case::new("hostname/set", "config.md#hostname", hostname),
    Case::new("hostname/domain", "config.md#domainname", domainname),
    Case::new("hostname/without-uts", "config.md#hostname", hostname_without_uts),
    Case::new("sysctl/set", "config-linux.md#sysctl", sysctl),
    Case::new("sysctl/network", "config-linux.md#sysctl", sysctl_network),
    Case::new("sysctl/of-the-host", "config-linux.md#sysctl", sysctl_of_host),
    Case::new("sysctl/outside-of-proc-sys", "config-linux.md#sysctl", sysctl_escape),
    Case::new("personality/linux32", "config-linux.md#personality", personality),
];

fn host(kind: &str) -> Result<String> {
    let link = fs::read_link(format!("/proc/self/ns/{kind}"))
        .with_context(|| format!("read the {kind} namespace"))?;
    Ok(link.to_string_lossy().into_owned())
}

fn fresh(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.facts()?;
    for kind in ["pid", "net", "ipc", "uts", "mnt"] {
        let found = &facts["namespaces"][kind];
        ensure!(found.is_string() && *found != host(kind)?, "the {kind} namespace is the caller's: {found}");
    }
    Ok(())
}

fn inherited(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.without_namespace("ipc").without_namespace("network").facts()?;
    for kind in ["ipc", "net", "user"] {
        same(&format!("the {kind} namespace"), &facts["namespaces"][kind], host(kind)?)?;
    }
    Ok(())
}

fn joined(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let pid = rig.pid()?;
    let first = rig.id.clone();
    let id = format!("{first}-second");
    rig.others.push(id.clone());
    rig.remove("", "hostname");
    let kinds = [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")];
    let mut wanted = Vec::new();
    for (kind, file) in kinds {
        rig.without_namespace(kind);
        let path = format!("/proc/{pid}/ns/{file}");
        wanted.push((file, fs::read_link(&path)?.to_string_lossy().into_owned()));
        rig.set("/linux/namespaces/-", json!({"type": kind, "path": path}))?;
    }
    let cgroup = rig.cgroups_path(&id);
    rig.set("/linux/cgroupsPath", cgroup)?.program(&["facts"])?.write_config()?;
    let facts = rig.call(&["run", "--bundle", &rig.bundle().to_string_lossy(), &id])?.ok()?.json()?;
    for (kind, link) in wanted {
        same(&format!("the {kind} namespace"), &facts["namespaces"][kind], link)?;
    }
    Ok(())
}

fn path_missing(rig: &mut Rig<'_>) -> Result<()> {
    rig.without_namespace("network")
        .set("/linux/namespaces/-", json!({"type": "network", "path": "/no/such/ns"}))?;
    let run = rig.run()?.fails()?;
    ensure!(run.stderr.contains("/no/such/ns"), "the error does not name the path: {}", run.stderr);
    Ok(())
}

fn wrong_kind(rig: &mut Rig<'_>) -> Result<()> {
    let path = json!({"type": "network", "path": "/proc/self/ns/ipc"});
    rig.without_namespace("network").set("/linux/namespaces/-", path)?.run()?.fails()?;
    Ok(())
}

fn duplicate(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/namespaces/-", json!({"type": "ipc"}))?.run()?.fails()?;
    Ok(())
}

fn unknown(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/namespaces/-", json!({"type": "galaxy"}))?.run()?.fails()?;
    Ok(())
}

fn cgroup(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.set("/linux/namespaces/-", json!({"type": "cgroup"}))?.facts()?;
    ensure!(facts["namespaces"]["cgroup"] != host("cgroup")?, "the cgroup namespace is the caller's");
    let lines = facts["cgroup"].as_str().unwrap_or_default();
    // A hierarchy the runtime does not manage (name=…, unified in a hybrid) may show something else.
    let own = lines.lines().filter(|line| line.ends_with(":/")).count();
    ensure!(own > 0, "no cgroup looks like a root from inside: {lines}");
    Ok(())
}

fn network(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.facts()?;
    let interfaces: Vec<&str> =
        facts["interfaces"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    ensure!(interfaces.contains(&"lo"), "there is no loopback interface");
    let foreign: Vec<&&str> =
        interfaces.iter().filter(|name| name.starts_with("eth") || name.starts_with("en")).collect();
    ensure!(foreign.is_empty(), "the host's interfaces are visible: {foreign:?}");
    Ok(())
}

fn map_users(rig: &mut Rig<'_>) -> Result<()> {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    rig.set("/linux/namespaces/-", json!({"type": "user"}))?
        .set("/linux/uidMappings", map.clone())?
        .set("/linux/gidMappings", map)?;
    // The container's root is nobody special on the host: it needs a way in, and a root file system of its own.
    let mut path = rig.bundle();
    loop {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(&path)?.permissions().mode();
        if !path.starts_with(&rig.dir) {
            break;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode | 0o055))?;
        path.pop();
    }
    give_away(&rig.inside(""))
}

fn give_away(path: &Path) -> Result<()> {
    std::os::unix::fs::lchown(path, Some(100_000), Some(100_000))?;
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            // The probe is shared between all root file systems.
            if entry.file_name() != "probe" {
                give_away(&entry.path())?;
            }
        }
    }
    Ok(())
}

fn user(rig: &mut Rig<'_>) -> Result<()> {
    map_users(rig)?;
    let facts = rig.facts()?;
    ensure!(facts["namespaces"]["user"] != host("user")?, "the user namespace is the caller's");
    for map in ["uid_map", "gid_map"] {
        let words: Vec<&str> = facts[map].as_str().unwrap_or_default().split_whitespace().collect();
        ensure!(words == ["0", "100000", "65536"], "{map} is {words:?}");
    }
    same("Uid", &facts["status"]["Uid"], "0\t0\t0\t0")
}

fn user_owners(rig: &mut Rig<'_>) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    map_users(rig)?;
    allowed(&rig.attempt(&["create /made"])?, "create /made")?;
    let owner = fs::metadata(rig.inside("/made"))?.uid();
    ensure!(owner == 100_000, "the container root's file belongs to {owner} on the host");
    Ok(())
}

fn time_offsets(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/namespaces/-", json!({"type": "time"}))?.set(
        "/linux/timeOffsets",
        json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}, "monotonic": {"secs": 5000, "nanosecs": 0}}),
    )?;
    let tries = rig.attempt(&["clock boottime", "clock monotonic"])?;
    let boot = allowed(&tries, "clock boottime")?.as_i64().unwrap_or(0);
    ensure!(boot >= 1_000_000, "the boot time clock shows {boot}");
    let monotonic = allowed(&tries, "clock monotonic")?.as_i64().unwrap_or(0);
    ensure!(monotonic >= 5000, "the monotonic clock shows {monotonic}");
    Ok(())
}

fn hostname(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.set("/hostname", "Web-1.example")?.facts()?;
    same("the host name", &facts["hostname"], "Web-1.example")
}

fn domainname(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.set("/domainname", "example.org")?.facts()?;
    same("the domain name", &facts["domainname"], "example.org")
}

fn hostname_without_uts(rig: &mut Rig<'_>) -> Result<()> {
    let before = fs::read_to_string("/proc/sys/kernel/hostname")?;
    let run = rig.without_namespace("uts").set("/hostname", "stolen")?.run()?;
    let after = fs::read_to_string("/proc/sys/kernel/hostname")?;
    if before != after {
        fs::write("/proc/sys/kernel/hostname", &before)?;
    }
    ensure!(before == after, "the host's own name was changed");
    run.fails().map(drop)
}

fn sysctl(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/sysctl", json!({"kernel.msgmax": "65536", "kernel.domainname": "by.sysctl"}))?;
    let tries = rig.attempt(&["read /proc/sys/kernel/msgmax", "read /proc/sys/kernel/domainname"])?;
    same("msgmax", allowed(&tries, "read /proc/sys/kernel/msgmax")?, "65536\n")?;
    same("domainname", allowed(&tries, "read /proc/sys/kernel/domainname")?, "by.sysctl\n")
}

fn sysctl_network(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))?;
    let tries = rig.attempt(&["read /proc/sys/net/ipv4/ip_forward"])?;
    same("ip_forward", allowed(&tries, "read /proc/sys/net/ipv4/ip_forward")?, "1\n")
}

fn sysctl_of_host(rig: &mut Rig<'_>) -> Result<()> {
    // Not namespaced: setting it would change the host. The value is the present one, so nothing can break.
    let value = fs::read_to_string("/proc/sys/vm/swappiness")?;
    rig.set("/linux/sysctl", json!({"vm.swappiness": value.trim()}))?.run()?.fails()?;
    Ok(())
}

fn sysctl_escape(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/sysctl", json!({"kernel/../../self/oom_score_adj": "1"}))?.run()?.fails()?;
    Ok(())
}

fn personality(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.set("/linux/personality", json!({"domain": "LINUX32"}))?.facts()?;
    same("the personality (PER_LINUX32)", &facts["personality"], 8)
}
