//! An ordinary user's store: files of many owners need a user namespace with the ids that `/etc/subuid` and `/etc/subgid`
//! give the user, mapped as podman maps them: the user is root, the ranges follow from 1 on.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use contracts::fault;
use contracts::paths::Paths;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{User, getegid, geteuid};

/// Tells commands inside who the user is outside.
const UID: &str = "_BULKHEAD_ROOTLESS_UID";

/// Runs this command again in the user's own namespaces, where it may give files away and mount; returns where it is
/// there, runs as root, or the machine lets ordinary users have no namespaces.
///
/// # Errors
/// The ids cannot be mapped.
pub fn enter() -> Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    let program = Command::new("/proc/self/exe");
    enter_with(program, env::args_os().skip(1).collect())
}

/// Runs `program` with `arguments` in the user's own namespaces; root runs it where it is.
///
/// # Errors
/// It cannot be executed; the ids cannot be mapped.
pub fn execute(program: &OsStr, arguments: Vec<OsString>) -> Result<()> {
    if !geteuid().is_root() {
        enter_with(Command::new(program), arguments)?;
        fault!(Denied, "this machine gives ordinary users no user namespaces");
    }
    let err = Command::new(program).args(arguments).exec();
    Err(err).with_context(|| format!("execute {}", program.display()))
}

fn enter_with(mut program: Command, arguments: Vec<OsString>) -> Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let ranges =
        |file: &str| ranges(&fs::read_to_string(file).unwrap_or_default(), name.as_deref(), uid.as_raw());
    let (uids, gids) = (ranges("/etc/subuid"), ranges("/etc/subgid"));
    let paths = Paths::from_env();
    // Started before: it must stay outside to be allowed what it does.
    let helper = (!uids.is_empty() && !gids.is_empty()).then(|| {
        let script = "read -r go && newuidmap $1 $2 && newgidmap $1 $3";
        let pid = std::process::id().to_string();
        Command::new("sh")
            .args(["-c", script, "sh", &pid, &map(uid.as_raw(), &uids), &map(gid.as_raw(), &gids)])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run newuidmap")
    });
    let helper = helper.transpose()?;
    match unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS) {
        Ok(()) => {}
        // Without them most commands work too, and files belong to the user.
        Err(Errno::EPERM | Errno::ENOSPC | Errno::EINVAL | Errno::EUSERS) => return Ok(()),
        Err(err) => return Err(err).context("make a user namespace"),
    }
    if let Some(mut helper) = helper {
        if let Some(mut stdin) = helper.stdin.take() {
            stdin.write_all(b"go\n").context("map ids")?;
        }
        let done = helper.wait_with_output().context("map ids")?;
        if !done.status.success() {
            let why = String::from_utf8_lossy(&done.stderr);
            fault!(Denied, "map the ids of /etc/subuid and /etc/subgid: {}", why.trim().replace('\n', "; "));
        }
    } else {
        // One id only: what others own in an image is the user's.
        for (file, text) in [
            ("setgroups", "deny".into()),
            ("uid_map", format!("0 {uid} 1")),
            ("gid_map", format!("0 {gid} 1")),
        ] {
            fs::write(format!("/proc/self/{file}"), text).with_context(|| format!("write {file}"))?;
        }
    }
    program
        .args(arguments)
        .env(UID, uid.to_string())
        .env("BULKHEAD_STATE", paths.state)
        .env("BULKHEAD_STORE", paths.store)
        .env("BULKHEAD_CONFIG", paths.config);
    Err(program.exec()).with_context(|| format!("execute {}", program.get_program().display()))
}

/// The user's id outside of the namespace.
#[must_use]
pub fn uid() -> u32 {
    let told = env::var(UID).ok().and_then(|text| text.parse().ok());
    told.filter(|_| sys::namespace::in_user_namespace()).unwrap_or_else(|| geteuid().as_raw())
}

/// Whether this is the machine's own root: only it has trusted attributes and makes devices.
#[must_use]
pub fn is_real_root() -> bool {
    static REAL: OnceLock<bool> = OnceLock::new();
    *REAL.get_or_init(|| geteuid().is_root() && !sys::namespace::in_user_namespace())
}

/// Whether files can be given to others: by root, also of a user namespace with more ids than one.
#[must_use]
pub fn gives_away() -> bool {
    static GIVES: OnceLock<bool> = OnceLock::new();
    *GIVES.get_or_init(|| {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let ids = map.lines().filter_map(|line| line.split_ascii_whitespace().nth(2)?.parse::<u64>().ok());
        geteuid().is_root() && ids.sum::<u64>() > 1
    })
}

/// The ranges that a file like `/etc/subuid` gives a user, by name or number.
fn ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        let owner = fields.next();
        if owner.is_none() || (owner != name && owner != Some(&number)) {
            continue;
        }
        if let (Some(Ok(start)), Some(Ok(count))) =
            (fields.next().map(str::parse), fields.next().map(str::parse))
            && count > 0
        {
            found.push((start, count));
        }
    }
    found
}

/// The arguments of newuidmap: the user is 0, the ranges follow.
fn map(own: u32, ranges: &[(u32, u32)]) -> String {
    let mut text = format!("0 {own} 1");
    let mut next: u32 = 1;
    for (start, count) in ranges {
        let count = (*count).min(u32::MAX - next);
        text += &format!(" {next} {start} {count}");
        next += count;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{map, ranges};

    #[test]
    fn ranges_follow_the_user() {
        let text = "root:100000:65536\nme:200000:65536\n# me:1:1\n1000:400000:10\nme:x:1\nme:5:0\n";
        let found = ranges(text, Some("me"), 1000);
        assert_eq!(found, [(200_000, 65536), (400_000, 10)]);
        assert_eq!(map(1000, &found), "0 1000 1 1 200000 65536 65537 400000 10");
        assert_eq!(ranges(text, None, 7), []);
    }
}
