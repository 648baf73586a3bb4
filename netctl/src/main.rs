//! `netctl`: networks for containers: bridges, addresses, published ports, names.
//!
//! Owns `STORE/networks` and `STATE/net` (see [`state`]), the nftables tables `ip bulkhead` and `ip6 bulkhead`, the
//! bridges of its networks. Executes nothing but itself, for the DNS server, and
//! the programs of iptables and of rootless networks where those are used. "The host" is whatever network namespace
//! the caller is in. Exit codes: `docs/exit-codes.md`.

mod attach;
mod behind;
mod cidr;
mod cli;
mod cmd;
mod cni;
mod dhcp;
mod dns;
mod firewall;
mod guest;
mod netavark;
mod netlink;
mod network;
mod rootless;
mod rules;
mod state;

use std::process::ExitCode;

use clap::Parser as _;

// Most commands live for a few milliseconds: `sys::heap` says what musl's heap costs them.
#[global_allocator]
static HEAP: sys::heap::Heap<{ 4 << 10 }> = sys::heap::Heap::new();

fn main() -> ExitCode {
    #[cfg(feature = "self-doc")]
    if let Some(result) = contracts::self_doc::asked::<cli::Cli>("netctl") {
        return contracts::report::finish("netctl", result);
    }
    if cni::is_asked() {
        return cni::run();
    }
    if dns::aardvark::is_asked() {
        return dns::aardvark::run();
    }
    if netavark::is_asked() {
        return netavark::run();
    }
    let cli = cli::Cli::parse();
    let asked = cli.firewall.as_deref().map_or(Ok(()), firewall::choice::ask);
    contracts::report::finish("netctl", asked.and_then(|()| cmd::run(cli.command)))
}
