//! Ids of a container and those of the host that stand for them: maps, `/etc/subuid`, and which container has which of the
//! host's (`STORE/ids.json`).

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::fault;
use crate::fault::{Fault, Kind};

pub mod ledger;

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
            _ => Err(Fault::new(Kind::Usage, format!("id map {text:?}: not CONTAINER:HOST:SIZE"))),
        }
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.container, self.host, self.size)
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
        Self::of_process("self")
    }

    /// The maps of a process's user namespace; `process` is its name below `/proc`.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of_process(process: &str) -> Result<Self> {
        let read = |name: &str| -> Result<Vec<Range>> {
            let path = format!("/proc/{process}/{name}");
            let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
            let line = |line: &str| {
                let mut numbers = line.split_ascii_whitespace().map_while(|part| part.parse().ok());
                Some(Range { container: numbers.next()?, host: numbers.next()?, size: numbers.next()? })
            };
            Ok(text.lines().filter_map(line).collect())
        };
        Ok(Self { uids: read("uid_map")?, gids: read("gid_map")? })
    }

    /// Makes them the maps of the new user namespace of the process `pid`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn write(&self, pid: i32) -> Result<()> {
        for (name, ranges) in [("uid_map", &self.uids), ("gid_map", &self.gids)] {
            let line = |Range { container, host, size }: &Range| format!("{container} {host} {size}\n");
            let lines: String = ranges.iter().map(line).collect();
            fs::write(format!("/proc/{pid}/{name}"), lines).with_context(|| format!("write {name}"))?;
        }
        Ok(())
    }

    /// Who owns on the host what a container's `uid` and `gid` own; the first ids of the maps where none has them.
    #[must_use]
    pub fn outside(&self, uid: u32, gid: u32) -> (u32, u32) {
        let or = |found: Option<u32>, ranges: &[Range], id| {
            found.or_else(|| ranges.first().map(|range| range.host)).unwrap_or(id)
        };
        (or(outward(&self.uids, uid), &self.uids, uid), or(outward(&self.gids, gid), &self.gids, gid))
    }

    /// Who on the host is the container's user `uid`.
    ///
    /// # Errors
    /// No map has the id.
    pub fn outside_user(&self, uid: u32) -> Result<u32> {
        outward(&self.uids, uid).with_context(|| format!("user {uid} is in no id map"))
    }

    /// Which of the host's is the container's group `gid`.
    ///
    /// # Errors
    /// No map has the id.
    pub fn outside_group(&self, gid: u32) -> Result<u32> {
        outward(&self.gids, gid).with_context(|| format!("group {gid} is in no id map"))
    }

    /// Whose inside is what `uid` and `gid` own on the host.
    ///
    /// # Errors
    /// No map has the id.
    pub fn inside(&self, uid: u32, gid: u32) -> Result<(u32, u32)> {
        Ok((inward(&self.uids, uid, "user")?, inward(&self.gids, gid, "group")?))
    }
}

fn outward(ranges: &[Range], id: u32) -> Option<u32> {
    let has = |range: &&Range| range.container <= id && id - range.container < range.size;
    ranges.iter().find(has).map(|range| id - range.container + range.host)
}

fn inward(ranges: &[Range], id: u32, what: &str) -> Result<u32> {
    let found = ranges.iter().find(|range| range.host <= id && id - range.host < range.size);
    let range = found.with_context(|| format!("its {what} {id} is in no id map"))?;
    Ok(id - range.host + range.container)
}

/// The ids of the host that `file` (subuid(5)) gives to `user`, as (first, how many), in the file's order.
///
/// # Errors
/// `NotFound` where it gives none; it cannot be read.
pub fn subordinate(file: &Path, user: &str) -> Result<Vec<(u32, u32)>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(err) if err.kind() == ErrorKind::NotFound => String::new(),
        Err(err) => return Err(err).with_context(|| format!("read {}", file.display())),
    };
    let line = |line: &str| {
        let mut parts = line.split(':');
        (parts.next()? == user).then_some(())?;
        let (first, size): (u32, u32) =
            (parts.next()?.trim().parse().ok()?, parts.next()?.trim().parse().ok()?);
        // The last id is nobody's: it means "no change".
        let size = size.min(u32::MAX - first);
        (size > 0).then_some((first, size))
    };
    let found: Vec<_> = text.lines().filter_map(line).collect();
    if found.is_empty() {
        fault!(NotFound, "no ids of the host for user {user:?} in {}", file.display());
    }
    Ok(found)
}

/// Podman's spelling in `inspect`: `{"UidMap": ["0:100000:65536"], "GidMap": […]}`.
pub mod shown {
    use super::{Maps, Range};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Shown {
        uid_map: Vec<String>,
        gid_map: Vec<String>,
    }

    /// Writes it.
    ///
    /// # Errors
    /// The serializer's.
    #[allow(clippy::ref_option)] // serde's signature
    pub fn serialize<S: Serializer>(maps: &Option<Maps>, serializer: S) -> Result<S::Ok, S::Error> {
        let texts = |ranges: &[Range]| ranges.iter().map(ToString::to_string).collect();
        maps.as_ref()
            .map(|maps| Shown { uid_map: texts(&maps.uids), gid_map: texts(&maps.gids) })
            .serialize(serializer)
    }

    /// Reads it.
    ///
    /// # Errors
    /// Not of this form.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Maps>, D::Error> {
        let Some(shown) = Option::<Shown>::deserialize(deserializer)? else { return Ok(None) };
        let ranges = |texts: Vec<String>| -> Result<Vec<Range>, D::Error> {
            texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
        };
        Ok(Some(Maps { uids: ranges(shown.uid_map)?, gids: ranges(shown.gid_map)? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(texts: &[&str]) -> Vec<Range> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn ids_are_mapped_both_ways() {
        let both = Maps::from_flags(&maps(&["0:1000:1", "1:100000:65536"]), &[]).unwrap().unwrap();
        assert_eq!(both.inside(1000, 100_041).unwrap(), (0, 42));
        assert!(both.inside(0, 1000).unwrap_err().to_string().contains("user 0 is in no id map"));
        assert_eq!(both.outside(0, 42), (1000, 100_041));
        assert_eq!(both.outside(70_000, 0), (1000, 1000));
        assert_eq!(both.outside_user(65_536).unwrap(), 165_535);
        assert!(both.outside_group(70_000).unwrap_err().to_string().contains("group 70000"));
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

    #[test]
    fn subordinate_ids_are_those_of_the_user() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "a:100:10\n# b:1:1\nb:x:1\nb:200:5\nbb:1:1\nb:4294967290:100\n").unwrap();
        assert_eq!(subordinate(file.path(), "b").unwrap(), [(200, 5), (4_294_967_290, 5)]);
        assert_eq!(Kind::of(&subordinate(file.path(), "c").unwrap_err()), Some(Kind::NotFound));
    }
}
