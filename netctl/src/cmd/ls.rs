//! `netctl ls`.

use anyhow::{Error, Result};
use contracts::exit::Exit;
use contracts::fault;
use contracts::output::template::Format;
use serde_json::{Value, json};

use super::print;
use crate::cli::Ls;
use crate::network::{self, DEFAULT, Network};
use crate::state::State;

/// Lists networks.
///
/// # Errors
/// A wrong filter or template.
pub fn run(args: &Ls) -> Result<Exit> {
    let state = State::open()?;
    // It is there for everybody, whether it was used before or not.
    network::find(&state, DEFAULT)?;
    let mut rows = Vec::new();
    for network in network::all(&state)? {
        if matches(&state, &network, &args.filter)? {
            rows.push(row(&network, args.no_trunc));
        }
    }
    drop(state);
    if args.quiet {
        for row in &rows {
            print(&format!("{}\n", row["ID"].as_str().unwrap_or_default()))?;
        }
        return Ok(Exit::Ok);
    }
    let format = Format::parse(args.format.as_deref(), "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}")?;
    print(&format.render(&[("ID", "NETWORK ID")], &rows)?)?;
    Ok(Exit::Ok)
}

fn row(network: &Network, whole: bool) -> Value {
    let id = if whole { &network.id[..] } else { network.id.get(..12).unwrap_or(&network.id) };
    let v6 = network.subnets.iter().any(|subnet| !subnet.subnet.address.is_ipv4());
    let labels: Vec<String> = network.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "ID": id, "Name": network.name, "Driver": network.driver, "Scope": "local", "IPv4": "true",
        "IPv6": v6.to_string(), "Internal": network.internal.to_string(), "Labels": labels.join(","),
        "CreatedAt": network.created,
    })
}

fn matches(state: &State, network: &Network, filters: &[String]) -> Result<bool> {
    let is_dangling =
        || Ok::<_, Error>(state.members(&network.name)?.is_empty() && !network::is_predefined(&network.name));
    for filter in filters {
        let Some((key, value)) = filter.split_once('=') else {
            fault!(Usage, "filter {filter:?}: not KEY=VALUE");
        };
        let kept = match key {
            "name" => network.name.contains(value),
            "id" => network.id.starts_with(value),
            "driver" => network.driver == value,
            "label" => match value.split_once('=') {
                Some((label, value)) => network.labels.get(label).is_some_and(|have| have == value),
                None => network.labels.contains_key(value),
            },
            "dangling" => match value {
                "true" | "1" => is_dangling()?,
                "false" | "0" => !is_dangling()?,
                _ => fault!(Usage, "filter dangling={value}: not true or false"),
            },
            _ => fault!(Usage, "unknown filter {key:?}: name, id, driver, label, dangling"),
        };
        if !kept {
            return Ok(false);
        }
    }
    Ok(true)
}
