//! netctl as podman's netavark: under that name, or as `netctl netavark …`.
//!
//! Keeps `CONFIG/bulkhead/`, laid out as [`crate::state`] says, aardvark-dns' files in `CONFIG/aardvark-dns/`, and the
//! nftables tables `bulkhead_podman`. Exit code 0, or 1 with `{"error": …}` on stdout.

mod aardvark;
mod bridge;
mod cli;
mod create;
mod input;
mod inside;
mod log;
mod names;
mod plugin;
mod setup;
mod slice;
mod sysctl;
mod task;

use std::env;
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser as _;
use contracts::paths::Paths;
use serde_json::{Value, json};

use crate::firewall::{Filter, choice};
use crate::state::State;
use aardvark::Server;
use cli::{CONTRACT, Cli, Command};
use input::Input;
use log::Level;
use setup::Place;

/// Podman reads one document, and only this key of it, from a netavark that failed.
pub fn is_asked() -> bool {
    let mut args = env::args_os();
    let program = args.next().unwrap_or_default();
    let first = args.next().unwrap_or_default();
    // A copy of that name still has to be its own name server.
    let is_named = Path::new(&program).file_name().is_some_and(|name| name == "netavark")
        && first != "dns"
        && first != "dhcp";
    is_named || first == "netavark"
}

/// Does what the command line says.
pub fn run() -> ExitCode {
    let mut args: Vec<OsString> = env::args_os().collect();
    if args.get(1).is_some_and(|arg| arg == "netavark") {
        args.remove(0);
    }
    let (said, code) = match command(Cli::parse_from(args)) {
        Ok(said) => (said, ExitCode::SUCCESS),
        Err(err) => (Some(json!({"error": contracts::report::one_line(&err)})), ExitCode::FAILURE),
    };
    let Some(said) = said else { return code };
    match writeln!(std::io::stdout(), "{said}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn command(cli: Cli) -> Result<Option<Value>> {
    match &cli.command {
        Command::Version => Ok(Some(json!({
            "version": CONTRACT, "commit": concat!("bulkhead-", env!("CARGO_PKG_VERSION")),
            "build_time": "2026-01-01T00:00:00Z", "target": "x86_64-unknown-linux-musl",
            "default_fw_driver": "nftables",
        }))),
        Command::FirewallReload => {
            let state = place(&cli)?.state;
            crate::rules::move_rules(&state)?;
            crate::rules::reload(&state, &Filter::open(&state)?, None)?;
            log::say(Level::Info, "commands::firewall_reload", "Successfully reloaded firewall rules");
            Ok(None)
        }
        Command::Create => create::create(&text(&cli)?, &cli.plugin_directory).map(Some),
        Command::DhcpProxy { args } => bail!(
            "dhcp-proxy {}: not needed, setup asks the network for addresses itself and has them kept",
            args.join(" ")
        ),
        Command::Setup { netns } => {
            let input = read(&cli)?;
            let place = place(&cli)?;
            // Of containers that were there before somebody changed the driver.
            crate::rules::move_rules(&place.state)?;
            setup::setup(&place, &input, netns).map(Some)
        }
        Command::Teardown { netns } => {
            let input = read(&cli)?;
            setup::teardown(&place(&cli)?, &input, netns).map(|()| None)
        }
        Command::Update { network, network_dns_servers } => {
            contracts::name::check("network", network)?;
            let servers = cli::servers(network_dns_servers)?;
            names::update(&place(&cli)?.names, network, &servers).map(|()| None)
        }
    }
}

fn place(cli: &Cli) -> Result<Place> {
    let driver = cli.firewall_driver.clone().or_else(|| env::var("NETAVARK_FW").ok());
    let says = match driver.as_deref() {
        None | Some("") => "Using nftables firewall driver",
        Some("nftables") => {
            choice::ask("nftables")?;
            "Using nftables firewall driver"
        }
        Some("iptables") => {
            choice::ask("iptables")?;
            "Using iptables firewall driver"
        }
        Some("none") => "Not using firewall",
        Some(other) => bail!("firewall driver {other:?} is not supported: nftables, iptables or none"),
    };
    let without_rules = driver.as_deref() == Some("none");
    log::say(Level::Info, "firewall", says);
    let port = match env::var("NETAVARK_DNS_PORT") {
        Ok(text) => match text.parse() {
            Ok(port) if port > 0 => port,
            _ => bail!("Invalid NETAVARK_DNS_PORT {text:?}: not a port number"),
        },
        Err(_) => crate::dns::PORT,
    };
    let config = cli.config.clone().unwrap_or_else(|| Paths::from_env().state.join("netavark"));
    let dir = config.join("bulkhead");
    let names = Server { dir: config.join("aardvark-dns"), program: cli.aardvark_binary.clone(), port };
    let state = State::open_at(dir.clone(), dir.join("networks"), "bulkhead_podman")?;
    Ok(Place { state, plugins: cli.plugin_directory.clone(), without_rules, names })
}

fn text(cli: &Cli) -> Result<String> {
    let mut text = String::new();
    let done = match cli.file.as_deref().filter(|file| *file != Path::new("-")) {
        Some(file) => std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text)),
        None => std::io::stdin().read_to_string(&mut text),
    };
    if let Err(err) = done {
        bail!("failed to load network options: IO error: {err}");
    }
    Ok(text)
}

fn read(cli: &Cli) -> Result<Input> {
    match serde_json::from_str(&text(cli)?) {
        Ok(input) => Ok(input),
        Err(err) => bail!("failed to load network options: {err}"),
    }
}
