//! Sizes, durations, switches and lists as docker's flags spell them.

use anyhow::Result;
use contracts::fault;

/// Bytes of `64m`, `1.5g`, `512`, `10MiB`: units are powers of 1024, as docker's are.
pub fn size(flag: &str, text: &str) -> Result<i64> {
    match contracts::flag::size::memory(text) {
        Some(bytes) => Ok(bytes),
        None => fault!(Usage, "invalid argument \"{text}\" for \"{flag}\" flag: invalid size: '{text}'"),
    }
}

/// Nanoseconds of Go's duration syntax: `1m30s`, `250ms`, `1.5h`.
pub fn duration(flag: &str, text: &str) -> Result<i64> {
    match contracts::flag::duration::parse(text) {
        Ok(nanos) => Ok(nanos),
        Err(why) => fault!(Usage, "invalid argument \"{text}\" for \"--{flag}\" flag: {why}"),
    }
}

/// A duration as Go prints it: `1.5s`, `2m0s`.
pub fn show_duration(nanos: i64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let seconds = nanos as f64 / 1e9;
    match nanos / 1_000_000_000 {
        0 => format!("{}ms", nanos / 1_000_000),
        whole if whole < 60 => format!("{seconds}s"),
        whole if whole < 3600 => format!("{}m{}s", whole / 60, whole % 60),
        whole => format!("{}h{}m{}s", whole / 3600, whole / 60 % 60, whole % 60),
    }
}

/// `KEY=VALUE` pairs; a missing value is empty.
pub fn pairs(items: &[String]) -> impl Iterator<Item = (String, String)> + '_ {
    items.iter().map(|item| {
        let (key, value) = item.split_once('=').unwrap_or((item, ""));
        (key.to_owned(), value.to_owned())
    })
}

/// CPU or node numbers of `0-2,5`.
pub fn number_list(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        if first > last || last > 8192 {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_size_is_named() {
        let err = size("-m", "abc").unwrap_err().to_string();
        assert_eq!(err, "invalid argument \"abc\" for \"-m\" flag: invalid size: 'abc'");
    }

    #[test]
    fn durations() {
        let err = duration("stop-timeout", "5").unwrap_err();
        assert!(format!("{err:#}").contains("\"--stop-timeout\" flag: time: missing unit"), "{err:#}");
        assert_eq!(show_duration(1_500_000_000), "1.5s");
        assert_eq!(show_duration(120_000_000_000), "2m0s");
    }

    #[test]
    fn lists() {
        assert_eq!(number_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(number_list("2-1"), None);
        assert_eq!(number_list("x"), None);
    }
}
