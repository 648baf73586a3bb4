//! Hostile and broken input, and death at any moment: one clear error, nothing half-made, nothing lost.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::expect::refused;
use crate::case::Case;
use crate::kernel;
use crate::rig::Rig;

const BUNDLE: &str = "bundle.md#filesystem-bundle";
const ERRORS: &str = "runtime.md#errors";

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("evil/config-missing", BUNDLE, config_missing),
    Case::new("evil/config-broken", "config.md#configuration", config_broken),
    Case::new("evil/config-wrong-types", "config.md#configuration", wrong_types),
    Case::new("evil/config-unknown-fields", "config.md#extensibility", unknown_fields),
    Case::new("evil/config-version", "config.md#specification-version", version),
    Case::new("evil/config-without-process", "config.md#process", without_process),
    Case::new("evil/config-huge", "config.md#configuration", huge),
    Case::new("evil/bundle-missing", BUNDLE, bundle_missing),
    Case::new("evil/ids", "runtime.md#create", ids),
    Case::new("evil/cwd-through-descriptor", "config.md#process", cwd_through_descriptor),
    Case::new("evil/proc-is-a-symlink", "config.md#mounts", proc_symlink),
    Case::new("evil/dev-is-a-symlink", "config-linux.md#default-devices", dev_symlink),
    Case::new("evil/sys-is-a-symlink", "config.md#mounts", sys_symlink),
    Case::new("evil/null-is-a-symlink", "config-linux.md#default-devices", null_symlink),
    Case::new("evil/exec-cwd-through-descriptor", "runtime.md#operations", exec_cwd),
    Case::new("evil/masked-path-is-a-symlink", "config-linux.md#masked-paths", masked_symlink),
    Case::new("evil/mount-on-a-symlink", "config.md#mounts", mount_symlink),
    Case::new("evil/runtime-binary-is-safe", "runtime.md#scope-of-a-container", binary_is_safe),
    Case::new("evil/killed-in-create", ERRORS, killed_in_create),
    Case::new("evil/killed-in-start", ERRORS, killed_in_start),
    Case::new("evil/killed-in-delete", ERRORS, killed_in_delete),
    Case::new("evil/state-broken", ERRORS, state_broken),
];

/// `create` with these bytes as config.json must fail in words and leave nothing.
fn rejected(rig: &Rig<'_>, what: &str, bytes: &[u8]) -> Result<()> {
    fs::write(rig.bundle().join("config.json"), bytes)?;
    let bundle = rig.bundle();
    let run = rig.call(&["create", "--bundle", &bundle.to_string_lossy(), &rig.id])?;
    run.fails().with_context(|| format!("config.json: {what}"))?;
    let left =
        fs::read_dir(rig.dir.join("state"))?.flatten().find(|entry| entry.file_name() == rig.id.as_str());
    ensure!(left.is_none(), "config.json: {what}: a state directory is left");
    Ok(())
}

fn config_missing(rig: &mut Rig<'_>) -> Result<()> {
    let bundle = rig.bundle();
    let run = rig.call(&["create", "--bundle", &bundle.to_string_lossy(), &rig.id])?.fails()?;
    ensure!(run.stderr.contains("config.json"), "the error does not name the file: {}", run.stderr);
    Ok(())
}

fn config_broken(rig: &mut Rig<'_>) -> Result<()> {
    let whole = rig.config.to_string();
    let half = &whole.as_bytes()[..whole.len() / 2];
    for (what, bytes) in [
        ("empty", &b""[..]),
        ("spaces", b"  \n"),
        ("not JSON", b"hello"),
        ("a list", b"[]"),
        ("null", b"null"),
        ("an empty object", b"{}"),
        ("not UTF-8", b"\xff\xfe{}"),
        ("cut off", half),
        ("zeros", &[0; 4096]),
    ] {
        rejected(rig, what, bytes)?;
    }
    let deep = "[".repeat(100_000);
    rejected(rig, "100,000 brackets", deep.as_bytes())
}

fn wrong_types(rig: &mut Rig<'_>) -> Result<()> {
    for (pointer, value) in [
        ("/process", json!([])),
        ("/process/args", json!("true")),
        ("/process/args", json!([1])),
        ("/process/user", json!("root")),
        ("/process/user/uid", json!(-1)),
        ("/process/user/uid", json!(4_294_967_296_u64)),
        ("/process/env", json!({"A": "b"})),
        ("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": -1, "hard": "x"}])),
        ("/root", json!("rootfs")),
        ("/mounts", json!({"destination": "/x"})),
        ("/mounts/0/options", json!("ro")),
        ("/linux/namespaces", json!("pid")),
        ("/linux/resources", json!({"memory": {"limit": "1g"}})),
        ("/linux/seccomp", json!({"defaultAction": 7})),
        ("/hostname", json!(["a"])),
    ] {
        let mut config = rig.config.clone();
        crate::bundle::set(&mut config, pointer, value.clone())?;
        rejected(rig, &format!("{pointer} is {value}"), config.to_string().as_bytes())?;
    }
    Ok(())
}

fn unknown_fields(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/com.example.future", json!({"a": [1]}))?.set("/process/com.example.more", 1)?.facts().map(drop)
}

fn version(rig: &mut Rig<'_>) -> Result<()> {
    for wrong in ["", "banana", "99.0.0"] {
        let mut config = rig.config.clone();
        crate::bundle::set(&mut config, "/ociVersion", wrong.into())?;
        rejected(rig, &format!("ociVersion {wrong:?}"), config.to_string().as_bytes())?;
    }
    rig.set("/ociVersion", "1.0.0")?.facts().map(drop)
}

fn without_process(rig: &mut Rig<'_>) -> Result<()> {
    rig.remove("", "process").run()?.fails().map(drop)
}

fn huge(rig: &mut Rig<'_>) -> Result<()> {
    // Far beyond one netlink or pipe message (CVE-2021-43784), yet legal.
    let many: Vec<String> = (0..3000).map(|n| format!("VARIABLE_{n}={}", "x".repeat(40))).collect();
    rig.set("/annotations", json!({"big": "y".repeat(300_000)}))?.set("/process/env", many)?;
    let run = rig.program(&["exit", "5"])?.run()?;
    run.exits(5).map(drop)
}

fn bundle_missing(rig: &mut Rig<'_>) -> Result<()> {
    let run = rig.call(&["create", "--bundle", "/no/such/bundle", &rig.id])?.fails()?;
    ensure!(run.stderr.contains("/no/such/bundle"), "the error does not name the bundle: {}", run.stderr);
    Ok(())
}

fn ids(rig: &mut Rig<'_>) -> Result<()> {
    rig.write_config()?;
    let bundle = rig.bundle();
    let bundle = bundle.to_string_lossy();
    let before: Vec<_> = fs::read_dir(&rig.dir)?.flatten().map(|entry| entry.file_name()).collect();
    for id in ["../escaped", "..", ".", "a/b", "/abs", "a b", "a\nb", "ä", ""] {
        let run = rig.call(&["create", "--bundle", &bundle, id])?;
        let failed = run.fails().with_context(|| format!("create with the id {id:?}"));
        if failed.is_err() {
            let _ = rig.call(&["delete", "--force", id]);
        }
        failed?;
    }
    for verb in ["state", "delete"] {
        rig.call(&[verb, "../../state"])?.fails().with_context(|| format!("{verb} ../../state"))?;
    }
    let after: Vec<_> = fs::read_dir(&rig.dir)?.flatten().map(|entry| entry.file_name()).collect();
    let made: Vec<_> = after.iter().filter(|name| !before.contains(name)).collect();
    ensure!(made.iter().all(|name| name.to_string_lossy().starts_with("c")), "made outside: {made:?}");
    Ok(())
}

/// CVE-2024-21626: a descriptor of the host as working directory.
fn cwd_through_descriptor(rig: &mut Rig<'_>) -> Result<()> {
    for fd in 3..12 {
        rig.set("/process/cwd", format!("/proc/self/fd/{fd}"))?;
        let run = rig.program(&["try", "list ../../../../.."])?.run()?;
        let host = run.stdout.contains("\"vmlinuz")
            || run.stdout.contains("\"boot\"")
            || run.stdout.contains("\"root\"");
        ensure!(!host, "the host's root is visible with cwd /proc/self/fd/{fd}");
    }
    Ok(())
}

/// CVE-2019-19921 and its relatives: /proc of the image leads elsewhere.
fn proc_symlink(rig: &mut Rig<'_>) -> Result<()> {
    fs::remove_dir(rig.inside("/proc"))?;
    fs::create_dir(rig.inside("/elsewhere"))?;
    symlink("elsewhere", rig.inside("/proc"))?;
    rig.run()?.fails().map(drop)
}

/// CVE-2026-41579, CVE-2026-47766: /dev of the image leads to the host, and no mount covers it.
fn dev_symlink(rig: &mut Rig<'_>) -> Result<()> {
    let outside = rig.dir.join("outside");
    fs::create_dir(&outside)?;
    fs::remove_dir(rig.inside("/dev"))?;
    symlink(Path::new("/../../../../../../../..").join(outside.strip_prefix("/")?), rig.inside("/dev"))?;
    if let Some(Value::Array(mounts)) = rig.config.pointer_mut("/mounts") {
        mounts.retain(|mount| !mount["destination"].as_str().is_some_and(|path| path.starts_with("/dev")));
    }
    let _ = rig.run()?;
    let made: Vec<_> = fs::read_dir(&outside)?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(made.is_empty(), "made on the host: {made:?}");
    Ok(())
}

fn sys_symlink(rig: &mut Rig<'_>) -> Result<()> {
    fs::remove_dir(rig.inside("/sys"))?;
    fs::create_dir(rig.inside("/elsewhere"))?;
    symlink("elsewhere", rig.inside("/sys"))?;
    rig.run()?.fails().map(drop)
}

/// CVE-2026-88265, CVE-2025-31133: the image's own null leads to a file of the host, which then is chowned or bound.
fn null_symlink(rig: &mut Rig<'_>) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let outside = rig.dir.join("outside");
    fs::write(&outside, "host data")?;
    symlink(Path::new("/../../../../../../../..").join(outside.strip_prefix("/")?), rig.inside("/dev/null"))?;
    if let Some(Value::Array(mounts)) = rig.config.pointer_mut("/mounts") {
        mounts.retain(|mount| !mount["destination"].as_str().is_some_and(|path| path.starts_with("/dev")));
    }
    rig.set("/process/user", json!({"uid": 1234, "gid": 1234}))?;
    let _ = rig.run()?;
    let found = fs::metadata(&outside)?;
    ensure!(
        found.uid() == 0 && found.is_file() && found.len() == 9,
        "the host's file was changed: {found:?}"
    );
    Ok(())
}

/// CVE-2024-21626 by `exec --cwd`.
fn exec_cwd(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    for fd in 3..12 {
        let run = rig.exec(&["--cwd", &format!("/proc/self/fd/{fd}")], &["try", "list ../../../../.."])?;
        ensure!(!run.stdout.contains("\"boot\""), "the host's root is visible with --cwd /proc/self/fd/{fd}");
    }
    Ok(())
}

fn masked_symlink(rig: &mut Rig<'_>) -> Result<()> {
    let outside = rig.dir.join("outside");
    fs::write(&outside, "host data")?;
    symlink(&outside, rig.inside("/mask"))?;
    rig.set("/linux/maskedPaths/-", "/mask")?;
    let _ = rig.run()?;
    ensure!(fs::read_to_string(&outside)? == "host data", "the host's file was changed");
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(&*outside.to_string_lossy()), "the mask landed on the host");
    Ok(())
}

fn mount_symlink(rig: &mut Rig<'_>) -> Result<()> {
    let outside = rig.dir.join("outside");
    fs::create_dir(&outside)?;
    symlink(format!("/../../../../../..{}", outside.display()), rig.inside("/link"))?;
    fs::write(rig.dir.join("file"), "x")?;
    rig.set(
        "/mounts/-",
        json!({"destination": "/link/file", "type": "bind", "source": rig.dir.join("file"), "options": ["bind"]}),
    )?;
    let _ = rig.run()?;
    let made: Vec<_> = fs::read_dir(&outside)?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(made.is_empty(), "made on the host: {made:?}");
    Ok(())
}

/// CVE-2019-5736: from inside, nobody's /proc/PID/exe may open the runtime for writing.
fn binary_is_safe(rig: &mut Rig<'_>) -> Result<()> {
    let before = fs::metadata(&rig.tool.path)?;
    rig.set("/process/args", json!(["/proc/self/exe", "try", "open-rw /proc/self/exe"]))?;
    let run = rig.run()?;
    ensure!(!run.stdout.contains("\"ok\":true"), "the runtime's own binary was opened for writing");
    rig.program(&["pause"])?.create()?.ok()?;
    rig.call(&["start", &rig.id])?.ok()?;
    rig.until("the program is ready", |rig| Ok(rig.output()?.contains("ready")))?;
    let tries = rig.exec(&[], &["try", "open-rw /proc/1/exe"])?.ok()?.json()?;
    refused(&tries, "open-rw /proc/1/exe", &["ETXTBSY", "EACCES", "EPERM"])?;
    let after = fs::metadata(&rig.tool.path)?;
    ensure!(
        before.len() == after.len() && before.modified()? == after.modified()?,
        "the runtime's binary was changed"
    );
    Ok(())
}

/// Starts `args` and kills it `delay` later, or not at all if it is done by then.
fn kill_after(rig: &Rig<'_>, args: &[&str], delay: Duration) -> Result<Duration> {
    let start = Instant::now();
    let root = rig.dir.join("state");
    let mut command = Command::new(&rig.tool.path);
    command.args(&rig.tool.flags).arg("--root").arg(root).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn()?;
    let pid = i32::try_from(child.id())?;
    kernel::await_end(pid, delay)?;
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    kernel::reap(pid)?;
    Ok(start.elapsed())
}

/// After any crash: `delete --force` takes it all away, and the id can be used again.
fn recovers(rig: &mut Rig<'_>, delay: Duration) -> Result<()> {
    let told = |text: &'static str| format!("{text} (killed after {delay:?})");
    // A container that came to life without us has no pid file we can trust; its cgroup tells.
    rig.call(&["delete", "--force", &rig.id])?.ok().with_context(|| told("delete --force"))?;
    if let Ok(dir) = rig.cgroup_dir("pids") {
        let deadline = Instant::now() + Duration::from_secs(5);
        let members = || fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        while !members().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        ensure!(members().is_empty(), "processes are left: {} {}", members().trim(), told(""));
    }
    rig.program(&["exit", "6"])?.run()?.exits(6).with_context(|| told("the next run"))?;
    Ok(())
}

const STEPS: u32 = 8;

fn sweep(rig: &mut Rig<'_>, prepare: fn(&mut Rig<'_>) -> Result<()>, args: &[&str]) -> Result<()> {
    prepare(rig)?;
    let whole = kill_after(rig, args, crate::tool::LIMIT)?;
    recovers(rig, whole)?;
    for step in 0..STEPS {
        prepare(rig)?;
        let delay = whole * step / STEPS;
        kill_after(rig, args, delay)?;
        recovers(rig, delay)?;
    }
    Ok(())
}

fn killed_in_create(rig: &mut Rig<'_>) -> Result<()> {
    let (bundle, id) = (rig.bundle().to_string_lossy().into_owned(), rig.id.clone());
    let prepare = |rig: &mut Rig<'_>| rig.program(&["pause"])?.write_config();
    sweep(rig, prepare, &["create", "--bundle", &bundle, &id])
}

fn killed_in_start(rig: &mut Rig<'_>) -> Result<()> {
    let id = rig.id.clone();
    let prepare = |rig: &mut Rig<'_>| rig.program(&["pause"])?.create()?.ok().map(drop);
    sweep(rig, prepare, &["start", &id])
}

fn killed_in_delete(rig: &mut Rig<'_>) -> Result<()> {
    let id = rig.id.clone();
    sweep(rig, |rig| rig.running("pause"), &["delete", "--force", &id])
}

fn state_broken(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let dir = rig.dir.join("state").join(&rig.id);
    let state = ["state.json", "status"].iter().map(|name| dir.join(name)).find(|path| path.exists());
    let Some(state) = state else { return Ok(()) };
    fs::write(&state, "{\"half\":")?;
    rig.call(&["state", &rig.id])?.fails()?;
    rig.call(&["list"])?;
    Ok(())
}
