//! `shim info` and `shim version`

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{env, fs};

use anyhow::Result;
use contracts::container::State;
use contracts::daemon::Daemon;
use contracts::exit::Exit;
use contracts::{atomic, tool};
use serde_json::{Map, Value, json};

use super::ps;
use crate::cli::FormatOnly;
use crate::container::Store;
use crate::{log, show};

pub fn info(store: &Store, flags: &FormatOnly) -> Result<Exit> {
    let rows = ps::rows(store)?;
    let count = |state: State| rows.iter().filter(|row| row.status.state == state).count();
    let uname = nix::sys::utsname::uname()?;
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    let daemon = Daemon::load(&store.paths)?.unwrap_or_default();
    let mut runtimes = Map::new();
    for name in ["runtime", "crun", "runc"] {
        if let Some(path) = program(name) {
            runtimes.insert(name.into(), json!({ "path": path }));
        }
    }
    for (name, runtime) in &daemon.runtimes {
        runtimes.insert(name.clone(), json!({ "path": runtime.path, "runtimeArgs": runtime.runtime_args }));
    }
    let cgroup_v2 = crate::spec::is_cgroup_v2();
    let info = json!({
        "Containers": rows.len(),
        "ContainersRunning": count(State::Running),
        "ContainersPaused": count(State::Paused),
        "ContainersStopped": count(State::Exited) + count(State::Created),
        "Images": images(store),
        "Driver": "overlay",
        "LoggingDriver": daemon.log_driver.as_deref().unwrap_or("json-file"),
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": if cgroup_v2 { "2" } else { "1" },
        "Plugins": {
            "Log": log::DRIVERS, "Volume": ["local"],
            "Network": ["bridge", "host", "ipvlan", "macvlan", "null", "overlay"],
        },
        "Runtimes": runtimes,
        "DefaultRuntime": daemon.default_runtime.as_deref().unwrap_or("runtime"),
        "SecurityOptions": security_options(cgroup_v2),
        "RegistryConfig": {
            "InsecureRegistries": daemon.insecure_registries, "Mirrors": daemon.registry_mirrors,
        },
        "Swarm": { "LocalNodeState": "inactive" },
        "LiveRestoreEnabled": true,
        "KernelVersion": uname.release().to_string_lossy(),
        "OperatingSystem": operating_system(),
        "Architecture": uname.machine().to_string_lossy(),
        "OSType": "linux",
        "Name": uname.nodename().to_string_lossy(),
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": total.unwrap_or_default() * 1024,
        "DockerRootDir": store.paths.store,
        "StateDir": store.paths.state,
        "ServerVersion": env!("CARGO_PKG_VERSION"),
    });
    print(flags, info)
}

/// How many images the store has, under however many names.
fn images(store: &Store) -> usize {
    let index = atomic::read_json::<Value>(&store.paths.images().join("index.json")).ok().flatten();
    let manifests = index.as_ref().and_then(|index| index["manifests"].as_array());
    let digests = manifests.into_iter().flatten().filter_map(|manifest| manifest["digest"].as_str());
    digests.collect::<BTreeSet<_>>().len()
}

fn program(name: &str) -> Option<PathBuf> {
    if name == "runtime" {
        return Some(tool::find(name));
    }
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn security_options(cgroup_v2: bool) -> Vec<&'static str> {
    let mut options = vec!["name=seccomp,profile=builtin"];
    if fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|word| word.starts_with('Y')) {
        options.insert(0, "name=apparmor");
    }
    if contracts::paths::is_ordinary_user() {
        options.push("name=rootless");
    }
    if cgroup_v2 {
        options.push("name=cgroupns");
    }
    options
}

fn operating_system() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').into()
}

/// Both ends, as docker has them: here they are one program.
pub fn version(flags: &FormatOnly) -> Result<Exit> {
    let uname = nix::sys::utsname::uname()?;
    let end = json!({
        "Version": env!("CARGO_PKG_VERSION"), "Os": "linux", "Arch": std::env::consts::ARCH,
        "KernelVersion": uname.release().to_string_lossy(),
    });
    print(flags, json!({ "Client": end, "Server": end }))
}

fn print(flags: &FormatOnly, value: Value) -> Result<Exit> {
    match flags.format.as_deref() {
        Some("json") => show::line(&value.to_string())?,
        Some(_) => show::objects(flags.format.as_deref(), &[value])?,
        None => show::text(&lines(&value, 0))?,
    }
    Ok(Exit::Ok)
}

/// A line per key; what has keys of its own follows indented.
fn lines(value: &Value, depth: usize) -> String {
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    let mut out = String::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        out.push_str(&" ".repeat(depth));
        match value {
            Value::Object(_) => out.push_str(&format!("{key}:\n{}", lines(value, depth + 1))),
            _ => out.push_str(&format!("{key}: {}\n", plain(value))),
        }
    }
    out
}
