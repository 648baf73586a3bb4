//! `netctl inspect`.

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::output::template::Template;
use serde_json::{Map, Value, json};

use super::print;
use crate::attach::record::Record;
use crate::cli::Inspect;
use crate::network::{self, Network};
use crate::state::State;

/// Shows networks.
///
/// # Errors
/// `NotFound`; a wrong template.
pub fn run(args: &Inspect) -> Result<Exit> {
    let template = args.format.as_deref().map(Template::parse).transpose()?;
    let state = State::open()?;
    let mut shown = Vec::new();
    let mut missing = None;
    for name in &args.networks {
        match network::find(&state, name) {
            Ok(network) => shown.push(network.inspect(containers(&state, &network)?)),
            Err(err) => missing = missing.or(Some(err)),
        }
    }
    drop(state);
    match template {
        Some(template) => {
            for network in &shown {
                print(&format!("{}\n", template.render(network)?))?;
            }
        }
        None => {
            let text = serde_json::to_string_pretty(&shown).context("encode networks")?;
            print(&format!("{text}\n"))?;
        }
    }
    // As docker: the ones that exist are shown, the missing one is the error.
    missing.map_or(Ok(Exit::Ok), Err)
}

fn containers(state: &State, network: &Network) -> Result<Value> {
    let mut found = Map::new();
    for id in state.members(&network.name)? {
        let Some(record) = Record::read(state, &id)? else { continue };
        let Some(endpoint) = record.status.networks.get(&network.name) else { continue };
        let shown = json!({
            "Name": record.request.name, "MacAddress": endpoint.mac, "IPv4Address": endpoint.address,
            "IPv6Address": endpoint.address6.clone().unwrap_or_default(), "Interface": endpoint.interface,
        });
        found.insert(id, shown);
    }
    Ok(found.into())
}
