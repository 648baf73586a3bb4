//! The filters of `images` and `prune`.

use anyhow::{Context as _, Result};
use contracts::fault;
use contracts::flag::duration;
use jiff::Timestamp;

use crate::store::Store;
use crate::store::image::Image;

/// All that an image must match.
#[derive(Debug, Default)]
pub struct Filters {
    /// Without a name (or, `false`, with one).
    dangling: Option<bool>,
    /// Patterns, of which one must match.
    pub references: Vec<String>,
    labels: Vec<(String, Option<String>, bool)>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Filters {
    /// Parses `key=value` texts; `before` and `since` are looked up in `store`.
    ///
    /// # Errors
    /// An unknown filter, a wrong value, an unknown image.
    pub fn parse(texts: &[String], store: &Store) -> Result<Self> {
        let mut filters = Self::default();
        for text in texts {
            let Some((key, value)) = text.split_once('=') else {
                fault!(Usage, "invalid filter '{text}': KEY=VALUE expected");
            };
            match key {
                "dangling" => filters.dangling = Some(boolean(value)?),
                "reference" => filters.references.push(value.into()),
                "label" | "label!" => {
                    let (name, wanted) = value.split_once('=').map_or((value, None), |(k, v)| (k, Some(v)));
                    filters.labels.push((name.into(), wanted.map(Into::into), key == "label"));
                }
                "before" => filters.before = Some(created(store, value)?),
                "since" => filters.since = Some(created(store, value)?),
                "until" => filters.before = Some(moment(value)?),
                _ => fault!(Usage, "invalid filter '{key}'"),
            }
        }
        Ok(filters)
    }

    /// Whether `image` matches all.
    #[must_use]
    pub fn matches(&self, image: &Image) -> bool {
        let time = image.config.created.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
        let time = time.unwrap_or(Timestamp::UNIX_EPOCH);
        let labels = image.config.labels();
        self.dangling.is_none_or(|wanted| image.name.is_none() == wanted)
            && self.before.is_none_or(|limit| time < limit)
            && self.since.is_none_or(|limit| time > limit)
            && self.labels.iter().all(|(key, wanted, must)| {
                let has =
                    labels.get(key).is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value));
                has == *must
            })
            && (self.references.is_empty()
                || self.references.iter().any(|pattern| names_match(image, pattern)))
    }
}

/// As docker: a pattern is compared with the familiar and the full name, with and without the tag.
fn names_match(image: &Image, pattern: &str) -> bool {
    let Some(name) = &image.name else { return false };
    [name.familiar(), name.familiar_name(), name.to_string(), name.repository()]
        .iter()
        .any(|candidate| glob(pattern.as_bytes(), candidate.as_bytes()))
}

/// Shell patterns without classes: `*` and `?` stop at a slash.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            glob(rest, text)
                || matches!(text.split_first(), Some((c, tail)) if *c != b'/' && glob(pattern, tail))
        }
        (Some((b'?', rest)), Some((c, tail))) => *c != b'/' && glob(rest, tail),
        (Some((p, rest)), Some((c, tail))) => p == c && glob(rest, tail),
        _ => false,
    }
}

fn boolean(value: &str) -> Result<bool> {
    match value.to_lowercase().as_str() {
        "1" | "t" | "true" => Ok(true),
        "0" | "f" | "false" => Ok(false),
        _ => fault!(Usage, "invalid filter 'dangling={value}': true or false expected"),
    }
}

fn created(store: &Store, image: &str) -> Result<Timestamp> {
    let image = store.image(image)?;
    let text = image.config.created.as_deref().unwrap_or("1970-01-01T00:00:00Z");
    text.parse().with_context(|| format!("creation time of image {}", image.title()))
}

/// A moment: RFC 3339, a date, seconds since 1970, or a Go duration ago (`1h30m`).
pub(crate) fn moment(text: &str) -> Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).with_context(|| format!("invalid time {text}"));
    }
    if let Ok(time) = format!("{text}T00:00:00Z").parse::<Timestamp>() {
        return Ok(time);
    }
    let Some(seconds) = ago(text) else {
        fault!(Usage, "invalid time '{text}': 24h, 2026-01-31 or 2026-01-31T12:00:00Z expected");
    };
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second().saturating_sub(seconds))
        .with_context(|| format!("invalid time {text}"))
}

/// Seconds of a Go duration, which may begin with weeks and days: `1w2d12h`.
fn ago(text: &str) -> Option<i64> {
    let (weeks, rest) = text.split_once('w').unwrap_or(("0", text));
    let (days, rest) = rest.split_once('d').unwrap_or(("0", rest));
    let days = weeks.parse::<i64>().ok()?.checked_mul(7)?.checked_add(days.parse().ok()?)?;
    let nanos = if rest.is_empty() && days > 0 { 0 } else { duration::parse(rest).ok()? };
    days.checked_mul(86_400)?.checked_add(nanos / 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stop_at_slashes() {
        for (pattern, text, want) in [
            ("busy*", "busybox", true),
            ("b*x", "busybox", true),
            ("*", "a/b", false),
            ("*/b", "a/b", true),
            ("busybo?", "busybox", true),
            ("busybox", "busybox:1", false),
            ("busybox:*", "busybox:1", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), want, "{pattern} {text}");
        }
    }

    #[test]
    fn moments() {
        assert_eq!(moment("2026-01-31").unwrap().to_string(), "2026-01-31T00:00:00Z");
        assert_eq!(moment("86400").unwrap().as_second(), 86400);
        let ago = Timestamp::now().as_second() - moment("1h30m").unwrap().as_second();
        assert!((5400..5402).contains(&ago));
        let ago = Timestamp::now().as_second() - moment("1w2d1h").unwrap().as_second();
        assert!((781_200..781_202).contains(&ago));
        assert!(moment("").is_err() && moment("d").is_err());
        assert!(moment("soon").is_err() && moment("5x").is_err() && moment("h").is_err());
    }
}
