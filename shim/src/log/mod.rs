//! What the payload writes, kept: one sink per driver.

pub mod json_file;
pub mod lines;
pub mod read;
pub mod syslog;

use anyhow::Result;
use contracts::container::{Container, LogConfig};
use contracts::fault;

use crate::container::Store;
use crate::request::units::size;

/// Which of the payload's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Options that every driver takes.
const COMMON: &[&str] = &["mode", "max-buffer-size", "tag", "labels", "labels-regex", "env", "env-regex"];

/// Refuses an unknown driver or option before anything is made.
pub fn check(config: &LogConfig) -> Result<()> {
    let own: &[&str] = match config.driver.as_str() {
        "json-file" | "local" | "k8s-file" => &["max-size", "max-file", "compress"],
        "none" => return Ok(()),
        "syslog" => &["syslog-address", "syslog-facility", "syslog-format"],
        other @ ("journald" | "fluentd" | "gelf" | "awslogs" | "gcplogs" | "splunk" | "passthrough") => {
            fault!(Unsupported, "log driver {other} is not supported: json-file, local, syslog and none are")
        }
        other => fault!(Usage, "error looking up logging plugin {other}: plugin \"{other}\" not found"),
    };
    for (key, value) in &config.config {
        match key.as_str() {
            key if !own.contains(&key) && !COMMON.contains(&key) => {
                fault!(Usage, "unknown log opt '{key}' for {} log driver", config.driver)
            }
            "mode" if !["blocking", "non-blocking"].contains(&value.as_str()) => {
                fault!(Usage, "logger: \"{value}\": invalid mode: use blocking or non-blocking")
            }
            "compress" if value != "false" => {
                fault!(Unsupported, "log-opt compress={value} is not supported")
            }
            "max-size" => drop(Limits::read(config)?),
            "labels-regex" | "env-regex" => {
                fault!(Unsupported, "log-opt {key} is not supported: name them with labels and env")
            }
            _ => {}
        }
    }
    if Limits::read(config)?.files > 1 && Limits::read(config)?.size == 0 {
        fault!(Usage, "max-file cannot be specified without max-size");
    }
    buffer(config)?;
    if config.driver == "syslog" {
        syslog::Address::read(config)?;
    }
    Ok(())
}

/// `mode=non-blocking`: the most bytes kept for a log that is behind; what comes while they are full is lost.
/// `None` in docker's default mode, in which the payload waits for its log.
pub fn buffer(config: &LogConfig) -> Result<Option<usize>> {
    let limit = config.config.get("max-buffer-size");
    if config.config.get("mode").map(String::as_str) != Some("non-blocking") {
        if limit.is_some() {
            fault!(Usage, "logger: max-buffer-size option is only supported with 'mode=non-blocking'");
        }
        return Ok(None);
    }
    let bytes = limit.map_or(Ok(1 << 20), |text| size("--log-opt max-buffer-size", text))?;
    Ok(Some(usize::try_from(bytes).unwrap_or(0)))
}

/// When a log file ends and how many are kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes; 0 for no limit.
    pub size: u64,
    /// Files, the current one included.
    pub files: u32,
}

impl Limits {
    /// From `max-size` and `max-file`; the driver `local` rotates unless told otherwise, as docker's.
    pub fn read(config: &LogConfig) -> Result<Self> {
        let local = config.driver == "local";
        let limit = match config.config.get("max-size").map(String::as_str) {
            None if local => 20 << 20,
            None | Some("-1") => 0,
            Some(text) => match u64::try_from(size("--log-opt max-size", text)?) {
                Ok(bytes) if bytes > 0 => bytes,
                _ => fault!(Usage, "max-size must be a positive number: {text}"),
            },
        };
        let files = match config.config.get("max-file") {
            None => {
                if local {
                    5
                } else {
                    1
                }
            }
            Some(text) => match text.parse() {
                Ok(files) if files > 0 => files,
                _ => fault!(Usage, "max-file cannot be less than 1: {text}"),
            },
        };
        Ok(Self { size: limit, files })
    }
}

/// An open log.
pub enum Sink {
    /// Lines of JSON; also behind `local` and `k8s-file`, which differ in their limits only.
    JsonFile(json_file::Writer),
    Syslog(syslog::Writer),
    None,
}

impl Sink {
    /// Opens the container's log.
    pub fn open(store: &Store, record: &Container) -> Result<Self> {
        let config = &record.host_config.log_config;
        Ok(match config.driver.as_str() {
            "none" => Self::None,
            "syslog" => Self::Syslog(syslog::Writer::open(record)?),
            _ => {
                let attrs = attributes(record);
                Self::JsonFile(json_file::Writer::open(
                    &store.log(&record.id),
                    Limits::read(config)?,
                    &attrs,
                )?)
            }
        })
    }

    /// Takes what was read from a stream.
    ///
    /// # Errors
    /// The disk is full or broken: nothing of `bytes` counts as taken, and the caller may offer it again.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        match self {
            Self::JsonFile(writer) => writer.write(stream, bytes),
            Self::Syslog(writer) => {
                writer.write(stream, bytes);
                Ok(())
            }
            Self::None => Ok(()),
        }
    }

    /// Writes unfinished lines; at the end of a run.
    pub fn flush(&mut self) -> Result<()> {
        match self {
            Self::JsonFile(writer) => writer.flush(),
            Self::Syslog(writer) => {
                writer.flush();
                Ok(())
            }
            Self::None => Ok(()),
        }
    }
}

/// What the user asked to keep with each line: the tag, labels and variables.
fn attributes(record: &Container) -> Vec<(String, String)> {
    let options = &record.host_config.log_config.config;
    let list =
        |key: &str| options.get(key).map(|text| text.split(',').map(str::trim).collect()).unwrap_or_default();
    let mut attributes = Vec::new();
    let labels: Vec<&str> = list("labels");
    for name in labels {
        if let Some(value) = record.config.labels.get(name) {
            attributes.push((name.to_owned(), value.clone()));
        }
    }
    let names: Vec<&str> = list("env");
    for entry in &record.config.env {
        if let Some((name, value)) = entry.split_once('=')
            && names.contains(&name)
        {
            attributes.push((name.to_owned(), value.to_owned()));
        }
    }
    if let Some(template) = options.get("tag") {
        attributes.push(("tag".into(), tag(record, template)));
    }
    attributes
}

/// A tag template: `{{.Name}}/{{.ID}}`.
pub fn tag(record: &Container, template: &str) -> String {
    let image_id = record.image_id.trim_start_matches("sha256:");
    let value = serde_json::json!({
        "ID": crate::container::short(&record.id), "FullID": record.id, "Name": record.name,
        "ImageName": record.config.image, "ImageID": image_id.get(..12).unwrap_or(image_id),
        "ImageFullID": record.image_id, "DaemonName": "bulkhead",
    });
    contracts::output::template::render(template, &value).unwrap_or_else(|_| template.to_owned())
}
