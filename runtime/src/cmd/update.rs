//! `runtime update`.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::fault;
use contracts::flag::size;
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value};

use super::Context;
use crate::container::directory::Directory;
use crate::container::state::State;
use crate::container::status::Status;
use crate::spec::linux::IntelRdt;
use crate::{cli, intel_rdt, log};

/// Changes the limits of a container.
///
/// # Errors
/// The container does not run, a value makes no sense, or the kernel refuses it.
pub fn run(context: &Context, flags: &cli::Update) -> Result<Exit> {
    let directory = Directory::open(&context.root, &flags.id)?;
    directory.lock()?;
    let mut state = directory.state()?;
    if !Status::of(&directory, &state)?.is_alive() {
        fault!(WrongState, "container not running");
    }
    if flags.kernel_memory.is_some() || flags.kernel_memory_tcp.is_some() {
        log::warn(
            "--kernel-memory and --kernel-memory-tcp are ignored: kernels have no such limits any more",
        );
    }
    let resources = match &flags.resources {
        Some(path) => read_file(path)?,
        None => from_flags(flags)?,
    };
    state.cgroup.clone().unwrap_or_default().update(&resources)?;
    update_intel_rdt(&directory, &mut state, flags)?;
    Ok(Exit::Ok)
}

fn read_file(path: &Path) -> Result<LinuxResources> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    let what = || format!("read resources from {}", path.display());
    let value: Value = serde_json::from_str(&text.with_context(what)?).with_context(what)?;
    serde_json::from_value(value).with_context(what)
}

/// The flags as the document that `--resources` takes, so that both mean the same.
fn from_flags(flags: &cli::Update) -> Result<LinuxResources> {
    let (mut cpu, mut memory, mut document) = (Map::new(), Map::new(), Map::new());
    let numbers = [
        ("period", flags.cpu_period.map(Value::from)),
        ("quota", flags.cpu_quota.map(Value::from)),
        ("burst", flags.cpu_burst.map(Value::from)),
        ("shares", flags.cpu_share.map(Value::from)),
        ("realtimePeriod", flags.cpu_rt_period.map(Value::from)),
        ("realtimeRuntime", flags.cpu_rt_runtime.map(Value::from)),
        ("idle", flags.cpu_idle.map(Value::from)),
        ("cpus", flags.cpuset_cpus.clone().map(Value::from)),
        ("mems", flags.cpuset_mems.clone().map(Value::from)),
    ];
    cpu.extend(numbers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let sizes = [
        ("limit", "memory", &flags.memory),
        ("reservation", "memory-reservation", &flags.memory_reservation),
        ("swap", "memory-swap", &flags.memory_swap),
    ];
    for (name, flag, text) in sizes {
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            let Some(size) = size::memory(text).or((text == "-1").then_some(-1)) else {
                fault!(Usage, "invalid value for {flag}: \"{text}\"");
            };
            memory.insert(name.to_owned(), size.into());
        }
    }
    document.insert("cpu".to_owned(), cpu.into());
    document.insert("memory".to_owned(), memory.into());
    if let Some(weight) = flags.blkio_weight.filter(|weight| *weight != 0) {
        document.insert("blockIO".to_owned(), serde_json::json!({ "weight": weight }));
    }
    if let Some(limit) = flags.pids_limit {
        document.insert("pids".to_owned(), serde_json::json!({ "limit": limit }));
    }
    serde_json::from_value(document.into()).context("read the flags")
}

/// Cache and memory bandwidth: in the container's own group, made where it had none.
fn update_intel_rdt(directory: &Directory, state: &mut State, flags: &cli::Update) -> Result<()> {
    let schema = |flag: &Option<String>| flag.clone().unwrap_or_default();
    let wanted = IntelRdt {
        l3_cache_schema: schema(&flags.l3_cache_schema),
        mem_bw_schema: schema(&flags.mem_bw_schema),
        ..IntelRdt::default()
    };
    let schemata = intel_rdt::schemata(&wanted);
    if schemata.is_empty() {
        return Ok(());
    }
    let root = intel_rdt::mount()?;
    intel_rdt::check(&root, &wanted)?;
    if let Some(group) = &state.intel_rdt {
        return group.set(&root, &schemata);
    }
    let group = intel_rdt::plan(&root, &wanted, &state.id);
    state.intel_rdt = Some(group.clone());
    directory.save(state)?;
    group.make(&root, &wanted)?;
    state.cgroup.clone().unwrap_or_default().pids()?.into_iter().try_for_each(|pid| group.join(pid))
}
