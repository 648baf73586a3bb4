//! Mount options one by one.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::expect::{allowed, holds, mount_at, refused, same};
use crate::case::Case;
use crate::rig::Rig;

const OPTIONS: &str = "config.md#linux-mount-options";

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("options/nosuid", OPTIONS, |rig| shown(rig, "nosuid")),
    Case::new("options/nodev", OPTIONS, |rig| shown(rig, "nodev")),
    Case::new("options/noexec", OPTIONS, |rig| shown(rig, "noexec")),
    Case::new("options/noatime", OPTIONS, |rig| shown(rig, "noatime")),
    Case::new("options/nodiratime", OPTIONS, |rig| shown(rig, "nodiratime")),
    Case::new("options/nosymfollow", OPTIONS, |rig| shown(rig, "nosymfollow")),
    Case::new("options/relatime", OPTIONS, |rig| shown(rig, "relatime")),
    Case::new("options/strictatime", OPTIONS, strict_times),
    Case::new("options/read-only", OPTIONS, read_only),
    Case::new("options/later-wins", OPTIONS, later_wins),
    Case::new("options/mode", OPTIONS, mode),
    Case::new("options/owner", OPTIONS, owner),
    Case::new("options/bind-nosuid", OPTIONS, |rig| bound(rig, "nosuid")),
    Case::new("options/bind-nodev", OPTIONS, |rig| bound(rig, "nodev")),
    Case::new("options/bind-noexec", OPTIONS, bind_noexec),
    Case::new("options/bind-private", OPTIONS, bind_private),
    Case::new("options/recursive-nosuid", OPTIONS, recursive_nosuid),
];

/// Adds a tmpfs on `/t`.
fn tmpfs(rig: &mut Rig<'_>, options: &[&str]) -> Result<()> {
    let mount = json!({"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": options});
    rig.set("/mounts/-", mount).map(drop)
}

/// Adds a bind mount of a directory on `/b`.
fn bind(rig: &mut Rig<'_>, options: &[&str]) -> Result<()> {
    let source = rig.dir.join("source");
    std::fs::create_dir_all(source.join("inner"))?;
    let mount = json!({"destination": "/b", "type": "bind", "source": source, "options": options});
    rig.set("/mounts/-", mount).map(drop)
}

fn shown(rig: &mut Rig<'_>, option: &str) -> Result<()> {
    tmpfs(rig, &[option])?;
    holds("the options of the mount", &mount_at(&rig.facts()?, "/t")?["options"], option)
}

fn bound(rig: &mut Rig<'_>, option: &str) -> Result<()> {
    bind(rig, &["bind", option])?;
    holds("the options of the mount", &mount_at(&rig.facts()?, "/b")?["options"], option)
}

fn strict_times(rig: &mut Rig<'_>) -> Result<()> {
    tmpfs(rig, &["noatime", "strictatime"])?;
    let facts = rig.facts()?;
    let options = &mount_at(&facts, "/t")?["options"];
    let list: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    ensure!(!list.contains(&"relatime") && !list.contains(&"noatime"), "the options are {options}");
    Ok(())
}

fn read_only(rig: &mut Rig<'_>) -> Result<()> {
    tmpfs(rig, &["ro"])?;
    refused(&rig.attempt(&["create /t/file"])?, "create /t/file", &["EROFS"])
}

fn later_wins(rig: &mut Rig<'_>) -> Result<()> {
    tmpfs(rig, &["ro", "noexec", "rw"])?;
    allowed(&rig.attempt(&["create /t/file"])?, "create /t/file").map(drop)
}

fn mode(rig: &mut Rig<'_>) -> Result<()> {
    tmpfs(rig, &["mode=0710"])?;
    let tries = rig.attempt(&["stat /t"])?;
    same("its mode", &allowed(&tries, "stat /t")?["mode"], 0o710)
}

fn owner(rig: &mut Rig<'_>) -> Result<()> {
    tmpfs(rig, &["uid=7", "gid=8"])?;
    let tries = rig.attempt(&["stat /t"])?;
    let found = allowed(&tries, "stat /t")?;
    same("its owner", &found["uid"], 7)?;
    same("its group", &found["gid"], 8)
}

fn bind_noexec(rig: &mut Rig<'_>) -> Result<()> {
    bind(rig, &["bind", "noexec"])?;
    std::fs::copy(rig.inside("/probe"), rig.dir.join("source/probe"))?;
    refused(&rig.attempt(&["exec /b/probe"])?, "exec /b/probe", &["EACCES"])
}

fn bind_private(rig: &mut Rig<'_>) -> Result<()> {
    bind(rig, &["rbind", "rprivate"])?;
    same("its propagation", &mount_at(&rig.facts()?, "/b")?["propagation"], json!([]))
}

fn recursive_nosuid(rig: &mut Rig<'_>) -> Result<()> {
    bind(rig, &["rbind", "rnosuid"])?;
    holds("the options of the mount", &mount_at(&rig.facts()?, "/b")?["options"], "nosuid")
}
