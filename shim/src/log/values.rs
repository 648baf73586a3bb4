//! The values of `--log-opt`: switches, numbers, and when a log file ends.

use anyhow::Result;
use contracts::container::LogConfig;
use contracts::fault;

use crate::request::units::size;

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
    fn defaults() {
        let read = |driver: &str| Limits::read(&config(driver, &[])).unwrap();
        let (json, local) = (read("json-file"), read("local"));
        assert_eq!((json.size, json.files, json.compress), (0, 1, false));
        assert_eq!((local.size, local.files, local.compress), (20 << 20, 5, true));
        assert!(cache(&config("syslog", &[("cache-disabled", "true")])).unwrap().is_none());
        assert_eq!(cache(&config("syslog", &[("cache-max-size", "1k")])).unwrap().unwrap().size, 1024);
    }
}
