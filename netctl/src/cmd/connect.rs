//! `netctl connect`, `netctl disconnect`.

use anyhow::Result;
use contracts::exit::Exit;
use contracts::network::Attachment;

use crate::attach;
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
    };
    print_status(&attach::up::connect(&State::open()?, &args.id, &wanted)?)
}

/// Leaves a network.
///
/// # Errors
/// As [`attach::down::disconnect`].
pub fn disconnect(args: &Disconnect) -> Result<Exit> {
    attach::down::disconnect(&State::open()?, &args.id, &args.network)?;
    Ok(Exit::Ok)
}
