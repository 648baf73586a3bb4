//! Whose files are, on disk and in a layer: id maps as umoci writes them, `CONTAINER:HOST:SIZE`.

use std::str::FromStr;

use anyhow::{Context as _, Result};
use contracts::fault;
use contracts::fault::Fault;
use serde::{Deserialize, Serialize};

/// Some ids of a container and those that stand for them on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Range {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host: u32,
    /// How many.
    pub size: u32,
}

impl FromStr for Range {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let numbers: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
        let ends = |first: u32, size: u32| first.checked_add(size - 1).is_some_and(|last| last < u32::MAX);
        match numbers.as_deref() {
            Some(&[container, host, size]) if size > 0 && ends(container, size) && ends(host, size) => {
                Ok(Self { container, host, size })
            }
            _ => Err(Fault::new(
                contracts::fault::Kind::Usage,
                format!("id map {text:?}: not CONTAINER:HOST:SIZE"),
            )),
        }
    }
}

/// Ranges of users and of groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maps {
    /// Of users.
    pub uids: Vec<Range>,
    /// Of groups.
    pub gids: Vec<Range>,
}

impl Maps {
    /// From the flags: maps of one kind count for the other where that has none. `None` without any.
    ///
    /// # Errors
    /// Ranges overlap.
    pub fn from_flags(uids: &[Range], gids: &[Range]) -> Result<Option<Self>> {
        if uids.is_empty() && gids.is_empty() {
            return Ok(None);
        }
        let or = |own: &[Range], other: &[Range]| if own.is_empty() { other.to_vec() } else { own.to_vec() };
        let maps = Self { uids: or(uids, gids), gids: or(gids, uids) };
        for ranges in [&maps.uids, &maps.gids] {
            let meets = |a: u32, b: u32, (one, other): (&Range, &Range)| {
                a < b.saturating_add(other.size) && b < a.saturating_add(one.size)
            };
            for (at, one) in ranges.iter().enumerate() {
                let clash = |other: &&Range| {
                    meets(one.container, other.container, (one, other))
                        || meets(one.host, other.host, (one, other))
                };
                if ranges[at + 1..].iter().any(|other| clash(&other)) {
                    fault!(Usage, "id maps: ranges overlap");
                }
            }
        }
        Ok(Some(maps))
    }

    /// The maps by which this process owns files: those of its user namespace, or itself as root without one.
    ///
    /// # Errors
    /// There is no /proc.
    pub fn own() -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            let only = |id: u32| vec![Range { container: 0, host: id, size: 1 }];
            let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
            return Ok(Self { uids: only(uid.as_raw()), gids: only(gid.as_raw()) });
        }
        let read = |name: &str| -> Result<Vec<Range>> {
            let text = std::fs::read_to_string(format!("/proc/self/{name}"))
                .with_context(|| format!("read /proc/self/{name}"))?;
            let line = |line: &str| {
                let mut numbers = line.split_ascii_whitespace().map_while(|part| part.parse().ok());
                Some(Range { container: numbers.next()?, host: numbers.next()?, size: numbers.next()? })
            };
            Ok(text.lines().filter_map(line).collect())
        };
        Ok(Self { uids: read("uid_map")?, gids: read("gid_map")? })
    }
}

impl Maps {
    /// Who owns on the host what a container's `uid` and `gid` own; the first ids of the maps where none has them.
    #[must_use]
    pub fn outside(&self, uid: u32, gid: u32) -> (u32, u32) {
        let of = |ranges: &[Range], id: u32| {
            let has = |range: &&Range| range.container <= id && id - range.container < range.size;
            let found = ranges.iter().find(has).map(|range| id - range.container + range.host);
            found.or_else(|| ranges.first().map(|range| range.host)).unwrap_or(id)
        };
        (of(&self.uids, uid), of(&self.gids, gid))
    }
}

/// Who owns the files of a tree in the layer that is made of it.
#[derive(Debug, Clone, Copy, Default)]
pub enum Owners<'a> {
    /// Who owns them on disk.
    #[default]
    Kept,
    /// Root.
    Root,
    /// Those inside whom the owners on disk stand for.
    Inside(&'a Maps),
}

impl Owners<'_> {
    /// The owner in the layer of a file that `uid` and `gid` own on disk.
    ///
    /// # Errors
    /// No map has it.
    pub fn of(self, uid: u32, gid: u32) -> Result<(u32, u32)> {
        Ok(match self {
            Self::Kept => (uid, gid),
            Self::Root => (0, 0),
            Self::Inside(maps) => (inside(&maps.uids, uid, "user")?, inside(&maps.gids, gid, "group")?),
        })
    }
}

fn inside(ranges: &[Range], id: u32, what: &str) -> Result<u32> {
    let found = ranges.iter().find(|range| (range.host..range.host + range.size).contains(&id));
    let range = found.with_context(|| format!("its {what} {id} is in no id map"))?;
    Ok(id - range.host + range.container)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(texts: &[&str]) -> Vec<Range> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn ids_are_mapped_back() {
        let uids = maps(&["0:1000:1", "1:100000:65536"]);
        let both = Maps::from_flags(&uids, &[]).unwrap().unwrap();
        let owners = Owners::Inside(&both);
        assert_eq!(owners.of(1000, 100_041).unwrap(), (0, 42));
        assert!(owners.of(0, 1000).unwrap_err().to_string().contains("user 0 is in no id map"));
        assert_eq!(both.outside(0, 42), (1000, 100_041));
        assert_eq!(Owners::Root.of(5, 6).unwrap(), (0, 0));
        assert_eq!(Owners::Kept.of(5, 6).unwrap(), (5, 6));
        assert!(Maps::from_flags(&[], &[]).unwrap().is_none());
    }

    #[test]
    fn bad_maps_are_refused() {
        for bad in ["", "0", "0:1", "0:0:0", "a:0:1", "0:0:1:1", "0:4294967295:1", "4294967294:0:2", "-1:0:1"]
        {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
        assert!(Maps::from_flags(&maps(&["0:1000:10", "5:5000:1"]), &[]).is_err());
        assert!(Maps::from_flags(&maps(&["0:1000:10", "10:1009:1"]), &[]).is_err());
        assert!(Maps::from_flags(&maps(&["0:1000:10", "10:1010:1"]), &[]).is_ok());
    }
}
