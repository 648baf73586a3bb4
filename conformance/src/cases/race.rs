//! A container that shares a directory with others, and exchanges names in it while they are started.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};

use crate::case::Case;
use crate::rig::Rig;
use crate::tool::Finished;

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("race/mount-destination-is-exchanged", "config.md#mounts", mount_destination),
    Case::new("race/null-is-exchanged", "config-linux.md#masked-paths", null),
    Case::new("race/mask-is-exchanged", "config-linux.md#masked-paths", mask),
    Case::new("race/device-is-exchanged", "config-linux.md#devices", device),
];

/// How often a victim is started. The attacker exchanges thousands of times during each start.
const STARTS: u32 = 40;

/// A bind mount that its container may write to.
fn bind(source: &Path, destination: &str) -> Value {
    json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind", "rw"]})
}

/// Starts a container that exchanges `names` of `volume` for as long as it lives. What `victim` then makes of the
/// configuration is started again and again; `check` sees how each start ended.
fn attack(
    rig: &mut Rig<'_>,
    (volume, names): (&Path, [&str; 2]),
    victim: impl FnOnce(&mut Rig<'_>) -> Result<()>,
    check: impl Fn(&Finished) -> Result<()>,
) -> Result<()> {
    let harmless = rig.config.clone();
    let [one, two] = names.map(|name| format!("/volume/{name}"));
    rig.set("/mounts/-", bind(volume, "/volume"))?.program(&["exchange", &one, &two])?.create()?.ok()?;
    rig.call(&["start", &rig.id])?.ok()?;
    rig.until("names are exchanged", |rig| Ok(rig.output()?.contains("ready")))?;

    rig.config = harmless;
    victim(rig)?;
    let id = format!("{}-victim", rig.id);
    rig.set("/linux/cgroupsPath", rig.cgroups_path(&id))?.write_config()?;
    rig.others.push(id.clone());
    let bundle = rig.bundle();
    let (mut seen, mut started) = (BTreeSet::new(), 0);
    for _ in 0..STARTS {
        seen.insert(fs::symlink_metadata(volume.join(names[0]))?.is_symlink());
        let run = rig.call(&["run", "--bundle", &bundle.to_string_lossy(), &id])?;
        check(&run)?;
        started += u32::from(run.code == 0);
        if run.code != 0 {
            rig.call(&["delete", "--force", &id])?;
        }
    }
    let status = rig.state()?["status"].clone();
    ensure!(status == "running" && seen.len() == 2, "nothing was exchanged: the attacker is {status}");
    ensure!(started > 0, "no start succeeded: nothing was tried");
    Ok(())
}

/// An empty directory of the case.
fn directory(rig: &Rig<'_>, name: &str) -> Result<PathBuf> {
    let path = rig.dir.join(name);
    fs::create_dir_all(&path)?;
    Ok(path)
}

/// CVE-2021-30465: the second mount, led astray, puts `data` over `host`, so that the source of the third is a link to
/// the host's root. CVE-2024-45310: a place for a mount is made outside.
fn mount_destination(rig: &mut Rig<'_>) -> Result<()> {
    let (volume, data, host) = (directory(rig, "volume")?, directory(rig, "data")?, directory(rig, "host")?);
    fs::create_dir(volume.join("way"))?;
    symlink(&host, volume.join("link"))?;
    symlink("/", data.join("source"))?;
    fs::create_dir(host.join("source"))?;
    fs::write(host.join("source/wanted"), "")?;
    let mounts = [
        bind(&volume, "/volume"),
        bind(&data, "/volume/way"),
        bind(&host.join("source"), "/third"),
        json!({"destination": "/volume/way/made/deep", "type": "tmpfs", "source": "tmpfs"}),
    ];
    let victim = |rig: &mut Rig<'_>| {
        for mount in mounts {
            rig.set("/mounts/-", mount)?;
        }
        rig.program(&["try", "list /third"]).map(drop)
    };
    attack(rig, (&volume, ["way", "link"]), victim, |run| {
        if run.code != 0 {
            return Ok(());
        }
        let seen: Value = serde_json::from_str(&run.stdout).context("what the victim saw")?;
        let names = &seen["list /third"]["data"];
        ensure!(*names == json!(["wanted"]), "the third mount shows {names}");
        Ok(())
    })?;
    let left: Vec<_> = fs::read_dir(&host)?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(left == ["source"], "made on the host: {left:?}");
    Ok(())
}

/// The host's file that a link leads to, and whether it is as it was.
fn untouched(file: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(file)?;
    let text = fs::read_to_string(file)?;
    ensure!(
        meta.uid() == 0 && meta.mode() & 0o7777 == 0o600 && text == "host data",
        "the host's file now has the owner {}, the mode {:o} and the text {text:?}",
        meta.uid(),
        meta.mode()
    );
    Ok(())
}

fn host_file(rig: &Rig<'_>) -> Result<PathBuf> {
    let file = rig.dir.join("host-file");
    fs::write(&file, "host data")?;
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(file)
}

fn make_null(path: &Path) -> Result<()> {
    Ok(mknod(path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3))?)
}

/// A successful run read a masked file: it must have been empty.
fn was_masked(run: &Finished, path: &str) -> Result<()> {
    if run.code != 0 {
        return Ok(());
    }
    let seen: Value = serde_json::from_str(&run.stdout).context("what the victim saw")?;
    let text = &seen[format!("read {path}")]["data"];
    ensure!(*text == "" || text.is_null(), "the masked file shows {text}");
    Ok(())
}

/// CVE-2025-31133: a mask is made of what stands at `/dev/null`. CVE-2026-88265: and the program's stdio, given to its
/// user.
fn null(rig: &mut Rig<'_>) -> Result<()> {
    let (volume, file) = (directory(rig, "devices")?, host_file(rig)?);
    make_null(&volume.join("null"))?;
    symlink(&file, volume.join("link"))?;
    fs::write(rig.inside("/secret"), "secret")?;
    let victim = |rig: &mut Rig<'_>| {
        if let Some(Value::Array(mounts)) = rig.config.pointer_mut("/mounts") {
            mounts
                .retain(|mount| !mount["destination"].as_str().is_some_and(|path| path.starts_with("/dev")));
        }
        rig.set("/mounts/-", bind(&volume, "/dev"))?.set("/linux/maskedPaths/-", "/secret")?;
        rig.set("/process/user", json!({"uid": 0, "gid": 1234}))?;
        rig.program(&["try", "read /secret"]).map(drop)
    };
    attack(rig, (&volume, ["null", "link"]), victim, |run| was_masked(run, "/secret"))?;
    untouched(&file)
}

/// A masked file turns into a link out of the container: the mask must not land there.
fn mask(rig: &mut Rig<'_>) -> Result<()> {
    let (volume, file) = (directory(rig, "volume")?, host_file(rig)?);
    fs::write(volume.join("secret"), "secret")?;
    symlink(&file, volume.join("link"))?;
    let victim = |rig: &mut Rig<'_>| {
        rig.set("/mounts/-", bind(&volume, "/volume"))?;
        rig.set("/linux/maskedPaths/-", "/volume/secret")?.set("/linux/readonlyPaths/-", "/volume/secret")?;
        rig.program(&["try", "uid"]).map(drop)
    };
    attack(rig, (&volume, ["secret", "link"]), victim, |_| Ok(()))?;
    untouched(&file)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(&*file.to_string_lossy()), "the mask landed on the host");
    Ok(())
}

/// A device that is there already turns into a link out of the container: its mode and owner are not for what the link
/// leads to.
fn device(rig: &mut Rig<'_>) -> Result<()> {
    let (volume, file) = (directory(rig, "volume")?, host_file(rig)?);
    make_null(&volume.join("node"))?;
    symlink(&file, volume.join("link"))?;
    let node = json!({"path": "/volume/node", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 7, "gid": 7});
    let victim = |rig: &mut Rig<'_>| {
        rig.set("/mounts/-", bind(&volume, "/volume"))?.set("/linux/devices", vec![node; 16])?;
        rig.program(&["try", "uid"]).map(drop)
    };
    attack(rig, (&volume, ["node", "link"]), victim, |_| Ok(()))?;
    untouched(&file)
}
