//! `shim events`

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::fault;
use contracts::output::template::Template;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::Value;

use crate::cli::EventsFlags;
use crate::container::{Store, make_dir};
use crate::log::read::time;
use crate::show;

pub fn run(store: &Store, flags: &EventsFlags) -> Result<Exit> {
    let nanos = |text: &Option<String>| -> Result<Option<i128>> {
        let Some(text) = text else { return Ok(None) };
        let at: jiff::Timestamp = time(text)?.parse()?;
        Ok(Some(at.as_nanosecond()))
    };
    let (since, until) = (nanos(&flags.since)?, nanos(&flags.until)?);
    let filters = filters(&flags.filter)?;
    let template = match flags.format.as_deref() {
        None | Some("json") => None,
        Some(text) => Some(Template::parse(text)?),
    };
    make_dir(&store.paths.store)?;
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context("inotify")?;
    watch.add_watch(
        &store.paths.store,
        AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVE,
    )?;
    let mut files = Files::open(store, since.is_some())?;
    loop {
        while let Some(event) = files.next()? {
            let at = i128::from(event["timeNano"].as_i64().unwrap_or_default());
            if since.is_some_and(|since| at < since)
                || until.is_some_and(|until| at > until)
                || !matches(&filters, &event)
            {
                continue;
            }
            show::line(&match (&template, flags.format.as_deref()) {
                (Some(template), _) => template.render(&flat(&event))?,
                (None, Some(_)) => event.to_string(),
                (None, None) => words(&event),
            })?;
        }
        let left = until.map(|until| until - jiff::Timestamp::now().as_nanosecond());
        if left.is_some_and(|left| left <= 0) {
            return Ok(Exit::Ok);
        }
        let timeout = match left {
            None => PollTimeout::NONE,
            Some(left) => PollTimeout::try_from(left / 1_000_000 + 1).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => drop(watch.read_events()),
            Err(err) => return Err(err).context("poll"),
        }
    }
}

/// The event file, and after its rotation the next.
struct Files {
    path: std::path::PathBuf,
    open: Vec<BufReader<File>>,
    rest: String,
}

impl Files {
    fn open(store: &Store, past: bool) -> Result<Self> {
        let path = store.paths.events();
        let mut old = path.clone().into_os_string();
        old.push(".1");
        let mut open = Vec::new();
        if past && let Ok(file) = File::open(old) {
            open.push(BufReader::new(file));
        }
        if let Ok(mut file) = File::open(&path) {
            if !past {
                file.seek(SeekFrom::End(0))?;
            }
            open.push(BufReader::new(file));
        }
        Ok(Self { path, open, rest: String::new() })
    }

    fn next(&mut self) -> Result<Option<Value>> {
        loop {
            let Some(file) = self.open.first_mut() else {
                let Ok(file) = File::open(&self.path) else { return Ok(None) };
                self.open.push(BufReader::new(file));
                continue;
            };
            let length = file.read_line(&mut self.rest).context("read the events")?;
            if self.rest.ends_with('\n') {
                let event = serde_json::from_str(&self.rest);
                self.rest.clear();
                if let Ok(event) = event {
                    return Ok(Some(event));
                }
            } else if length == 0 {
                let here = file.get_ref().metadata().map(|meta| meta.ino()).ok();
                let rotated = std::fs::metadata(&self.path).is_ok_and(|meta| Some(meta.ino()) != here);
                if self.open.len() == 1 && !rotated {
                    return Ok(None);
                }
                self.open.remove(0);
                self.rest.clear();
            }
        }
    }
}

fn filters(items: &[String]) -> Result<Vec<(String, String)>> {
    let mut filters = Vec::new();
    for item in items {
        match item.split_once('=') {
            Some((
                key @ ("container" | "event" | "image" | "label" | "type" | "volume" | "scope"),
                value,
            )) => {
                filters.push((key.to_owned(), value.to_owned()));
            }
            _ => fault!(Usage, "invalid filter '{item}'"),
        }
    }
    Ok(filters)
}

fn matches(filters: &[(String, String)], event: &Value) -> bool {
    let attribute = |key: &str| event["Actor"]["Attributes"][key].as_str().unwrap_or_default();
    let id = event["Actor"]["ID"].as_str().unwrap_or_default();
    let one = |key: &str, value: &str| match key {
        "container" => event["Type"] == "container" && (id.starts_with(value) || attribute("name") == value),
        "volume" => event["Type"] == "volume" && id == value,
        "event" => event["Action"]
            .as_str()
            .is_some_and(|action| action == value || action.starts_with(&format!("{value}:"))),
        "image" => attribute("image") == value || attribute("image").split(':').next() == Some(value),
        "label" => match value.split_once('=') {
            Some((key, value)) => attribute(key) == value,
            None => event["Actor"]["Attributes"].get(value).is_some(),
        },
        "type" => event["Type"] == value,
        _ => event["scope"] == value,
    };
    // Of one key any may match, of different keys all must.
    filters.iter().all(|(key, _)| filters.iter().any(|(other, value)| other == key && one(key, value)))
}

/// Docker's line: time, type, action, id, attributes.
fn words(event: &Value) -> String {
    let nanos = event["timeNano"].as_i64().unwrap_or_default();
    let at = jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attributes: Vec<String> = event["Actor"]["Attributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    let (kind, action, id) = (text(&event["Type"]), text(&event["Action"]), text(&event["Actor"]["ID"]));
    format!("{at:.9} {kind} {action} {id} ({})", attributes.join(", "))
}

/// Docker's templates also know the old flat names.
fn flat(event: &Value) -> Value {
    let mut flat = event.clone();
    flat["ID"] = event["Actor"]["ID"].clone();
    flat["Status"] = event["Action"].clone();
    flat["From"] = event["Actor"]["Attributes"]["image"].clone();
    flat["TimeNano"] = event["timeNano"].clone();
    flat["Time"] = event["time"].clone();
    flat["Scope"] = event["scope"].clone();
    flat
}
