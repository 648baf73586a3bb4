//! `shim info` and `shim version`

use anyhow::Result;
use contracts::container::State;
use contracts::exit::Exit;
use contracts::tool;
use serde_json::{Value, json};

use super::ps;
use crate::cli::FormatOnly;
use crate::container::Store;
use crate::show;

pub fn info(store: &Store, flags: &FormatOnly) -> Result<Exit> {
    let rows = ps::rows(store)?;
    let count = |state: State| rows.iter().filter(|row| row.status.state == state).count();
    let uname = nix::sys::utsname::uname()?;
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    let info = json!({
        "Containers": rows.len(),
        "ContainersRunning": count(State::Running),
        "ContainersPaused": count(State::Paused),
        "ContainersStopped": count(State::Exited) + count(State::Created),
        "Driver": "overlay",
        "LoggingDriver": "json-file",
        "CgroupVersion": if crate::spec::is_cgroup_v2() { "2" } else { "1" },
        "KernelVersion": uname.release().to_string_lossy(),
        "Architecture": uname.machine().to_string_lossy(),
        "OSType": "linux",
        "Name": uname.nodename().to_string_lossy(),
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": total.unwrap_or_default() * 1024,
        "DockerRootDir": store.paths.store,
        "StateDir": store.paths.state,
        "DefaultRuntime": tool::find("runtime"),
        "ServerVersion": env!("CARGO_PKG_VERSION"),
    });
    print(flags, info)
}

pub fn version(flags: &FormatOnly) -> Result<Exit> {
    let uname = nix::sys::utsname::uname()?;
    print(
        flags,
        json!({
            "Version": env!("CARGO_PKG_VERSION"), "Os": "linux", "Arch": std::env::consts::ARCH,
            "KernelVersion": uname.release().to_string_lossy(),
        }),
    )
}

fn print(flags: &FormatOnly, value: Value) -> Result<Exit> {
    match flags.format.as_deref() {
        Some("json") => show::line(&value.to_string())?,
        Some(_) => show::objects(flags.format.as_deref(), &[value])?,
        None => {
            let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let lines = value.as_object().into_iter().flatten();
            show::text(&lines.map(|(key, value)| format!("{key}: {}\n", plain(value))).collect::<String>())?;
        }
    }
    Ok(Exit::Ok)
}
