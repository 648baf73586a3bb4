//! Platforms: which manifest of an index is for which machine.

use std::fmt;
use std::str::FromStr;

use contracts::fault::{Fault, Kind};

use super::document::{Descriptor, Index, Platform};

impl Platform {
    /// This machine, as Go names it.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "powerpc64" => ("ppc64", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self {
            architecture: architecture.into(),
            os: "linux".into(),
            os_version: None,
            variant: variant.map(Into::into),
        }
    }

    /// How well an image for `other` runs here: smaller is better, `None` not at all. An arm v7 machine runs v6 and
    /// v5 too; a missing variant means the family's usual one.
    #[must_use]
    pub fn distance(&self, other: &Self) -> Option<u32> {
        if self.os != other.os || self.architecture != other.architecture {
            return None;
        }
        let level = |platform: &Self| -> Option<u32> {
            let usual = match platform.architecture.as_str() {
                "arm" => 7,
                "arm64" => 8,
                _ => 1,
            };
            match platform.variant.as_deref().filter(|text| !text.is_empty()) {
                None => Some(usual),
                Some(text) => text.trim_start_matches('v').parse().ok(),
            }
        };
        level(self)?.checked_sub(level(other)?)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.os, self.architecture)?;
        self.variant
            .as_deref()
            .filter(|text| !text.is_empty())
            .map_or(Ok(()), |variant| write!(out, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let wrong = || {
            Fault::new(
                Kind::Usage,
                format!("invalid platform \"{}\": os/arch[/variant]", text.escape_default()),
            )
        };
        let parts: Vec<&str> = text.split('/').collect();
        let plain = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if !parts.iter().all(plain) {
            return Err(wrong());
        }
        let host = Self::host();
        let (os, architecture, variant) = match parts[..] {
            // One word is an operating system or a CPU, as docker takes it.
            ["linux"] => return Ok(host),
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(wrong()),
        };
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", None) => ("arm", Some("v7")),
            ("armel", None) => ("arm", Some("v6")),
            ("i386", variant) => ("386", variant),
            other => other,
        };
        Ok(Self {
            architecture: architecture.into(),
            os: os.into(),
            os_version: None,
            variant: variant.map(Into::into),
        })
    }
}

/// The manifest of `index` that fits `wanted` best. Attestations (`unknown/unknown`) never fit; a single manifest
/// without a platform fits everything, as in layouts that hold one image.
#[must_use]
pub fn select<'a>(index: &'a Index, wanted: &Platform) -> Option<&'a Descriptor> {
    let fitting = index.manifests.iter().filter_map(|descriptor| {
        let platform = descriptor.platform.as_ref()?;
        Some((wanted.distance(platform)?, descriptor))
    });
    if let Some((_, best)) = fitting.min_by_key(|(distance, _)| *distance) {
        return Some(best);
    }
    match &index.manifests[..] {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_lower_variant_wins() {
        let parse = |text: &str| text.parse::<Platform>().unwrap();
        let v7 = parse("linux/arm/v7");
        assert_eq!(v7.distance(&parse("linux/arm/v6")), Some(1));
        assert_eq!(v7.distance(&parse("linux/arm")), Some(0));
        assert_eq!(parse("linux/arm/v6").distance(&v7), None);
        assert_eq!(parse("arm64").distance(&parse("linux/arm64/v8")), Some(0));
        assert_eq!(parse("linux/amd64").distance(&parse("windows/amd64")), None);
        assert_eq!(parse("aarch64").to_string(), "linux/arm64");
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/am d64"] {
            assert!(bad.parse::<Platform>().is_err());
        }
    }
}
