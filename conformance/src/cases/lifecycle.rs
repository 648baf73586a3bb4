//! `create`, `start`, `kill`, `delete`: the steps and their order.

use anyhow::{Result, ensure};
use serde_json::json;

use super::expect::same;
use crate::case::Case;
use crate::rig::Rig;

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("lifecycle/whole", "runtime.md#lifecycle", whole),
    Case::new("lifecycle/create-does-not-run", "runtime.md#create", create_does_not_run),
    Case::new("lifecycle/config-is-frozen", "runtime.md#create", config_is_frozen),
    Case::new("lifecycle/create-taken-id", "runtime.md#create", taken_id),
    Case::new("lifecycle/create-failure-leaves-nothing", "runtime.md#errors", failure_leaves_nothing),
    Case::new("lifecycle/start-unknown", "runtime.md#start", start_unknown),
    Case::new("lifecycle/start-twice", "runtime.md#start", start_twice),
    Case::new("lifecycle/start-stopped", "runtime.md#start", start_stopped),
    Case::new("lifecycle/kill-names", "runtime.md#kill", kill_names),
    Case::new("lifecycle/kill-default", "runtime.md#kill", kill_default),
    Case::new("lifecycle/kill-created", "runtime.md#kill", kill_created),
    Case::new("lifecycle/kill-unknown", "runtime.md#kill", kill_unknown),
    Case::new("lifecycle/kill-stopped", "runtime.md#kill", kill_stopped),
    Case::new("lifecycle/kill-bad-signal", "runtime.md#kill", kill_bad_signal),
    Case::new("lifecycle/delete-unknown", "runtime.md#delete", delete_unknown),
    Case::new("lifecycle/delete-force-unknown", "runtime.md#delete", delete_force_unknown),
    Case::new("lifecycle/delete-running", "runtime.md#delete", delete_running),
    Case::new("lifecycle/delete-stopped", "runtime.md#delete", delete_stopped),
    Case::new("lifecycle/id-again", "runtime.md#delete", id_again),
    Case::new("lifecycle/run-detached", "runtime.md#lifecycle", run_detached),
    Case::new("lifecycle/run-leaves-nothing", "runtime.md#lifecycle", run_leaves_nothing),
    Case::new("lifecycle/run-forwards-nothing-else", "runtime-linux.md#file-descriptors", output_streams),
    Case::new("lifecycle/children-die-with-init", "config-linux.md#namespaces", children_die),
];

fn whole(rig: &mut Rig<'_>) -> Result<()> {
    rig.program(&["pause"])?.create()?.ok()?;
    same("after create", &rig.state()?["status"], "created")?;
    rig.call(&["start", &rig.id])?.ok()?;
    rig.until("the program is ready", |rig| Ok(rig.output()?.contains("ready")))?;
    same("after start", &rig.state()?["status"], "running")?;
    rig.call(&["kill", &rig.id, "TERM"])?.ok()?;
    ensure!(rig.wait()? == 0, "the program did not end by SIGTERM");
    same("after its end", &rig.state()?["status"], "stopped")?;
    rig.call(&["delete", &rig.id])?.ok()?;
    rig.call(&["state", &rig.id])?.fails().map(drop)
}

fn create_does_not_run(rig: &mut Rig<'_>) -> Result<()> {
    rig.program(&["try", "create /ran"])?.create()?.ok()?;
    ensure!(!rig.inside("/ran").exists(), "the program ran before start");
    rig.call(&["start", &rig.id])?.ok()?;
    ensure!(rig.wait()? == 0 && rig.inside("/ran").exists(), "the program did not run after start");
    Ok(())
}

fn config_is_frozen(rig: &mut Rig<'_>) -> Result<()> {
    rig.program(&["echo", "first"])?.create()?.ok()?;
    rig.program(&["echo", "second"])?.write_config()?;
    rig.call(&["start", &rig.id])?.ok()?;
    rig.wait()?;
    ensure!(rig.output()? == "first\n", "the program printed {:?}", rig.output()?);
    Ok(())
}

fn taken_id(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let pid = rig.pid()?;
    rig.write_config()?;
    let bundle = rig.bundle();
    rig.call(&["create", "--bundle", &bundle.to_string_lossy(), &rig.id])?.fails()?;
    let state = rig.state()?;
    same("the first container's status", &state["status"], "running")?;
    same("the first container's pid", &state["pid"], pid)
}

fn failure_leaves_nothing(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/mounts/-", json!({"destination": "/x", "type": "nosuchfs", "source": "none"}))?
        .create()?
        .fails()?;
    rig.call(&["state", &rig.id])?.fails()?;
    let left: Vec<_> =
        std::fs::read_dir(rig.dir.join("state"))?.flatten().map(|entry| entry.file_name()).collect();
    let left: Vec<_> = left.into_iter().filter(|name| name.to_string_lossy().contains(&rig.id)).collect();
    ensure!(left.is_empty(), "left in the state directory: {left:?}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(&*rig.dir.to_string_lossy()), "a mount is left on the host");
    if let Ok(dir) = rig.cgroup_dir("pids") {
        ensure!(!dir.exists(), "the cgroup is left");
    }
    Ok(())
}

fn start_unknown(rig: &mut Rig<'_>) -> Result<()> {
    rig.call(&["start", "no-such-container"])?.fails().map(drop)
}

fn start_twice(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    rig.call(&["start", &rig.id])?.fails()?;
    same("the status after", &rig.state()?["status"], "running")
}

fn start_stopped(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    rig.call(&["kill", &rig.id, "KILL"])?.ok()?;
    rig.wait()?;
    rig.call(&["start", &rig.id])?.fails().map(drop)
}

fn kill_names(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("signals")?;
    for (word, name) in
        [("SIGUSR1", "SIGUSR1"), ("USR2", "SIGUSR2"), ("1", "SIGHUP"), ("SIGWINCH", "SIGWINCH")]
    {
        rig.call(&["kill", &rig.id, word])?.ok()?;
        rig.until(&format!("{name} has arrived"), |rig| Ok(rig.output()?.lines().any(|line| line == name)))?;
    }
    Ok(())
}

fn kill_default(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    rig.call(&["kill", &rig.id])?.ok()?;
    ensure!(rig.wait()? == 0, "kill without a signal is not SIGTERM");
    Ok(())
}

fn kill_created(rig: &mut Rig<'_>) -> Result<()> {
    rig.program(&["pause"])?.create()?.ok()?;
    rig.call(&["kill", &rig.id, "KILL"])?.ok()?;
    rig.wait()?;
    same("the status", &rig.state()?["status"], "stopped")
}

fn kill_unknown(rig: &mut Rig<'_>) -> Result<()> {
    rig.call(&["kill", "no-such-container", "TERM"])?.fails().map(drop)
}

fn kill_stopped(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    rig.call(&["kill", &rig.id, "KILL"])?.ok()?;
    rig.wait()?;
    rig.call(&["kill", &rig.id, "TERM"])?.fails().map(drop)
}

fn kill_bad_signal(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    rig.call(&["kill", &rig.id, "SIGNOPE"])?.fails()?;
    same("the status after", &rig.state()?["status"], "running")
}

fn delete_unknown(rig: &mut Rig<'_>) -> Result<()> {
    rig.call(&["delete", "no-such-container"])?.fails().map(drop)
}

fn delete_force_unknown(rig: &mut Rig<'_>) -> Result<()> {
    // As runc: whoever wants it gone has what they want.
    rig.call(&["delete", "--force", "no-such-container"])?.ok().map(drop)
}

fn delete_running(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    rig.call(&["delete", &rig.id])?.fails()?;
    same("the status after", &rig.state()?["status"], "running")
}

fn delete_stopped(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    rig.call(&["kill", &rig.id, "KILL"])?.ok()?;
    rig.wait()?;
    rig.call(&["delete", &rig.id])?.ok()?;
    rig.call(&["delete", &rig.id])?.fails().map(drop)
}

fn id_again(rig: &mut Rig<'_>) -> Result<()> {
    for _ in 0..2 {
        rig.running("pause")?;
        rig.call(&["delete", "--force", &rig.id])?.ok()?;
        let _ = rig.wait();
    }
    Ok(())
}

fn run_detached(rig: &mut Rig<'_>) -> Result<()> {
    rig.program(&["pause"])?.write_config()?;
    let (bundle, pid) = (rig.bundle(), rig.dir.join("pid"));
    rig.call(&[
        "run",
        "--detach",
        "--bundle",
        &bundle.to_string_lossy(),
        "--pid-file",
        &pid.to_string_lossy(),
        &rig.id,
    ])?
    .ok()?;
    let state = rig.state()?;
    same("the status", &state["status"], "running")?;
    same("the pid", &state["pid"], rig.pid()?)
}

fn run_leaves_nothing(rig: &mut Rig<'_>) -> Result<()> {
    rig.program(&["exit", "3"])?.run()?.exits(3)?;
    rig.call(&["state", &rig.id])?.fails()?;
    if let Ok(dir) = rig.cgroup_dir("pids") {
        ensure!(!dir.exists(), "the cgroup is left");
    }
    Ok(())
}

fn output_streams(rig: &mut Rig<'_>) -> Result<()> {
    let run = rig.program(&["echo", "data"])?.run()?.ok()?;
    ensure!(run.stdout == "data\n", "stdout is {:?}", run.stdout);
    ensure!(run.stderr.is_empty(), "the runtime itself said {:?}", run.stderr);
    Ok(())
}

fn children_die(rig: &mut Rig<'_>) -> Result<()> {
    rig.program(&["fork", "3"])?.create()?.ok()?;
    rig.call(&["start", &rig.id])?.ok()?;
    rig.until("the children are started", |rig| Ok(rig.output()?.contains("ready")))?;
    let Ok(dir) = rig.cgroup_dir("pids") else { return Ok(()) };
    rig.call(&["kill", &rig.id, "KILL"])?.ok()?;
    rig.wait()?;
    rig.until("the children are gone", |_| {
        Ok(std::fs::read_to_string(dir.join("cgroup.procs")).map_or(true, |text| text.is_empty()))
    })
}
