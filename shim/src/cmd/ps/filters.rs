//! `shim ps --filter`.

use std::collections::BTreeMap;

use anyhow::Result;
use contracts::container::{Container, State};
use contracts::fault;
use regex_lite::Regex;

use super::Row;
use crate::container::Store;

const KEYS: &[&str] = &[
    "id",
    "name",
    "label",
    "status",
    "exited",
    "ancestor",
    "before",
    "since",
    "volume",
    "network",
    "publish",
    "expose",
    "health",
    "isolation",
    "is-task",
];
const STATES: &[&str] = &["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTH: &[&str] = &["none", "starting", "healthy", "unhealthy"];

/// One key of `--filter`; several of one key are alternatives, different keys must all hold.
pub struct Filter {
    key: String,
    values: Vec<Value>,
}

struct Value {
    text: String,
    /// For `id` and `name`; none where it is no expression, which then is only itself.
    expression: Option<Regex>,
    /// For `before` and `since`: the other container's time.
    time: String,
}

/// Reads them.
pub fn read(store: &Store, items: &[String]) -> Result<Vec<Filter>> {
    let mut filters: Vec<Filter> = Vec::new();
    for item in items {
        let Some((key, text)) = item.split_once('=') else {
            fault!(Usage, "invalid filter '{item}': use KEY=VALUE")
        };
        check(key, text)?;
        let time = match key {
            "before" | "since" => store.load(&store.resolve(text)?)?.created,
            _ => String::new(),
        };
        let expression = if matches!(key, "id" | "name") { Regex::new(text).ok() } else { None };
        let value = Value { text: text.to_owned(), expression, time };
        match filters.iter_mut().find(|filter| filter.key == key) {
            Some(filter) => filter.values.push(value),
            None => filters.push(Filter { key: key.into(), values: vec![value] }),
        }
    }
    Ok(filters)
}

fn check(key: &str, text: &str) -> Result<()> {
    let known = match key {
        // Podman's word.
        "status" if text == "initialized" => return Ok(()),
        "status" => STATES,
        "health" => HEALTH,
        // One of Windows' and one of swarm's: here there is one value only.
        "isolation" => &["default"],
        "is-task" => &["false", "true", "0", "1"],
        "exited" if text.parse::<i32>().is_err() => {
            fault!(Usage, "invalid filter 'exited={text}': \"{text}\" is no exit code")
        }
        "publish" | "expose" if ports(text).is_none() => {
            fault!(Usage, "invalid filter '{key}={text}': use PORT[-PORT][/PROTOCOL]")
        }
        _ if KEYS.contains(&key) => return Ok(()),
        _ => fault!(Usage, "invalid filter '{key}'"),
    };
    if !known.contains(&text) {
        fault!(
            Usage,
            "invalid filter '{key}={text}': invalid value for {} ({text}): must be one of {}",
            if key == "status" { "state" } else { key },
            known.join(", ")
        );
    }
    Ok(())
}

impl Filter {
    /// Whether a container is one of those asked for.
    pub fn matches(&self, row: &Row) -> bool {
        let one = |value: &Value| matches(&self.key, value, row);
        // Of labels all must hold, as in docker.
        if self.key == "label" { self.values.iter().all(one) } else { self.values.iter().any(one) }
    }
}

fn matches(key: &str, value: &Value, row: &Row) -> bool {
    let (Row { record, status }, text) = (row, value.text.as_str());
    let is_like = |known: &str| value.expression.as_ref().is_some_and(|like| like.is_match(known));
    match key {
        "id" => record.id.starts_with(text) || is_like(&record.id),
        // With the slash that docker's names have, and without.
        "name" => record.name == text || is_like(&record.name) || is_like(&format!("/{}", record.name)),
        "label" => has_label(&record.config.labels, text),
        "status" => status.state.word() == text,
        "exited" => status.state == State::Exited && text.parse() == Ok(status.exit_code),
        "ancestor" => is_image(record, text),
        "before" => record.created < value.time,
        "since" => record.created > value.time,
        "volume" => {
            let mut points = record.mounts.iter();
            points.any(|point| [&*point.name, &*point.source, &*point.destination].contains(&text))
        }
        "network" => record.network.networks.iter().any(|at| at.network == text),
        "publish" => {
            let live = status.network.as_ref().filter(|_| status.state.is_live());
            let published = live.map_or(&record.network.ports, |network| &network.ports);
            published.iter().any(|port| is_port(port.host_port, &port.protocol, text))
        }
        "expose" => record.config.exposed_ports.keys().any(|key| {
            let (number, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
            number.parse().is_ok_and(|number| is_port(number, protocol, text))
        }),
        "health" => status.health.as_ref().map_or("none", |health| health.status.as_str()) == text,
        "is-task" => matches!(text, "false" | "0"),
        _ => true,
    }
}

/// `PORT[-PORT][/PROTOCOL]`
fn ports(text: &str) -> Option<(u16, u16, &str)> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    Some((first.parse().ok()?, last.parse().ok()?, protocol))
}

fn is_port(port: u16, protocol: &str, wanted: &str) -> bool {
    ports(wanted).is_some_and(|(first, last, with)| (first..=last).contains(&port) && protocol == with)
}

fn is_image(record: &Container, value: &str) -> bool {
    let full = |name: &str| if name.contains(':') { name.to_owned() } else { format!("{name}:latest") };
    let id = record.image_id.trim_start_matches("sha256:");
    let digits = value.trim_start_matches("sha256:");
    full(&record.image) == full(value) || (digits.len() >= 4 && id.starts_with(digits))
}

/// Whether a `key` or `key=value` filter matches.
pub fn has_label(labels: &BTreeMap<String, String>, filter: &str) -> bool {
    match filter.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|known| known == value),
        None => labels.contains_key(filter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_their_ranges() {
        assert!(is_port(80, "tcp", "80") && is_port(53, "udp", "50-60/udp"));
        assert!(!is_port(80, "tcp", "80/udp") && !is_port(61, "tcp", "50-60"));
        assert!(ports("x").is_none() && ports("1-").is_none());
    }
}
