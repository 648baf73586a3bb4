//! `shim ps`

pub mod filters;

use anyhow::Result;
use contracts::container::{Container, State, Status};
use contracts::exit::Exit;
use contracts::network::Port;
use contracts::output::human;
use contracts::output::template::Format;
use serde_json::{Value, json};

use super::port::host;
use crate::cli::PsFlags;
use crate::container::{Store, remove, short, status};
use crate::{inspect, show};

/// A container with its state.
pub struct Row {
    pub record: Container,
    pub status: Status,
}

const COLUMNS: &str =
    "{{.ID}}\\t{{.Image}}\\t{{.Command}}\\t{{.RunningFor}}\\t{{.Status}}\\t{{.Ports}}\\t{{.Names}}";

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("RunningFor", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("LocalVolumes", "LOCAL VOLUMES"),
];

pub fn run(store: &Store, flags: &PsFlags) -> Result<Exit> {
    let filters = filters::read(store, &flags.filter)?;
    let columns = if flags.size { format!("{COLUMNS}\\t{{{{.Size}}}}") } else { COLUMNS.to_owned() };
    let format = Format::parse(flags.format.as_deref(), &columns)?;
    let mut rows = rows(store)?;
    let limit = if flags.latest { 1 } else { flags.last };
    let states =
        flags.filter.iter().any(|filter| filter.starts_with("status=") || filter.starts_with("exited="));
    let all = flags.all || limit > 0 || states;
    rows.retain(|row| {
        row.status.state != State::Removing
            && (all || row.status.state.is_live())
            && filters.iter().all(|filter| filter.matches(row))
    });
    if let Ok(limit) = usize::try_from(limit)
        && limit > 0
    {
        rows.truncate(limit);
    }
    let sizes = flags.size
        || flags.sort.as_deref() == Some("size")
        || flags.format.as_deref().is_some_and(|format| format.contains(".Size"));
    if let Some(key) = &flags.sort {
        sort(store, &mut rows, key);
    }
    if flags.quiet && flags.format.is_none() {
        let id =
            |row: &Row| format!("{}\n", if flags.no_trunc { &row.record.id } else { short(&row.record.id) });
        show::text(&rows.iter().map(id).collect::<String>())?;
        return Ok(Exit::Ok);
    }
    let values: Vec<Value> = rows.iter().map(|row| value(store, row, flags.no_trunc, sizes)).collect();
    let text = format.render(HEADINGS, &values)?;
    let is_table = matches!(format, Format::Table(_));
    show::text(match text.split_once('\n') {
        Some((_, rows)) if flags.noheading && is_table => rows,
        _ => &text,
    })?;
    Ok(Exit::Ok)
}

/// Podman's `--sort`: the smallest, or oldest, first.
fn sort(store: &Store, rows: &mut [Row], key: &str) {
    match key {
        "id" => rows.sort_by(|a, b| a.record.id.cmp(&b.record.id)),
        "names" => rows.sort_by(|a, b| a.record.name.cmp(&b.record.name)),
        "image" => rows.sort_by(|a, b| a.record.image.cmp(&b.record.image)),
        "command" => {
            rows.sort_by(|a, b| (&a.record.path, &a.record.args).cmp(&(&b.record.path, &b.record.args)))
        }
        "status" => rows.sort_by(|a, b| a.status.state.word().cmp(b.status.state.word())),
        "size" => rows.sort_by_cached_key(|row| inspect::sizes(store, &row.record.id, &row.status).0),
        "runningfor" => rows.sort_by(|a, b| a.status.started_at.cmp(&b.status.started_at)),
        _ => rows.sort_by(|a, b| a.record.created.cmp(&b.record.created)),
    }
}

/// All containers, newest first.
pub fn rows(store: &Store) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for id in store.ids()? {
        let Ok(record) = store.load(&id) else {
            // Half made or half removed by a process that was killed.
            let _ = remove::debris(store, &id);
            continue;
        };
        // One that is being removed at this moment is not there any more.
        if let Ok(status) = status::read(store, &id) {
            rows.push(Row { record, status });
        }
    }
    rows.sort_by(|a, b| b.record.created.cmp(&a.record.created));
    Ok(rows)
}

fn value(store: &Store, row: &Row, no_trunc: bool, sizes: bool) -> Value {
    let Row { record, status } = row;
    let words: Vec<&str> = std::iter::once(&record.path).chain(&record.args).map(String::as_str).collect();
    let mut command = words.join(" ");
    if words.iter().any(|word| word.contains(' ')) {
        let quoted = |word: &&str| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() };
        command = words.iter().map(quoted).collect::<Vec<_>>().join(" ");
    }
    if !no_trunc && command.chars().count() > 20 {
        command = command.chars().take(19).chain(['…']).collect();
    }
    let labels: Vec<String> =
        record.config.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mounts: Vec<&str> = record
        .mounts
        .iter()
        .map(|point| if point.name.is_empty() { &*point.source } else { &*point.name })
        .collect();
    let networks: Vec<&str> = record.network.networks.iter().map(|at| at.network.as_str()).collect();
    let size = if sizes {
        let (own, all) = inspect::sizes(store, &record.id, status);
        format!("{} (virtual {})", human::size(own), human::size(all))
    } else {
        "0B".into()
    };
    let created: Option<jiff::Timestamp> = record.created.parse().ok();
    json!({
        "ID": if no_trunc { &record.id } else { short(&record.id) },
        "Image": record.image,
        "Command": format!("\"{command}\""),
        "CreatedAt": created.map(|at| at.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()).unwrap_or_default(),
        "RunningFor": format!("{} ago", since(&record.created)),
        "Status": status_words(status),
        "State": status.state.word(),
        "Ports": ports(record, status),
        "Names": record.name,
        "Labels": labels.join(","),
        "Mounts": mounts.join(","),
        "LocalVolumes": record.mounts.iter().filter(|point| point.kind == "volume").count().to_string(),
        "Networks": networks.join(","),
        "Size": size,
        "Platform": record.platform,
    })
}

/// How long ago, in docker's words.
pub fn since(time: &str) -> String {
    let then = time.parse::<jiff::Timestamp>().unwrap_or_default();
    let seconds = jiff::Timestamp::now().as_second() - then.as_second();
    human::duration(u64::try_from(seconds).unwrap_or(0))
}

/// `Up 3 minutes (healthy)`, `Exited (0) 2 hours ago`.
pub fn status_words(status: &Status) -> String {
    let health = match &status.health {
        Some(health) if health.status == "starting" => " (health: starting)".to_owned(),
        Some(health) if !health.status.is_empty() => format!(" ({})", health.status),
        _ => String::new(),
    };
    match status.state {
        State::Running => format!("Up {}{health}", since(&status.started_at)),
        State::Paused => format!("Up {} (Paused)", since(&status.started_at)),
        State::Restarting => format!("Restarting ({}) {} ago", status.exit_code, since(&status.finished_at)),
        State::Exited => format!("Exited ({}) {} ago", status.exit_code, since(&status.finished_at)),
        State::Created => "Created".into(),
        State::Initialized => "Initialized".into(),
        State::Removing => "Removal In Progress".into(),
        State::Dead => "Dead".into(),
    }
}

fn ports(record: &Container, status: &Status) -> String {
    if !status.state.is_live() {
        return String::new();
    }
    let published = status.network.as_ref().map(|network| network.ports.as_slice()).unwrap_or_default();
    let public = published.iter().map(|port| (port.container_port, Some(port), port.protocol.as_str()));
    let exposed = record.config.exposed_ports.keys().filter_map(|key| {
        let (number, protocol) = key.split_once('/')?;
        let number = number.parse::<u16>().ok()?;
        let is_public = |port: &Port| port.container_port == number && port.protocol == protocol;
        (!published.iter().any(is_public)).then_some((number, None, protocol))
    });
    let mut all: Vec<(u16, Option<&Port>, &str)> = public.chain(exposed).collect();
    all.sort_by_key(|&(number, port, protocol)| {
        (number, port.map(|port| (host(port), port.host_port)), protocol)
    });
    let mut ranges: Vec<(u16, u16, String, &str)> = Vec::new();
    let mut others = Vec::new();
    for (number, port, protocol) in all {
        // Only what has the same number outside can be said as a range.
        if let Some(port) = port.filter(|port| port.host_port != number) {
            others.push(format!("{}:{}->{number}/{protocol}", host(port), port.host_port));
            continue;
        }
        let at = port.map(host).unwrap_or_default();
        let same = |range: &&mut (u16, u16, String, &str)| range.2 == at && range.3 == protocol;
        match ranges.iter_mut().rev().find(same) {
            Some(range) if range.1.checked_add(1) == Some(number) => range.1 = number,
            _ => ranges.push((number, number, at, protocol)),
        }
    }
    let shown = |(first, last, at, protocol): &(u16, u16, String, &str)| {
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        if at.is_empty() {
            format!("{range}/{protocol}")
        } else {
            format!("{at}:{range}->{range}/{protocol}")
        }
    };
    ranges.iter().map(shown).chain(others).collect::<Vec<_>>().join(", ")
}
