//! `--link CONTAINER[:ALIAS]`: names in the hosts file for an address the other container has now, and (on the default
//! network, as docker has it) what it offers as variables.

use anyhow::Result;
use contracts::container::Container;
use contracts::fault;
use contracts::network::Request;

use crate::container::{Store, short, status};

/// Adds the names to `request`.
pub fn hosts(store: &Store, links: &[String], request: &mut Request) -> Result<()> {
    for text in links {
        let (other, alias) = split(text);
        let (record, address) = running(store, other, alias)?;
        let mut names = vec![alias];
        names.extend([short(&record.id), record.name.as_str()].into_iter().filter(|name| *name != alias));
        request.extra_hosts.extend(names.into_iter().map(|name| (name.to_owned(), address.clone())));
    }
    Ok(())
}

/// The variables that `record`'s program sees of the containers it is linked to.
pub fn environment(store: &Store, record: &Container) -> Result<Vec<String>> {
    let mut env = Vec::new();
    let default = record.network.networks.first().is_none_or(|first| first.network == "bridge");
    for text in record.host_config.links.iter().flatten().filter(|_| default) {
        let (other, alias) = split(text);
        let (other, address) = running(store, other, alias)?;
        let prefix = alias.to_ascii_uppercase().replace('-', "_");
        env.push(format!("{prefix}_NAME=/{}/{alias}", record.name));
        let ports: Vec<_> =
            other.config.exposed_ports.keys().filter_map(|port| port.split_once('/')).collect();
        for (place, (port, protocol)) in ports.iter().enumerate() {
            let url = format!("{protocol}://{address}:{port}");
            let one = format!("{prefix}_PORT_{port}_{}", protocol.to_ascii_uppercase());
            if place == 0 {
                env.push(format!("{prefix}_PORT={url}"));
            }
            env.push(format!("{one}={url}"));
            env.push(format!("{one}_ADDR={address}"));
            env.push(format!("{one}_PORT={port}"));
            env.push(format!("{one}_PROTO={protocol}"));
        }
        // What the user gave it, not what every container has.
        let own =
            |entry: &&String| !["PATH=", "HOME=", "HOSTNAME="].iter().any(|name| entry.starts_with(name));
        env.extend(other.config.env.iter().filter(own).map(|entry| format!("{prefix}_ENV_{entry}")));
    }
    Ok(env)
}

fn split(text: &str) -> (&str, &str) {
    text.split_once(':').unwrap_or((text, text))
}

fn running(store: &Store, other: &str, alias: &str) -> Result<(Container, String)> {
    let Ok(id) = store.resolve(other) else {
        fault!(NotFound, "could not get container for {other}: No such container: {other}")
    };
    let status = status::read(store, &id)?;
    let endpoint = status.network.as_ref().and_then(|network| network.networks.values().next());
    let Some(endpoint) = endpoint.filter(|_| status.state.is_live()) else {
        fault!(WrongState, "Cannot link to a non running container: {other} AS {alias}")
    };
    let address = endpoint.address.split('/').next().unwrap_or_default();
    Ok((store.load(&id)?, address.to_owned()))
}
