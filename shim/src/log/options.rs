//! `--log-driver` and `--log-opt`: what is unknown or wrong is refused before anything is made.

use anyhow::Result;
use contracts::container::LogConfig;
use contracts::fault;

use super::{attributes, remote};
use crate::request::units::size;

/// Options that every driver takes.
const COMMON: &[&str] = &[
    "mode",
    "max-buffer-size",
    "tag",
    "labels",
    "labels-regex",
    "env",
    "env-regex",
    "cache-disabled",
    "cache-max-size",
    "cache-max-file",
    "cache-compress",
];

/// The options of one driver; `None` where there is no such driver.
fn own(driver: &str) -> Option<&'static [&'static str]> {
    Some(match driver {
        "json-file" | "local" => &["max-size", "max-file", "compress"],
        "k8s-file" => &["max-size", "max-file", "compress", "path"],
        "journald" | "passthrough" | "passthrough-tty" => &[],
        "syslog" => &[
            "syslog-address",
            "syslog-facility",
            "syslog-format",
            "syslog-tls-ca-cert",
            "syslog-tls-cert",
            "syslog-tls-key",
            "syslog-tls-skip-verify",
        ],
        "fluentd" => &[
            "fluentd-address",
            "fluentd-async",
            "fluentd-async-connect",
            "fluentd-async-reconnect-interval",
            "fluentd-buffer-limit",
            "fluentd-max-retries",
            "fluentd-read-timeout",
            "fluentd-request-ack",
            "fluentd-retry-wait",
            "fluentd-sub-second-precision",
            "fluentd-write-timeout",
        ],
        "gelf" => &[
            "gelf-address",
            "gelf-compression-type",
            "gelf-compression-level",
            "gelf-tcp-max-reconnect",
            "gelf-tcp-reconnect-delay",
        ],
        _ => return None,
    })
}

/// Whether a driver's lines go to another program.
pub fn is_remote(driver: &str) -> bool {
    matches!(driver, "journald" | "syslog" | "fluentd" | "gelf")
}

/// Whether the payload gets the streams of whoever starts it (podman's drivers): nothing is logged.
pub fn is_passthrough(driver: &str) -> bool {
    matches!(driver, "passthrough" | "passthrough-tty")
}

/// Refuses an unknown driver or option.
pub fn check(config: &LogConfig) -> Result<()> {
    let driver = config.driver.as_str();
    if driver == "none" {
        return Ok(());
    }
    let Some(own) = own(driver) else {
        match driver {
            "awslogs" | "gcplogs" | "splunk" | "etwlogs" => fault!(
                Unsupported,
                "log driver {driver} is not supported: json-file, local, k8s-file, journald, syslog, fluentd, gelf, passthrough and none are"
            ),
            _ => fault!(Usage, "error looking up logging plugin {driver}: plugin \"{driver}\" not found"),
        }
    };
    for (key, value) in &config.config {
        match key.as_str() {
            key if !own.contains(&key) && (is_passthrough(driver) || !COMMON.contains(&key)) => {
                fault!(Usage, "unknown log opt '{key}' for {driver} log driver")
            }
            "mode" if !["blocking", "non-blocking"].contains(&value.as_str()) => {
                fault!(Usage, "logger: \"{value}\": invalid mode: use blocking or non-blocking")
            }
            "path" if !value.starts_with('/') => {
                fault!(Usage, "log-opt path={value}: the path must be absolute")
            }
            _ => {}
        }
    }
    buffer(config)?;
    Limits::read(config)?;
    cache(config)?;
    attributes::check(config)?;
    match driver {
        "syslog" => remote::syslog::Options::read(config).map(drop),
        "fluentd" => remote::fluentd::Options::read(config).map(drop),
        "gelf" => remote::gelf::Options::read(config).map(drop),
        _ => Ok(()),
    }
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

/// Whether a switch is on, as Go reads booleans.
pub fn flag(config: &LogConfig, name: &str) -> Result<bool> {
    match config.config.get(name).map(String::as_str) {
        None | Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
        Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
        Some(other) => fault!(Usage, "log-opt {name}: \"{other}\" is neither true nor false"),
    }
}

/// A number that is not negative.
pub fn number(config: &LogConfig, name: &str) -> Result<Option<u32>> {
    match config.config.get(name).map(|text| (text, text.parse())) {
        None => Ok(None),
        Some((_, Ok(number))) => Ok(Some(number)),
        Some((text, Err(_))) => fault!(Usage, "log-opt {name}: \"{text}\" is not a number from 0 on"),
    }
}

/// When a log file ends, how many are kept, and how.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes; 0 for no limit.
    pub size: u64,
    /// Files, the current one included.
    pub files: u32,
    /// All but the current file are compressed.
    pub compress: bool,
}

impl Limits {
    /// From `max-size`, `max-file` and `compress`; the driver `local` rotates unless told otherwise, as docker's.
    pub fn read(config: &LogConfig) -> Result<Self> {
        let names = ["max-size", "max-file", "compress"];
        let limits = Self::named(config, names, config.driver == "local")?;
        if limits.files > 1 && limits.size == 0 {
            fault!(Usage, "max-file cannot be specified without max-size");
        }
        if limits.compress && (limits.files < 2 || limits.size == 0) {
            fault!(Usage, "compress cannot be true when max-file is less than 2 or max-size is not set");
        }
        Ok(limits)
    }

    fn named(config: &LogConfig, [max_size, max_file, compress]: [&str; 3], local: bool) -> Result<Self> {
        let bytes = match config.config.get(max_size).map(String::as_str) {
            None if local => 20 << 20,
            None | Some("-1") => 0,
            Some(text) => match u64::try_from(size(&format!("--log-opt {max_size}"), text)?) {
                Ok(bytes) if bytes > 0 => bytes,
                _ => fault!(Usage, "{max_size} must be a positive number: {text}"),
            },
        };
        let files = match config.config.get(max_file) {
            None if local => 5,
            None => 1,
            Some(text) => match text.parse() {
                Ok(files) if files > 0 => files,
                _ => fault!(Usage, "{max_file} cannot be less than 1: {text}"),
            },
        };
        let compress =
            if config.config.contains_key(compress) { flag(config, compress)? } else { local && files > 1 };
        Ok(Self { size: bytes, files, compress })
    }
}

/// Docker's "dual logging": what `logs` reads where the lines go elsewhere; `None` where it is switched off.
pub fn cache(config: &LogConfig) -> Result<Option<Limits>> {
    let limits = Limits::named(config, ["cache-max-size", "cache-max-file", "cache-compress"], true)?;
    Ok((!flag(config, "cache-disabled")?).then_some(limits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(driver: &str, pairs: &[(&str, &str)]) -> LogConfig {
        let config = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        LogConfig { driver: driver.into(), config }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (driver, pairs, word) in [
            ("json-file", &[("bogus", "1")][..], "bogus"),
            ("json-file", &[("max-file", "3")], "max-size"),
            ("json-file", &[("compress", "true")], "compress"),
            ("json-file", &[("mode", "odd")], "odd"),
            ("json-file", &[("max-buffer-size", "1m")], "non-blocking"),
            ("json-file", &[("labels-regex", "(")], "labels-regex"),
            ("local", &[("path", "/x")], "path"),
            ("k8s-file", &[("path", "x")], "absolute"),
            ("syslog", &[("syslog-address", "tcp+tls://h"), ("syslog-tls-key", "/k")], "belong together"),
            ("syslog", &[("syslog-address", "tcp+tls://h"), ("syslog-tls-ca-cert", "k")], "absolute"),
            ("syslog", &[("syslog-tls-skip-verify", "true")], "tcp+tls"),
            ("syslog", &[("syslog-format", "odd")], "odd"),
            ("fluentd", &[("gelf-address", "udp://h:1")], "gelf-address"),
            ("gelf", &[], "gelf-address"),
            ("journald", &[("cache-max-file", "0")], "cache-max-file"),
            ("passthrough", &[("tag", "x")], "tag"),
            ("awslogs", &[], "awslogs"),
            ("splunk", &[], "splunk"),
            ("odd", &[], "odd"),
        ] {
            let err = check(&config(driver, pairs)).expect_err(word).to_string();
            assert!(err.contains(word), "{err}");
        }
    }

    #[test]
    fn defaults() {
        let read = |driver: &str| Limits::read(&config(driver, &[])).unwrap();
        let (json, local) = (read("json-file"), read("local"));
        assert_eq!((json.size, json.files, json.compress), (0, 1, false));
        assert_eq!((local.size, local.files, local.compress), (20 << 20, 5, true));
        assert!(cache(&config("syslog", &[("cache-disabled", "true")])).unwrap().is_none());
        assert_eq!(cache(&config("syslog", &[("cache-max-size", "1k")])).unwrap().unwrap().size, 1024);
    }
}
