//! netavark's flags.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// The version of netavark whose contract this is, as podman shows and compares it.
pub const CONTRACT: &str = "2.1.0";

/// Networks for podman, by netavark's contract. Where no aardvark-dns is given, our own name server answers names.
#[derive(Debug, Parser)]
#[command(name = "netavark", version = CONTRACT, max_term_width = 100)]
pub struct Cli {
    /// Directory for what is remembered between calls
    #[arg(short, long, global = true)]
    pub config: Option<PathBuf>,
    /// Whether podman is rootless; it makes no difference here
    #[arg(short, long, global = true)]
    pub rootless: Option<bool>,
    /// The program that answers names; without it, netctl itself does
    #[arg(short, long, global = true)]
    pub aardvark_binary: Option<PathBuf>,
    /// Directory with driver plugins
    #[arg(long, global = true)]
    pub plugin_directory: Vec<PathBuf>,
    /// nftables, iptables or none; else what NETAVARK_FW says
    #[arg(long, global = true)]
    pub firewall_driver: Option<String>,
    /// Read the input from this file instead of stdin
    #[arg(short, long, global = true)]
    pub file: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Join a container to its networks; print its status as JSON
    Setup {
        /// The container's network namespace
        netns: PathBuf,
    },
    /// Undo setup
    Teardown {
        /// The container's network namespace
        netns: PathBuf,
    },
    /// Change a network that containers are on
    Update {
        /// The network
        network: String,
        /// Whom its containers ask for other names; an empty one clears them
        #[arg(long)]
        network_dns_servers: Vec<String>,
    },
    /// Complete the definition of a new network; print it as JSON
    Create,
    /// Not needed here: setup asks for addresses itself
    #[command(hide = true)]
    DhcpProxy {
        /// Whatever it was called with
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Write the firewall rules anew, as after `nft flush ruleset`
    FirewallReload,
    /// Print the version as JSON
    Version,
}

/// Name servers as `update` gets them.
///
/// # Errors
/// One that is no address.
pub fn servers(texts: &[String]) -> anyhow::Result<Vec<IpAddr>> {
    let given = texts.iter().flat_map(|text| text.split(',')).filter(|text| !text.is_empty());
    given.map(|text| text.parse().map_err(|_| anyhow::anyhow!("unable to parse ip {text:?}"))).collect()
}
