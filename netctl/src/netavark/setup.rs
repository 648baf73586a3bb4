//! `netavark setup` and `teardown`.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

use super::aardvark::Server;
use super::input::{self, Info, Input};
use super::log::{self, Level};
use super::task::Task;
use super::{bridge, inside, plugin, slice};
use crate::attach::namespace::{self, Namespace};
use crate::firewall::Publish;
use crate::netlink::link;
use crate::netlink::message::Batch;
use crate::netlink::socket::Socket;
use crate::state::State;

/// Where and how to work, from the command line.
#[derive(Debug)]
pub struct Place {
    /// The state, locked.
    pub state: State,
    /// Where drivers that are not ours are.
    pub plugins: Vec<PathBuf>,
    /// `--firewall-driver none`.
    pub without_rules: bool,
    /// Who answers names.
    pub names: Server,
}

/// Refuses what cannot be made, before anything is.
fn check(task: &Task<'_>, plugins: &[PathBuf]) -> Result<()> {
    let interface = &task.wanted.interface_name;
    if interface.is_empty() || interface.len() > 15 || interface.contains(['/', ':', ' ']) {
        bail!("invalid interface name {interface:?}");
    }
    match task.info.driver.as_str() {
        "bridge" => bridge::check(task),
        "macvlan" | "ipvlan" => slice::check(task),
        other => plugin::find(plugins, other).map(|_| ()),
    }
}

/// Joins a container to all its networks; on failure to none.
///
/// # Errors
/// What is wrong.
pub fn setup(place: &Place, input: &Input, netns: &Path) -> Result<Value> {
    let namespace = open(netns)?;
    let tasks = tasks(place, input, netns, Some(&namespace))?;
    for task in &tasks {
        check(task, &place.plugins)?;
        if link::find(&namespace.inside, &task.wanted.interface_name)?.is_some() {
            // The peer's own words: podman's users search for them.
            let name = &task.wanted.interface_name;
            bail!(
                "create veth pair: interface {name} already exists on container namespace: Netlink error: File \
                 exists (os error 17)"
            );
        }
    }
    let host = Socket::route()?;
    let mut batch = Batch::new();
    link::set_up(&mut batch, 1, "lo");
    namespace.inside.run(&batch)?;
    let (mut statuses, mut ports_left) = (Map::new(), input.port_mappings.is_some());
    for (done, task) in tasks.iter().enumerate() {
        let ports = if ports_left { ports(task)? } else { Vec::new() };
        ports_left &= ports.is_empty();
        match one(place, &host, task, ports) {
            Ok(status) => statuses.insert(task.info.name.clone(), status),
            Err(err) => {
                for task in &tasks[..=done] {
                    // The first error is the one to tell.
                    let _ = undo(place, &host, task);
                }
                return Err(err);
            }
        };
    }
    Ok(statuses.into())
}

/// The published ports go to the first bridge that has a way out.
fn ports(task: &Task<'_>) -> Result<Vec<Publish>> {
    if task.info.driver != "bridge" || task.info.internal || task.without_rules {
        return Ok(Vec::new());
    }
    let to: Vec<_> = task.info.addresses(&task.wanted)?.iter().map(|(address, _)| address.address).collect();
    input::publish(task.input.port_mappings.as_deref().unwrap_or_default(), &to)
}

fn one(place: &Place, host: &Socket, task: &Task<'_>, ports: Vec<Publish>) -> Result<Value> {
    match task.info.driver.as_str() {
        "bridge" => bridge::add(&place.state, host, task, ports),
        "macvlan" | "ipvlan" => slice::add(&place.state, host, task),
        driver => plugin::setup(&plugin::find(&place.plugins, driver)?, task),
    }
}

fn undo(place: &Place, host: &Socket, task: &Task<'_>) -> Result<()> {
    inside::give_back(&place.state, task)?;
    match task.info.driver.as_str() {
        "bridge" => bridge::remove(&place.state, host, task),
        "macvlan" | "ipvlan" => inside::unplug(task),
        driver => plugin::teardown(&plugin::find(&place.plugins, driver)?, task),
    }
}

/// Takes a container off all its networks, also where some of it is gone. All that fails is told at the end.
///
/// # Errors
/// The first failure, after all networks were tried.
pub fn teardown(place: &Place, input: &Input, netns: &Path) -> Result<()> {
    let namespace = if netns.exists() { Some(open(netns)?) } else { None };
    if namespace.is_none() {
        let text =
            format!("container netns not found, only the host's side is cleaned up: {}", netns.display());
        log::say(Level::Warn, "commands::teardown", &text);
    }
    let host = Socket::route()?;
    let mut failed = Vec::new();
    for task in tasks(place, input, netns, namespace.as_ref())? {
        if let Err(err) = undo(place, &host, &task) {
            failed.push(contracts::report::one_line(&err));
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
}

/// In the input's order.
fn tasks<'a>(
    place: &'a Place,
    input: &'a Input,
    netns: &'a Path,
    namespace: Option<&'a Namespace>,
) -> Result<Vec<Task<'a>>> {
    contracts::name::check("container id", &input.container_id)?;
    let mut tasks = Vec::new();
    for (name, wanted) in &input.networks {
        let Some(info) = input.network_info.get(name) else { bail!("network {name} has no network_info") };
        let info: Info = serde_json::from_value(info.clone()).with_context(|| format!("network {name}"))?;
        contracts::name::check("network", &info.name)?;
        let wanted = serde_json::from_value(wanted.clone()).with_context(|| format!("network {name}"))?;
        tasks.push(Task {
            input,
            info,
            wanted,
            namespace,
            netns,
            without_rules: place.without_rules,
            names: &place.names,
        });
    }
    Ok(tasks)
}

fn open(path: &Path) -> Result<Namespace> {
    // The peer's own words: podman's users search for them.
    if let Err(err) = std::fs::metadata(path) {
        bail!("invalid namespace path: IO error: {err}");
    }
    let namespace = namespace::open_path(path)?;
    let own = std::fs::metadata("/proc/self/ns/net").context("look at the own network namespace")?;
    let theirs = namespace.file.metadata().context("look at the network namespace")?;
    if (own.dev(), own.ino()) == (theirs.dev(), theirs.ino()) {
        bail!("invalid namespace path: {} is the host's network namespace", path.display());
    }
    Ok(namespace)
}
