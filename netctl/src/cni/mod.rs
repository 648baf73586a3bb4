//! netctl as a CNI plugin (specification 1.1): whenever `CNI_COMMAND` is set.
//!
//! Under the names `host-local`, `portmap` and `loopback` it is that plugin; under any other name it is `bridge`, with
//! host-local and portmap built in. Keeps host-local's files, and `STATE/net/guests`. Exit code 0, or 1 with an error
//! document on stdout.

mod answer;
mod bridge;
mod config;
mod delegate;
pub mod failure;
mod host_local;
mod owners;
mod portmap;
mod vlan;

use std::env;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::attach::namespace;
use crate::guest;
use crate::netlink::link;
use crate::netlink::message::Batch;
use crate::state::State;
use answer::{Answer, Interface};
use config::{Config, Environment, VERSIONS};
use delegate::Input;
use failure::{INCOMPATIBLE_VERSION, INVALID_CONFIG, INVALID_ENVIRONMENT, IO, fail};
use host_local::Leases;

/// Which plugin we are asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plugin {
    Bridge,
    HostLocal,
    Portmap,
    Loopback,
}

/// Whether a CNI runtime executes us.
pub fn is_asked() -> bool {
    env::var_os("CNI_COMMAND").is_some()
}

/// Does what the environment says.
pub fn run() -> ExitCode {
    let mut version = VERSIONS[VERSIONS.len() - 1].to_owned();
    let (said, code) = match command(&mut version) {
        Ok(said) => (said, ExitCode::SUCCESS),
        Err(err) => (Some(failure::document(&version, &err)), ExitCode::FAILURE),
    };
    let Some(said) = said else { return code };
    match writeln!(std::io::stdout(), "{said}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn plugin() -> Plugin {
    let name = env::args_os().next().unwrap_or_default();
    match Path::new(&name).file_name().and_then(std::ffi::OsStr::to_str) {
        Some("host-local") => Plugin::HostLocal,
        Some("portmap") => Plugin::Portmap,
        Some("loopback") => Plugin::Loopback,
        _ => Plugin::Bridge,
    }
}

fn command(version: &mut String) -> Result<Option<Value>> {
    let command = env::var("CNI_COMMAND").unwrap_or_default();
    let mut text = String::new();
    if let Err(err) = std::io::stdin().take(16 << 20).read_to_string(&mut text) {
        fail!(IO, "read the network configuration from stdin: {err}");
    }
    if command == "VERSION" {
        return Ok(Some(versions(&text)));
    }
    let since = match command.as_str() {
        "ADD" | "DEL" => VERSIONS[0],
        "CHECK" => "0.4.0",
        "GC" | "STATUS" => "1.1.0",
        "" => fail!(INVALID_ENVIRONMENT, "CNI_COMMAND: missing"),
        other => fail!(INVALID_ENVIRONMENT, "CNI_COMMAND: unknown command {other:?}"),
    };
    let needs_container = ["ADD", "DEL", "CHECK"].contains(&command.as_str());
    let environment = match needs_container {
        true => Environment::read(command != "DEL")?,
        false => Environment::default(),
    };
    let (config, raw) = Config::parse(&text)?;
    version.clone_from(&config.cni_version);
    if !config.is_at_least(since) {
        fail!(INCOMPATIBLE_VERSION, "config version {version} does not allow {command}");
    }
    let input = Input { config, raw };
    let answer = match plugin() {
        Plugin::Bridge => bridge_plugin(&command, &input, &environment)?,
        Plugin::HostLocal => host_local_plugin(&command, &input.config, &environment)?,
        Plugin::Portmap => portmap_plugin(&command, &input.config, &environment)?,
        Plugin::Loopback => loopback_plugin(&command, &environment)?,
    };
    Ok(answer.map(|answer| answer.document(version)))
}

fn versions(text: &str) -> Value {
    let asked: Value = serde_json::from_str(text).unwrap_or_default();
    let version = asked["cniVersion"].as_str().unwrap_or(VERSIONS[VERSIONS.len() - 1]);
    json!({"cniVersion": version, "supportedVersions": VERSIONS})
}

fn bridge_plugin(command: &str, input: &Input, environment: &Environment) -> Result<Option<Answer>> {
    match command {
        "ADD" => return bridge::add(&State::open()?, input, environment).map(Some),
        "DEL" => bridge::del(&State::open()?, input, environment)?,
        "CHECK" => bridge::check(&State::open()?, input, environment)?,
        "GC" => {
            collect(&input.config)?;
            input.ipam_gc()?;
        }
        _ => {
            bridge::check_config(&input.config)?;
            State::open()?;
            input.ipam_status()?;
        }
    }
    Ok(None)
}

/// Forgets the guests of this network that are not valid any more. Their links went with their namespaces.
fn collect(config: &Config) -> Result<()> {
    let Some(valid) = &config.valid_attachments else {
        fail!(INVALID_CONFIG, "GC needs cni.dev/valid-attachments");
    };
    let state = State::open()?;
    for guest in guest::all(&state)?.into_iter().filter(|guest| guest.key.network == config.name) {
        let interface = guest.key.interface.split(':').next().unwrap_or_default();
        let is_valid = |valid: &config::ValidAttachment| {
            valid.container_id == guest.key.container && valid.ifname == interface
        };
        if !valid.iter().any(is_valid) {
            guest::leave(&state, &guest.key)?;
        }
    }
    Ok(())
}

fn host_local_plugin(command: &str, config: &Config, environment: &Environment) -> Result<Option<Answer>> {
    let leases = Leases::open(config)?;
    match command {
        "ADD" => return leases.add(config, environment).map(Some),
        "DEL" => leases.remove(environment)?,
        "CHECK" => leases.check(environment)?,
        "GC" => leases.collect(config.valid_attachments.as_deref().unwrap_or_default())?,
        _ => {}
    }
    Ok(None)
}

fn portmap_plugin(command: &str, config: &Config, environment: &Environment) -> Result<Option<Answer>> {
    match command {
        "ADD" => return portmap::add(&State::open()?, config, environment).map(Some),
        "DEL" => portmap::del(&State::open()?, config, environment)?,
        "CHECK" => portmap::check(&State::open()?, config, environment)?,
        "GC" => collect(config)?,
        _ => portmap::check_config(config)?,
    }
    Ok(None)
}

fn loopback_plugin(command: &str, environment: &Environment) -> Result<Option<Answer>> {
    if command != "ADD" && command != "CHECK" {
        return Ok(None);
    }
    let namespace = namespace::open_path(Path::new(&environment.netns))?;
    let lo = link::find(&namespace.inside, "lo")?.context("no loopback interface")?;
    if command == "CHECK" {
        return Ok(None);
    }
    let mut batch = Batch::new();
    link::set_up(&mut batch, lo.index, "lo");
    namespace.inside.run(&batch)?;
    let interface = Interface {
        name: "lo".into(),
        mac: "00:00:00:00:00:00".into(),
        mtu: Some(lo.mtu),
        sandbox: environment.netns.clone(),
    };
    let ip = |address: &str| {
        address.parse().ok().map(|address| answer::Ip { address, gateway: None, interface: Some(0) })
    };
    let ips = ["127.0.0.1/8", "::1/128"].into_iter().filter_map(ip).collect();
    Ok(Some(Answer { interfaces: vec![interface], ips, ..Answer::default() }))
}
