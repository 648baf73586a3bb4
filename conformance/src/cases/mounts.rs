//! `root`, `mounts`, masked and read-only paths.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Result, ensure};
use serde_json::json;

use super::expect::{allowed, holds, mount_at, refused, same};
use crate::case::Case;
use crate::rig::Rig;

const MOUNTS: &str = "config.md#mounts";
const OPTIONS: &str = "config.md#linux-mount-options";

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("root/read-only", "config.md#root", root_read_only),
    Case::new("root/writable", "config.md#root", root_writable),
    Case::new("root/host-is-gone", "config.md#root", host_is_gone),
    Case::new("root/missing", "config.md#root", root_missing),
    Case::new("root/absolute-path", "config.md#root", root_absolute),
    Case::new("mounts/defaults", "config-linux.md#default-filesystems", defaults),
    Case::new("mounts/order", MOUNTS, order),
    Case::new("mounts/tmpfs-options", OPTIONS, tmpfs_options),
    Case::new("mounts/bind", MOUNTS, bind),
    Case::new("mounts/bind-read-only", OPTIONS, bind_read_only),
    Case::new("mounts/bind-file", MOUNTS, bind_file),
    Case::new("mounts/bind-recursive", OPTIONS, bind_recursive),
    Case::new("mounts/recursive-read-only", OPTIONS, recursive_read_only),
    Case::new("mounts/tmpcopyup", OPTIONS, copy_up),
    Case::new("mounts/bind-flags", OPTIONS, bind_flags),
    Case::new("mounts/bind-source-missing", MOUNTS, source_missing),
    Case::new("mounts/bind-relative-source", MOUNTS, relative_source),
    Case::new("mounts/destination-is-made", MOUNTS, destination_is_made),
    Case::new("mounts/destination-symlink", MOUNTS, destination_symlink),
    Case::new("mounts/noexec", OPTIONS, noexec),
    Case::new("mounts/unknown-type", MOUNTS, unknown_type),
    Case::new("mounts/propagation", OPTIONS, propagation),
    Case::new(
        "mounts/rootfs-propagation-private",
        "config-linux.md#rootfs-mount-propagation",
        rootfs_private,
    ),
    Case::new("paths/masked-file", "config-linux.md#masked-paths", masked_file),
    Case::new("paths/masked-directory", "config-linux.md#masked-paths", masked_directory),
    Case::new("paths/masked-missing", "config-linux.md#masked-paths", masked_missing),
    Case::new("paths/read-only", "config-linux.md#readonly-paths", read_only),
    Case::new("paths/read-only-missing", "config-linux.md#readonly-paths", read_only_missing),
];

fn root_read_only(rig: &mut Rig<'_>) -> Result<()> {
    let tries = rig.set("/root/readonly", true)?.attempt(&["create /file", "create /dev/shm/file"])?;
    refused(&tries, "create /file", &["EROFS"])?;
    allowed(&tries, "create /dev/shm/file").map(drop)
}

fn root_writable(rig: &mut Rig<'_>) -> Result<()> {
    allowed(&rig.attempt(&["create /made-inside"])?, "create /made-inside")?;
    ensure!(rig.inside("/made-inside").exists(), "the file is not in the root file system");
    Ok(())
}

fn host_is_gone(rig: &mut Rig<'_>) -> Result<()> {
    let outside = rig.dir.join("container.out");
    let operation = format!("read {}", outside.display());
    let tries = rig.attempt(&[&operation, "list /", "list /.."])?;
    refused(&tries, &operation, &["ENOENT"])?;
    let (root, above) = (allowed(&tries, "list /")?, allowed(&tries, "list /..")?);
    same("the directory above /", above, root.clone())?;
    holds("the names in /", root, "probe")
}

fn root_missing(rig: &mut Rig<'_>) -> Result<()> {
    let run = rig.set("/root/path", "no-such-rootfs")?.run()?.fails()?;
    ensure!(run.stderr.contains("no-such-rootfs"), "the error does not name the path: {}", run.stderr);
    Ok(())
}

fn root_absolute(rig: &mut Rig<'_>) -> Result<()> {
    let path = rig.inside("").to_string_lossy().into_owned();
    rig.set("/root/path", path)?.facts().map(drop)
}

fn defaults(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.facts()?;
    for (target, kind) in [
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
    ] {
        same(target, &mount_at(&facts, target)?["type"], kind)?;
    }
    for option in ["nosuid", "nodev", "noexec"] {
        holds("the options of /proc", &mount_at(&facts, "/proc")?["options"], option)?;
    }
    holds("the options of /sys", &mount_at(&facts, "/sys")?["options"], "ro")
}

fn order(rig: &mut Rig<'_>) -> Result<()> {
    rig.set(
        "/mounts/-",
        json!({"destination": "/tmp", "type": "tmpfs", "source": "one", "options": ["mode=755"]}),
    )?
    .set(
        "/mounts/-",
        json!({"destination": "/tmp", "type": "tmpfs", "source": "two", "options": ["mode=711"]}),
    )?
    .set("/mounts/-", json!({"destination": "/tmp/in", "type": "tmpfs", "source": "three"}))?;
    let facts = rig.facts()?;
    same("the source of /tmp", &mount_at(&facts, "/tmp")?["source"], "two")?;
    same("the source of /tmp/in", &mount_at(&facts, "/tmp/in")?["source"], "three")
}

fn tmpfs_options(rig: &mut Rig<'_>) -> Result<()> {
    let options = ["nosuid", "nodev", "noexec", "mode=0700", "size=1m", "uid=12", "gid=34"];
    rig.set(
        "/mounts/-",
        json!({"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": options}),
    )?;
    let tries = rig.attempt(&["stat /scratch", "read /proc/self/mountinfo"])?;
    let stat = allowed(&tries, "stat /scratch")?;
    same("the mode", &stat["mode"], 0o700)?;
    same("the owner", &json!([stat["uid"], stat["gid"]]), json!([12, 34]))?;
    let mounts = allowed(&tries, "read /proc/self/mountinfo")?.as_str().unwrap_or_default();
    let line = mounts.lines().find(|line| line.contains(" /scratch ")).unwrap_or_default();
    for option in ["nosuid", "nodev", "noexec", "size=1024k"] {
        ensure!(line.contains(option), "{option} is missing in {line:?}");
    }
    Ok(())
}

fn bind(rig: &mut Rig<'_>) -> Result<()> {
    let source = rig.dir.join("data");
    fs::create_dir(&source)?;
    fs::write(source.join("file"), "from the host")?;
    rig.set(
        "/mounts/-",
        json!({"destination": "/data", "type": "bind", "source": source, "options": ["bind", "rw"]}),
    )?;
    let tries = rig.attempt(&["read /data/file", "create /data/new"])?;
    same("the file", allowed(&tries, "read /data/file")?, "from the host")?;
    allowed(&tries, "create /data/new")?;
    ensure!(source.join("new").exists(), "the file made inside is not in the source");
    Ok(())
}

fn bind_read_only(rig: &mut Rig<'_>) -> Result<()> {
    let source = rig.dir.join("data");
    fs::create_dir(&source)?;
    rig.set(
        "/mounts/-",
        json!({"destination": "/data", "type": "bind", "source": source, "options": ["rbind", "ro"]}),
    )?;
    let tries = rig.attempt(&["create /data/new", "remount-rw /data"])?;
    refused(&tries, "create /data/new", &["EROFS"])?;
    refused(&tries, "remount-rw /data", &["EPERM"])
}

fn bind_file(rig: &mut Rig<'_>) -> Result<()> {
    let source = rig.dir.join("hosts");
    fs::write(&source, "127.0.0.1 localhost")?;
    rig.set(
        "/mounts/-",
        json!({"destination": "/etc/hosts", "type": "bind", "source": source, "options": ["bind", "ro"]}),
    )?;
    let tries = rig.attempt(&["read /etc/hosts"])?;
    same("the file", allowed(&tries, "read /etc/hosts")?, "127.0.0.1 localhost")
}

fn bind_recursive(rig: &mut Rig<'_>) -> Result<()> {
    // The host's /proc/sys tree would do, but every machine has /dev with mounts below it.
    rig.set(
        "/mounts/-",
        json!({"destination": "/tree", "type": "bind", "source": "/dev", "options": ["rbind", "ro"]}),
    )?
    .set(
        "/mounts/-",
        json!({"destination": "/flat", "type": "bind", "source": "/dev", "options": ["bind", "ro"]}),
    )?;
    let facts = rig.facts()?;
    let below = |target: &str| {
        let all = facts["mounts"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter()
            .filter(|mount| mount["target"].as_str().is_some_and(|path| path.starts_with(target)))
            .count()
    };
    ensure!(below("/flat/") == 0, "bind brought {} mounts from below the source", below("/flat/"));
    let host = fs::read_to_string("/proc/self/mountinfo")?;
    let wanted = host
        .lines()
        .filter(|line| line.split(' ').nth(4).is_some_and(|path| path.starts_with("/dev/")))
        .count();
    ensure!(below("/tree/") >= wanted.min(1), "rbind brought {} of {wanted} mounts", below("/tree/"));
    Ok(())
}

fn recursive_read_only(rig: &mut Rig<'_>) -> Result<()> {
    rig.set(
        "/mounts/-",
        json!({"destination": "/tree", "type": "bind", "source": "/dev", "options": ["rbind", "rro"]}),
    )?;
    let facts = rig.facts()?;
    let all = facts["mounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    for mount in
        all.iter().filter(|mount| mount["target"].as_str().is_some_and(|path| path.starts_with("/tree")))
    {
        holds(&format!("the options of {}", mount["target"]), &mount["options"], "ro")?;
    }
    mount_at(&facts, "/tree").map(drop)
}

fn copy_up(rig: &mut Rig<'_>) -> Result<()> {
    let options = ["tmpcopyup"];
    rig.set(
        "/mounts/-",
        json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": options}),
    )?;
    let tries = rig.attempt(&["read /etc/passwd", "create /etc/new"])?;
    ensure!(
        allowed(&tries, "read /etc/passwd")?.as_str().is_some_and(|text| text.contains("root:")),
        "not copied"
    );
    allowed(&tries, "create /etc/new")?;
    ensure!(!rig.inside("/etc/new").exists(), "the file landed in the root file system");
    Ok(())
}

fn bind_flags(rig: &mut Rig<'_>) -> Result<()> {
    let source = rig.dir.join("data");
    fs::create_dir(&source)?;
    let options = ["bind", "nosuid", "nodev", "noexec", "noatime"];
    rig.set(
        "/mounts/-",
        json!({"destination": "/data", "type": "bind", "source": source, "options": options}),
    )?;
    let facts = rig.facts()?;
    let mount = mount_at(&facts, "/data")?;
    for option in ["rw", "nosuid", "nodev", "noexec", "noatime"] {
        holds("the options of /data", &mount["options"], option)?;
    }
    Ok(())
}

fn source_missing(rig: &mut Rig<'_>) -> Result<()> {
    let mount =
        json!({"destination": "/data", "type": "bind", "source": "/no/such/source", "options": ["bind"]});
    let run = rig.set("/mounts/-", mount)?.run()?.fails()?;
    ensure!(run.stderr.contains("/no/such/source"), "the error does not name the source: {}", run.stderr);
    Ok(())
}

fn relative_source(rig: &mut Rig<'_>) -> Result<()> {
    fs::create_dir(rig.bundle().join("data"))?;
    fs::write(rig.bundle().join("data/file"), "beside config.json")?;
    rig.set(
        "/mounts/-",
        json!({"destination": "/data", "type": "bind", "source": "data", "options": ["bind"]}),
    )?;
    same("the file", allowed(&rig.attempt(&["read /data/file"])?, "read /data/file")?, "beside config.json")
}

fn destination_is_made(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/mounts/-", json!({"destination": "/deep/er/still", "type": "tmpfs", "source": "tmpfs"}))?;
    let facts = rig.facts()?;
    mount_at(&facts, "/deep/er/still").map(drop)
}

fn destination_symlink(rig: &mut Rig<'_>) -> Result<()> {
    // A link to an absolute path means a place in the container, never on the host.
    let outside = rig.dir.join("outside");
    fs::create_dir(&outside)?;
    symlink(&outside, rig.inside("/link"))?;
    rig.set("/mounts/-", json!({"destination": "/link/made", "type": "tmpfs", "source": "tmpfs"}))?;
    let run = rig.program(&["facts"])?.run()?;
    ensure!(fs::read_dir(&outside)?.next().is_none(), "a directory was made on the host");
    ensure!(run.code < 128, "ended by a signal");
    Ok(())
}

fn noexec(rig: &mut Rig<'_>) -> Result<()> {
    let source = rig.inside("/bin");
    fs::hard_link(rig.inside("/probe"), rig.inside("/bin/probe"))?;
    rig.set(
        "/mounts/-",
        json!({"destination": "/bin", "type": "bind", "source": source, "options": ["bind", "noexec"]}),
    )?;
    let tries = rig.attempt(&["exec /probe", "exec /bin/probe"])?;
    same("the exit code", allowed(&tries, "exec /probe")?, 0)?;
    refused(&tries, "exec /bin/probe", &["EACCES"])
}

fn unknown_type(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/mounts/-", json!({"destination": "/tmp", "type": "nosuchfs", "source": "none"}))?
        .run()?
        .fails()?;
    Ok(())
}

fn propagation(rig: &mut Rig<'_>) -> Result<()> {
    for (path, kind) in [("/s", "shared"), ("/p", "private"), ("/u", "unbindable")] {
        rig.set(
            "/mounts/-",
            json!({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": [kind]}),
        )?;
    }
    let facts = rig.facts()?;
    let of = |path| anyhow::Ok(mount_at(&facts, path)?["propagation"].to_string());
    ensure!(of("/s")?.contains("shared:"), "/s is {}", of("/s")?);
    ensure!(of("/p")? == "[]", "/p is {}", of("/p")?);
    ensure!(of("/u")?.contains("unbindable"), "/u is {}", of("/u")?);
    Ok(())
}

fn rootfs_private(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.set("/linux/rootfsPropagation", "private")?.facts()?;
    same("the propagation of /", &mount_at(&facts, "/")?["propagation"], json!([]))
}

fn masked_file(rig: &mut Rig<'_>) -> Result<()> {
    fs::write(rig.inside("/secret"), "secret")?;
    let tries = rig.set("/linux/maskedPaths/-", "/secret")?.attempt(&["read /secret", "stat /secret"])?;
    same("the masked file", allowed(&tries, "read /secret")?, "")?;
    let stat = allowed(&tries, "stat /secret")?;
    same("the mask", &json!([stat["type"], stat["major"], stat["minor"]]), json!(["char", 1, 3]))
}

fn masked_directory(rig: &mut Rig<'_>) -> Result<()> {
    fs::create_dir(rig.inside("/secret"))?;
    fs::write(rig.inside("/secret/file"), "secret")?;
    let tries =
        rig.set("/linux/maskedPaths/-", "/secret")?.attempt(&["list /secret", "create /secret/new"])?;
    same("the masked directory", allowed(&tries, "list /secret")?, json!([]))?;
    refused(&tries, "create /secret/new", &["EROFS"])
}

fn masked_missing(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/maskedPaths/-", "/no/such/path")?.facts().map(drop)
}

fn read_only(rig: &mut Rig<'_>) -> Result<()> {
    fs::create_dir(rig.inside("/fixed"))?;
    fs::write(rig.inside("/fixed/file"), "text")?;
    let tries = rig.set("/linux/readonlyPaths/-", "/fixed")?.attempt(&[
        "read /fixed/file",
        "create /fixed/new",
        "write /fixed/file x",
        "write /proc/sys/kernel/hostname x",
    ])?;
    same("the file", allowed(&tries, "read /fixed/file")?, "text")?;
    refused(&tries, "create /fixed/new", &["EROFS"])?;
    refused(&tries, "write /fixed/file x", &["EROFS"])?;
    refused(&tries, "write /proc/sys/kernel/hostname x", &["EROFS", "EACCES"])
}

fn read_only_missing(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/readonlyPaths/-", "/no/such/path")?.facts().map(drop)
}
