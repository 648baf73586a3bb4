//! `STORE/ids.json`: which ids of the host the containers with a user namespace of their own have, so that no two that
//! did not ask for the same ones share any. A container's entry means nothing once its directory has gone: nobody has to
//! give anything back, and a killed command leaves nothing behind.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Maps, Range};
use crate::lock::Lock;
use crate::paths::Paths;
use crate::{atomic, fault};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Ledger {
    version: u32,
    containers: BTreeMap<String, Maps>,
}

/// Ids in a row: the first, and how many.
pub type Run = (u32, u32);

/// What a container wants of the host's ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// How many ids it has inside, from 0 on.
    pub size: u32,
    /// Ids inside that are to be certain ones of the host.
    pub fixed: Maps,
}

/// Writes down the ids that `container` has because its user named them. Its directory must exist.
///
/// # Errors
/// The file cannot be written.
pub fn note(paths: &Paths, container: &str, maps: &Maps) -> Result<()> {
    let (_lock, mut ledger) = open(paths)?;
    ledger.containers.insert(container.into(), maps.clone());
    save(paths, &ledger)
}

/// Gives `container`, whose directory must exist, ids out of the host's `uids` and `gids` (first, how many) that no other
/// one has.
///
/// # Errors
/// `Busy` where too few are left.
pub fn allot(paths: &Paths, container: &str, wish: &Wish, (uids, gids): (&[Run], &[Run])) -> Result<Maps> {
    let (_lock, mut ledger) = open(paths)?;
    ledger.containers.remove(container);
    let used = |of: fn(&Maps) -> &Vec<Range>| -> Vec<Run> {
        let all = ledger.containers.values().chain([&wish.fixed]).flat_map(of);
        all.map(|range| (range.host, range.size)).collect()
    };
    let maps = Maps {
        uids: fill(wish.size, &wish.fixed.uids, uids, &used(|maps| &maps.uids))?,
        gids: fill(wish.size, &wish.fixed.gids, gids, &used(|maps| &maps.gids))?,
    };
    ledger.containers.insert(container.into(), maps.clone());
    save(paths, &ledger)?;
    Ok(maps)
}

fn open(paths: &Paths) -> Result<(Lock, Ledger)> {
    let lock = Lock::exclusive(&paths.store.join("ids.lock"))?;
    let mut ledger = atomic::read_json::<Ledger>(&paths.store.join("ids.json"))?.unwrap_or_default();
    ledger.version = 1;
    ledger.containers.retain(|id, _| paths.containers().join(id).exists());
    Ok((lock, ledger))
}

fn save(paths: &Paths, ledger: &Ledger) -> Result<()> {
    atomic::write_json(&paths.store.join("ids.json"), ledger, 0o600)
}

/// The ids 0 to `size` that `fixed` does not have get the first run of free ones, `fixed` keeps its own.
fn fill(size: u32, fixed: &[Range], host: &[Run], used: &[Run]) -> Result<Vec<Range>> {
    let mut fixed = fixed.to_vec();
    fixed.sort_by_key(|range| range.container);
    let mut gaps = Vec::new();
    let mut at = 0;
    for range in &fixed {
        if at < range.container.min(size) {
            gaps.push((at, range.container.min(size) - at));
        }
        at = at.max(range.container.saturating_add(range.size));
    }
    if at < size {
        gaps.push((at, size - at));
    }
    let wanted: u32 = gaps.iter().map(|gap| gap.1).sum();
    let Some(mut first) = free(wanted, host, used) else {
        fault!(Busy, "cannot find {wanted} ids in a row that no other container has");
    };
    let mut maps = fixed;
    for (container, size) in gaps {
        maps.push(Range { container, host: first, size });
        first += size;
    }
    maps.sort_by_key(|range| range.container);
    Ok(maps)
}

/// The first of `wanted` ids in a row that are in one of `host`'s ranges and in none of `used`.
fn free(wanted: u32, host: &[Run], used: &[Run]) -> Option<u32> {
    for &(first, size) in host {
        let end = first.saturating_add(size);
        let mut at = first;
        while end - at >= wanted {
            let meets = |&&(other, count): &&Run| {
                at < other.saturating_add(count) && other < at.saturating_add(wanted)
            };
            match used.iter().filter(meets).map(|(other, count)| other.saturating_add(*count)).max() {
                None => return Some(at),
                Some(next) if next >= end => break,
                Some(next) => at = next,
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(dir: &std::path::Path) -> Paths {
        Paths { state: dir.into(), store: dir.into(), config: dir.into() }
    }

    fn wish(size: u32, fixed: &[&str]) -> Wish {
        let fixed: Vec<Range> = fixed.iter().map(|text| text.parse().unwrap()).collect();
        Wish { size, fixed: Maps { uids: fixed.clone(), gids: fixed } }
    }

    fn shown(ranges: &[Range]) -> String {
        ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn no_two_containers_share_ids_and_those_of_a_gone_one_are_free() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let host: (&[_], &[_]) = (&[(1000, 100), (5000, 100)], &[(1000, 1000)]);
        let take = |id: &str, wish: Wish| {
            std::fs::create_dir_all(paths.containers().join(id)).unwrap();
            allot(&paths, id, &wish, host).map(|maps| shown(&maps.uids))
        };
        assert_eq!(take("a", wish(60, &[])).unwrap(), "0:1000:60");
        assert_eq!(take("b", wish(60, &[])).unwrap(), "0:5000:60");
        assert_eq!(take("c", wish(30, &[])).unwrap(), "0:1060:30");
        assert!(take("d", wish(60, &[])).unwrap_err().to_string().contains("cannot find 60 ids"));
        assert_eq!(take("a", wish(60, &[])).unwrap(), "0:1000:60", "asked for again");
        std::fs::remove_dir(paths.containers().join("a")).unwrap();
        assert_eq!(take("d", wish(60, &[])).unwrap(), "0:1000:60");
        std::fs::create_dir_all(paths.containers().join("named")).unwrap();
        note(&paths, "named", &wish(0, &["0:5060:40"]).fixed).unwrap();
        assert_eq!(take("e", wish(10, &["5:77:1", "20:78:2"])).unwrap(), "0:1090:5 5:77:1 6:1095:4 20:78:2");
        assert!(take("f", wish(2, &[])).is_err());
    }
}
