//! `--userns`, `--uidmap`, `--gidmap`, `--subuidname`, `--subgidname`, as podman reads them.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::fault;
use contracts::ids::{self, Maps, Range, ledger};

use crate::cli::SecurityFlags;
use crate::container::Store;

/// Where the host's ids for containers are written down, and whose they are.
const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";
const OWNER: &str = "containers";

/// Which ids a container has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ids {
    /// The host's.
    Host,
    /// These.
    Maps(Maps),
    /// Those of another container, or of a namespace that exists, which it joins.
    Joined(Maps),
    /// Some that no other container has; without a size as many as the image's users need.
    Auto { size: Option<u32>, fixed: Maps },
}

/// Reads the flags.
pub fn read(store: &Store, flags: &SecurityFlags) -> Result<Ids> {
    let mode = flags.userns.as_deref().unwrap_or_default();
    let ids = match mode {
        "" | "private" => match own(flags)? {
            Some(maps) => Ids::Maps(maps),
            None if mode == "private" => {
                let all = vec![Range { container: 0, host: 0, size: u32::MAX }];
                Ids::Maps(Maps { uids: all.clone(), gids: all })
            }
            None => Ids::Host,
        },
        _ if own(flags)?.is_some() => {
            fault!(
                Usage,
                "--userns={mode} and --uidmap/--gidmap/--subuidname/--subgidname are mutually exclusive"
            )
        }
        "host" => Ids::Host,
        _ if is("keep-id", mode) || is("nomap", mode) => {
            let name = mode.split(':').next().unwrap_or(mode);
            fault!(Unsupported, "{name} is only supported in rootless mode")
        }
        _ if is("auto", mode) => auto(mode.strip_prefix("auto:").unwrap_or_default())?,
        _ => joined(store, mode)?,
    };
    if ids != Ids::Host && contracts::paths::is_ordinary_user() {
        fault!(
            Unsupported,
            "--userns {mode}: the containers of an ordinary user have the ids of that user's namespace"
        );
    }
    Ok(ids)
}

fn is(name: &str, mode: &str) -> bool {
    mode.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// The maps that the flags beside `--userns` name.
fn own(flags: &SecurityFlags) -> Result<Option<Maps>> {
    let (subuid, subgid) = (flags.subuidname.as_deref(), flags.subgidname.as_deref());
    if let Some(user) = subuid.or(subgid) {
        if !flags.uidmap.is_empty() || !flags.gidmap.is_empty() {
            fault!(Usage, "--uidmap/--gidmap and --subuidname/--subgidname are mutually exclusive");
        }
        let of = |file: &str, user: &str| -> Result<Vec<Range>> {
            let mut container = 0_u32;
            let mut ranges = Vec::new();
            for (host, size) in ids::subordinate(Path::new(file), user)? {
                let size = size.min(u32::MAX - container);
                ranges.push(Range { container, host, size });
                container += size;
            }
            Ok(ranges.into_iter().filter(|range| range.size > 0).collect())
        };
        let (uids, gids) = (of(SUBUID, subuid.unwrap_or(user))?, of(SUBGID, subgid.unwrap_or(user))?);
        return Ok(Some(Maps { uids, gids }));
    }
    let (mut uids, mut gids) = (Vec::new(), Vec::new());
    for (flag, texts) in [("uidmap", &flags.uidmap), ("gidmap", &flags.gidmap)] {
        for text in texts {
            let (users, groups, range) = one(flag, text)?;
            uids.extend((users || (!groups && flag == "uidmap")).then_some(range));
            gids.extend((groups || (!users && flag == "gidmap")).then_some(range));
        }
    }
    Maps::from_flags(&uids, &gids)
}

/// `[FLAGS]CONTAINER[:[@]HOST[:SIZE]]`: whether `u` or `g` was said, and the range.
fn one(flag: &str, text: &str) -> Result<(bool, bool, Range)> {
    let digits = text.trim_start_matches(['+', 'u', 'g']);
    let said = &text[..text.len() - digits.len()];
    if said.contains('+') {
        fault!(
            Unsupported,
            "--{flag} {text}: `+` extends the map of an ordinary user's namespace, and root has none"
        );
    }
    let mut parts = digits.split(':');
    let container = parts.next().unwrap_or_default();
    // `@` means an id of the host, which root's ids are anyway.
    let host = parts.next().unwrap_or(container).trim_start_matches('@');
    let size = parts.next().unwrap_or("1");
    match format!("{container}:{host}:{size}").parse() {
        Ok(range) if parts.next().is_none() => Ok((said.contains('u'), said.contains('g'), range)),
        _ => fault!(
            Usage,
            "invalid argument \"{text}\" for \"--{flag}\" flag: not [FLAGS]CONTAINER[:HOST[:SIZE]]"
        ),
    }
}

fn auto(options: &str) -> Result<Ids> {
    let (mut size, mut uids, mut gids) = (None, Vec::new(), Vec::new());
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "size" => match value.parse::<u32>() {
                Ok(number) if number > 0 && number < u32::MAX => size = Some(number),
                _ => fault!(Usage, "--userns auto: invalid size {value:?}"),
            },
            "uidmapping" => uids.push(value.parse::<Range>().context("--userns auto: uidmapping")?),
            "gidmapping" => gids.push(value.parse::<Range>().context("--userns auto: gidmapping")?),
            _ => fault!(Usage, "--userns auto: unknown option specified: {key:?}"),
        }
    }
    let check = |ranges: &[Range]| Maps::from_flags(ranges, &[]).map(drop);
    check(&uids).and_then(|()| check(&gids)).context("--userns auto")?;
    Ok(Ids::Auto { size, fixed: Maps { uids, gids } })
}

/// `container:NAME`, `ns:PATH`.
fn joined(store: &Store, mode: &str) -> Result<Ids> {
    if let Some(name) = mode.strip_prefix("container:") {
        let other = store.load(&store.resolve(name)?)?;
        return Ok(other.host_config.id_mappings.map_or(Ids::Host, Ids::Joined));
    }
    let Some(path) = mode.strip_prefix("ns:") else { fault!(Usage, "--userns: invalid USER mode: {mode}") };
    let what = || format!("--userns ns:{path}");
    if std::fs::read_link(path)
        .is_ok_and(|to| std::fs::read_link("/proc/self/ns/user").is_ok_and(|own| own == to))
    {
        return Ok(Ids::Host);
    }
    let namespace = File::open(path).with_context(what)?;
    let maps = sys::namespace::held(0, Some(namespace.as_fd()), |pid| Maps::of_process(&pid.to_string()));
    Ok(Ids::Joined(maps.with_context(what)?))
}

impl Ids {
    /// Whether it has to be seen in the image which ids these are.
    pub const fn need_image(&self) -> bool {
        matches!(self, Self::Auto { size: None, .. })
    }

    /// The maps of the container `id`, written down where they are its own. `users`: how many ids the image's users need.
    pub fn settle(&self, store: &Store, id: &str, users: u32) -> Result<Option<Maps>> {
        match self {
            Self::Host => Ok(None),
            Self::Joined(maps) => Ok(Some(maps.clone())),
            Self::Maps(maps) => ledger::note(&store.paths, id, maps).map(|()| Some(maps.clone())),
            Self::Auto { size, fixed } => {
                let wish = ledger::Wish { size: size.unwrap_or(users), fixed: fixed.clone() };
                let host = (
                    ids::subordinate(Path::new(SUBUID), OWNER)?,
                    ids::subordinate(Path::new(SUBGID), OWNER)?,
                );
                let maps = ledger::allot(&store.paths, id, &wish, (&host.0, &host.1));
                maps.map(Some).context("--userns auto")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        flags: SecurityFlags,
    }

    fn ids(args: &[&str]) -> Result<Ids> {
        let dir = tempfile::tempdir().unwrap();
        let only = Only::try_parse_from([&["x"], args].concat()).unwrap();
        read(&Store::at(dir.path(), dir.path()), &only.flags)
    }

    fn maps(uids: &[&str], gids: &[&str]) -> Maps {
        let read = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Maps { uids: read(uids), gids: read(gids) }
    }

    #[test]
    fn maps_as_podman_spells_them() {
        let own = |args: &[&str]| match ids(args).unwrap() {
            Ids::Maps(maps) => maps,
            other => panic!("{other:?}"),
        };
        assert_eq!(own(&["--uidmap", "0:1000:10"]), maps(&["0:1000:10"], &["0:1000:10"]));
        assert_eq!(own(&["--uidmap=0:@5", "--gidmap", "0:7:3"]), maps(&["0:5:1"], &["0:7:3"]));
        assert_eq!(own(&["--uidmap=u0:5:2", "--uidmap=g0:9:2"]), maps(&["0:5:2"], &["0:9:2"]));
        assert_eq!(own(&["--userns", "private"]).uids[0].size, u32::MAX);
        for (args, word) in [
            (&["--uidmap", "x"][..], "--uidmap"),
            (&["--uidmap", "+1:2"], "extends"),
            (&["--uidmap", "0:0:1:1"], "--uidmap"),
            (&["--userns=host", "--uidmap", "0:0:1"], "mutually exclusive"),
            (&["--userns=keep-id:uid=5"], "keep-id is only supported in rootless mode"),
            (&["--userns=nomap"], "nomap is only supported in rootless mode"),
            (&["--userns=bogus"], "invalid USER mode: bogus"),
            (&["--userns=auto:size=x"], "invalid size"),
            (&["--userns=auto:sise=1"], "unknown option specified: \"sise\""),
            (&["--userns=container:none"], "No such container"),
            (&["--userns=ns:/nonexistent"], "ns:/nonexistent"),
        ] {
            let err = format!("{:#}", ids(args).unwrap_err());
            assert!(err.contains(word), "{args:?}: {err}");
        }
    }

    #[test]
    fn auto_and_the_hosts_own() {
        let fixed = maps(&["5:100:1"], &[]);
        assert_eq!(
            ids(&["--userns=auto:size=10,uidmapping=5:100:1"]).unwrap(),
            Ids::Auto { size: Some(10), fixed }
        );
        assert!(ids(&["--userns=auto"]).unwrap().need_image());
        for host in [&["--userns=host"][..], &[], &["--userns=ns:/proc/self/ns/user"]] {
            assert_eq!(ids(host).unwrap(), Ids::Host);
        }
    }
}
