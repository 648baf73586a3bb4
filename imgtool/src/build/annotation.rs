//! `--annotation`: notes on the manifests of an image, on its index, or on what the index says of a manifest.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::Result;
use contracts::fault;

use crate::store::document::Platform;

/// What a note is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The manifest of an image.
    Manifest,
    /// The index.
    Index,
    /// The index's entry for a manifest.
    ManifestDescriptor,
}

/// One note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    levels: Vec<Level>,
    platform: Option<Platform>,
    key: String,
    value: String,
}

impl FromStr for Annotation {
    type Err = anyhow::Error;

    /// `[LEVEL[,LEVEL…][\[PLATFORM\]]:]KEY=VALUE`
    fn from_str(text: &str) -> Result<Self> {
        let Some((left, value)) = text.split_once('=') else {
            fault!(Usage, "--annotation {text}: [LEVEL:]KEY=VALUE expected")
        };
        let (levels, key) = left.rsplit_once(':').unwrap_or(("manifest", left));
        if key.is_empty() {
            fault!(Usage, "--annotation {text}: [LEVEL:]KEY=VALUE expected");
        }
        let (levels, platform) = match levels.split_once('[') {
            Some((levels, platform)) => match platform.strip_suffix(']') {
                Some(platform) => (levels, Some(platform.parse()?)),
                None => fault!(Usage, "--annotation {text}: ] is missing"),
            },
            None => (levels, None),
        };
        let levels = levels.split(',').map(level).collect::<Result<_>>()?;
        Ok(Self { levels, platform, key: key.into(), value: value.into() })
    }
}

fn level(text: &str) -> Result<Level> {
    Ok(match text {
        "manifest" => Level::Manifest,
        "index" => Level::Index,
        "manifest-descriptor" => Level::ManifestDescriptor,
        "index-descriptor" => fault!(Unsupported, "annotations on an index-descriptor are not written here"),
        other => fault!(
            Usage,
            "unknown annotation level \"{other}\": manifest, index or manifest-descriptor expected"
        ),
    })
}

/// The notes of `all` on one `level`, for a manifest of `platform` (`None` for the index).
#[must_use]
pub fn on(all: &[Annotation], level: Level, platform: Option<&Platform>) -> BTreeMap<String, String> {
    let fits = |note: &&Annotation| {
        note.levels.contains(&level) && note.platform.as_ref().is_none_or(|own| Some(own) == platform)
    };
    all.iter().filter(fits).map(|note| (note.key.clone(), note.value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_platforms_are_told_apart() {
        let notes: Vec<Annotation> = ["a=1", "index,manifest:b=2", "manifest[linux/arm64]:c=x=y"]
            .map(|text| text.parse().unwrap())
            .into();
        let [arm, amd] = ["linux/arm64", "linux/amd64"].map(|text| text.parse().unwrap());
        let keys = |level, platform| on(&notes, level, platform).into_keys().collect::<String>();
        assert_eq!(keys(Level::Manifest, Some(&arm)), "abc");
        assert_eq!(keys(Level::Manifest, Some(&amd)), "ab");
        assert_eq!(keys(Level::Index, None), "b");
        for bad in ["a", "=x", "nope:a=1", "index-descriptor:a=1", "manifest[linux:a=1"] {
            assert!(bad.parse::<Annotation>().is_err(), "{bad}");
        }
    }
}
