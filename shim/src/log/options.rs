//! `--log-driver` and `--log-opt`: what is unknown or wrong is refused before anything is made.

use anyhow::Result;
use contracts::container::LogConfig;
use contracts::fault;

use super::values::{Limits, buffer, cache};
use super::{attributes, remote};

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

/// Every driver there is.
pub const DRIVERS: &[&str] = &[
    "fluentd",
    "gelf",
    "journald",
    "json-file",
    "k8s-file",
    "local",
    "none",
    "passthrough",
    "passthrough-tty",
    "syslog",
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
}
