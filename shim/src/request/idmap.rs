//! The mount option `idmap`, as podman reads it: what a mount's files own seems to belong to others.
//!
//! `idmap` alone takes the container's maps; `idmap=uids=0-1000-10#20-5-1;gids=@0-0-10` names them: first id on disk, first id
//! it stands for, how many; `@` means that the second is an id of the container.

use anyhow::Result;
use contracts::fault;
use contracts::ids::{Maps, Range};

/// The maps of a mount with the option's `text` in a container with the maps `container`.
pub fn maps(text: &str, container: Option<&Maps>) -> Result<Maps> {
    let Some(parts) = text.strip_prefix("idmap=") else {
        return match container {
            Some(maps) => Ok(maps.clone()),
            None => fault!(Usage, "idmap: the container has no user namespace: say which ids, or --userns"),
        };
    };
    let mut maps = Maps::default();
    for part in parts.split(';') {
        let (ranges, list) = match part.split_once('=') {
            Some(("uids", list)) => (&mut maps.uids, list),
            Some(("gids", list)) => (&mut maps.gids, list),
            _ => fault!(Usage, "{text}: not idmap=uids=ID-ID-SIZE[#…];gids=…"),
        };
        for item in list.split('#') {
            ranges.push(one(text, item, container, part.starts_with('u'))?);
        }
    }
    match Maps::from_flags(&maps.uids, &maps.gids)? {
        Some(maps) => Ok(maps),
        None => fault!(Usage, "{text}: no ids"),
    }
}

fn one(text: &str, item: &str, container: Option<&Maps>, users: bool) -> Result<Range> {
    let (inside, item) = item.strip_prefix('@').map_or((false, item), |rest| (true, rest));
    let mut range: Range = match item.replace('-', ":").parse() {
        Ok(range) => range,
        Err(_) => fault!(Usage, "{text}: {item:?} is not ID-ID-SIZE"),
    };
    if inside && let Some(maps) = container {
        range.host = if users { maps.outside_user(range.host)? } else { maps.outside_group(range.host)? };
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_mounts() {
        let container = Maps::from_flags(&["0:1000:100".parse().unwrap()], &[]).unwrap().unwrap();
        assert_eq!(maps("idmap", Some(&container)).unwrap(), container);
        let own = maps("idmap=uids=0-5-1#1-@7-1;gids=0-9-2", None);
        assert!(own.is_err());
        let own = maps("idmap=uids=0-5-1#@1-7-1;gids=@0-9-2", Some(&container)).unwrap();
        assert_eq!((own.uids[0].host, own.uids[1].host, own.gids[0].host), (5, 1007, 1009));
        for wrong in ["idmap=", "idmap=uids=", "idmap=uids=1-2", "idmap=x=0-0-1", "idmap=uids=0-0-1#0-5-1"] {
            assert!(maps(wrong, None).is_err(), "{wrong}");
        }
        assert!(maps("idmap", None).is_err());
    }
}
