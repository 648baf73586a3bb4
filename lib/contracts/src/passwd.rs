//! Who a container's process is: a user spec (`name|uid[:group|gid]`) looked up in the rootfs' own account files.
//!
//! The files belong to the image and are hostile: they are read through a [`Root`], only where they are regular
//! files, and only up to [`LIMIT`]. Nothing here asks the host's name services.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sys::path::Root;

use crate::fault;

/// Largest `/etc/passwd` or `/etc/group` that is read, in bytes.
pub const LIMIT: u64 = 4 << 20;

/// A resolved user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Groups that list the user as a member; empty where the spec names a group (as Docker does).
    pub additional_gids: Vec<u32>,
    /// Home directory as the rootfs says; `/` where it says nothing.
    pub home: String,
}

/// Resolves `spec` in the rootfs `root`. An empty spec, or an empty user part, means uid 0; a number is never
/// looked up as a name.
///
/// # Errors
/// A name that the rootfs does not know, a number that is no valid id, account files that are not plain files.
pub fn resolve(root: &Root, spec: &str) -> Result<User> {
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let accounts = read(root, "/etc/passwd")?;
    let wanted = if user.is_empty() { Ok(0) } else { parse_id(user)?.ok_or(user) };
    let found = accounts.lines().filter_map(Account::parse).find(|account| match wanted {
        Ok(uid) => account.uid == uid,
        Err(name) => account.name == name,
    });
    let mut resolved = match (&found, wanted) {
        (Some(account), _) => User {
            uid: account.uid,
            gid: account.gid,
            additional_gids: Vec::new(),
            home: if account.home.starts_with('/') { account.home.to_owned() } else { "/".into() },
        },
        (None, Ok(uid)) => User { uid, home: "/".into(), ..User::default() },
        (None, Err(name)) => {
            fault!(NotFound, "unable to find user {}: no matching entries in passwd file", shown(name))
        }
    };
    // Opened only when it can matter, so that a numeric `uid:gid` works on an image with a broken group file.
    match group.map(|group| Ok::<_, anyhow::Error>((group, parse_id(group)?))).transpose()? {
        Some((_, Some(gid))) => resolved.gid = gid,
        Some((name, None)) => {
            let groups = read(root, "/etc/group")?;
            let Some(entry) = groups.lines().filter_map(Group::parse).find(|entry| entry.name == name) else {
                fault!(NotFound, "unable to find group {}: no matching entries in group file", shown(name))
            };
            resolved.gid = entry.gid;
        }
        None => {
            if let Some(account) = found {
                let groups = read(root, "/etc/group")?;
                resolved.additional_gids = memberships(&groups, account.name, resolved.gid);
            }
        }
    }
    Ok(resolved)
}

/// The id of a group spec (`name|gid`) in the rootfs.
///
/// # Errors
/// As [`resolve`].
pub fn group(root: &Root, spec: &str) -> Result<u32> {
    if let Some(gid) = parse_id(spec)? {
        return Ok(gid);
    }
    let groups = read(root, "/etc/group")?;
    match groups.lines().filter_map(Group::parse).find(|entry| entry.name == spec) {
        Some(entry) => Ok(entry.gid),
        None => fault!(NotFound, "unable to find group {}: no matching entries in group file", shown(spec)),
    }
}

/// A decimal id, or `None` where the text is a name. `4294967295` is `(uid_t)-1`, "leave it alone" to every
/// system call, and a larger number would wrap to another user (CVE-2024-40635).
fn parse_id(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id != u32::MAX => Ok(Some(id)),
        _ => fault!(Usage, "invalid id {}: ids are 0 to {}", shown(text), u32::MAX - 1),
    }
}

fn memberships(groups: &str, name: &str, primary: u32) -> Vec<u32> {
    let mut gids: Vec<u32> = Vec::new();
    for entry in groups.lines().filter_map(Group::parse) {
        if entry.members.split(',').any(|member| member == name) && entry.gid != primary {
            gids.push(entry.gid);
        }
    }
    gids.sort_unstable();
    gids.dedup();
    gids
}

fn read(root: &Root, path: &str) -> Result<String> {
    match root.read(Path::new(path), LIMIT) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(err) if matches!(err.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENOTDIR)) => {
            Ok(String::new())
        }
        Err(err) => Err(err).with_context(|| format!("read {path} of the root file system")),
    }
}

/// Names come from images and command lines: shown short and without control characters.
fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_default).collect()
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Account<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let uid = parse_id(fields.nth(1)?.trim()).ok()??;
        let gid = parse_id(fields.next()?.trim()).ok()??;
        Some(Self { name, uid, gid, home: fields.nth(1).unwrap_or("/") })
    }
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> Group<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = parse_id(fields.nth(1)?.trim()).ok()??;
        Some(Self { name, gid, members: fields.next().unwrap_or("").trim_end() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rootfs(passwd: &str, group: &str) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(dir.path().join("etc/group"), group).unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/false\n7:x:70:71::/n:/x\nbad\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:web,other\nweb:x:34:web\nmail:x:8:a,web\n";

    fn user(uid: u32, gid: u32, more: &[u32], home: &str) -> User {
        User { uid, gid, additional_gids: more.to_vec(), home: home.into() }
    }

    #[test]
    fn names_numbers_and_groups() {
        let (_dir, root) = rootfs(PASSWD, GROUP);
        for (spec, expect) in [
            ("", user(0, 0, &[], "/root")),
            ("web", user(33, 34, &[4, 8], "/srv")),
            ("33", user(33, 34, &[4, 8], "/srv")),
            ("web:adm", user(33, 4, &[], "/srv")),
            ("web:99", user(33, 99, &[], "/srv")),
            ("7", user(7, 0, &[], "/")),
            ("1000:1000", user(1000, 1000, &[], "/")),
            (":mail", user(0, 8, &[], "/root")),
        ] {
            assert_eq!(resolve(&root, spec).unwrap(), expect, "{spec:?}");
        }
    }

    #[test]
    fn unknown_and_overflowing_are_refused() {
        let (_dir, root) = rootfs(PASSWD, GROUP);
        for spec in [
            "nobody",
            "web:nogroup",
            "4294967296",
            "4294967295",
            "0:4294967296",
            "-1",
            "99999999999999999999",
        ] {
            assert!(resolve(&root, spec).is_err(), "{spec}");
        }
    }

    #[test]
    fn account_files_that_are_links_or_pipes_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(resolve(&root, "5").unwrap().uid, 5);
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/../../../etc/passwd", dir.path().join("etc/passwd")).unwrap();
        assert!(resolve(&root, "root").is_err(), "the host's passwd is not read");
        std::fs::remove_file(dir.path().join("etc/passwd")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("etc/passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(resolve(&root, "0").is_err());
    }
}
