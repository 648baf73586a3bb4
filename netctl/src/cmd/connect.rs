//! `netctl connect`, `netctl disconnect`.

use anyhow::Result;
use contracts::exit::Exit;
use contracts::network::Attachment;

use crate::attach::{self, record::Record};
use crate::cli::{Connect, Disconnect};
use crate::cmd::up::print_status;
use crate::state::State;

/// Joins one more network; prints the container's status.
///
/// # Errors
/// As [`attach::up::connect`].
pub fn run(args: Connect) -> Result<Exit> {
    let wanted = Attachment {
        network: args.network,
        aliases: args.alias,
        ip: args.ip,
        ip6: args.ip6,
        mac: args.mac_address,
        interface: args.interface,
        gw_priority: args.gw_priority,
    };
    let state = State::open()?;
    let id = Record::resolve(&state, &args.id)?;
    print_status(&attach::up::connect(&state, &id, &wanted)?)
}

/// Leaves a network.
///
/// # Errors
/// As [`attach::down::disconnect`].
pub fn disconnect(args: &Disconnect) -> Result<Exit> {
    let state = State::open()?;
    let id = Record::resolve(&state, &args.id)?;
    attach::down::disconnect(&state, &id, &args.network)?;
    Ok(Exit::Ok)
}
