//! `state` and `list`.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::expect::same;
use crate::case::Case;
use crate::rig::Rig;

const SECTION: &str = "runtime.md#state";

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("state/created", SECTION, created),
    Case::new("state/running", SECTION, running),
    Case::new("state/stopped", SECTION, stopped),
    Case::new("state/annotations", SECTION, annotations),
    Case::new("state/unknown-id", "runtime.md#query-state", unknown),
    Case::new("state/id-missing", "runtime.md#query-state", id_missing),
    Case::new("state/after-delete", "runtime.md#delete", after_delete),
    Case::new("state/list", "runtime.md#query-state", list),
    Case::new("state/list-quiet", "runtime.md#query-state", list_quiet),
    Case::new("state/pid-file", "runtime.md#create", pid_file),
];

fn check(rig: &Rig<'_>, status: &str) -> Result<Value> {
    let state = rig.state()?;
    same("id", &state["id"], rig.id.as_str())?;
    same("status", &state["status"], status)?;
    same("bundle", &state["bundle"], rig.bundle().to_string_lossy().into_owned())?;
    let version = state["ociVersion"].as_str().unwrap_or_default();
    ensure!(version.split('.').count() >= 3, "ociVersion is {}", state["ociVersion"]);
    Ok(state)
}

fn created(rig: &mut Rig<'_>) -> Result<()> {
    rig.program(&["pause"])?.create()?.ok()?;
    let state = check(rig, "created")?;
    same("pid", &state["pid"], rig.pid()?)
}

fn running(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let state = check(rig, "running")?;
    same("pid", &state["pid"], rig.pid()?)
}

fn stopped(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    rig.call(&["kill", &rig.id, "KILL"])?.ok()?;
    rig.wait()?;
    let state = check(rig, "stopped")?;
    ensure!(matches!(state["pid"].as_i64(), None | Some(0)), "a stopped container has pid {}", state["pid"]);
    Ok(())
}

fn annotations(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/annotations", json!({"com.example.one": "1", "two": ""}))?.running("pause")?;
    same("annotations", &rig.state()?["annotations"], json!({"com.example.one": "1", "two": ""}))
}

fn unknown(rig: &mut Rig<'_>) -> Result<()> {
    let run = rig.call(&["state", "no-such-container"])?.fails()?;
    ensure!(
        run.stderr.contains("no-such-container") || run.stderr.contains("does not exist"),
        "{}",
        run.stderr
    );
    ensure!(run.stdout.is_empty(), "an error left data on stdout: {}", run.stdout);
    Ok(())
}

fn id_missing(rig: &mut Rig<'_>) -> Result<()> {
    let run = rig.call(&["state"])?;
    ensure!(run.code != 0, "state without an id succeeded");
    Ok(())
}

fn after_delete(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    rig.call(&["delete", "--force", &rig.id])?.ok()?;
    rig.call(&["state", &rig.id])?.fails()?;
    let left = std::fs::read_dir(rig.dir.join("state"))?.flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains(&rig.id)).collect();
    ensure!(left.is_empty(), "left in the state directory: {left:?}");
    Ok(())
}

fn list(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let table = rig.call(&["list"])?.ok()?.stdout;
    let header = table.lines().next().unwrap_or_default();
    for word in ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"] {
        ensure!(header.contains(word), "the header {header:?} has no {word}");
    }
    ensure!(table.lines().any(|line| line.contains(&rig.id) && line.contains("running")), "{table}");
    let rows = rig.call(&["list", "--format", "json"])?.ok()?.json()?;
    let row = rows
        .as_array()
        .into_iter()
        .flatten()
        .find(|row| row["id"] == rig.id.as_str())
        .cloned()
        .unwrap_or_default();
    same("status", &row["status"], "running")?;
    same("pid", &row["pid"], rig.pid()?)?;
    same("bundle", &row["bundle"], rig.bundle().to_string_lossy().into_owned())
}

fn list_quiet(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let out = rig.call(&["list", "--quiet"])?.ok()?.stdout;
    ensure!(out == format!("{}\n", rig.id), "list --quiet prints {out:?}");
    Ok(())
}

fn pid_file(rig: &mut Rig<'_>) -> Result<()> {
    rig.program(&["pause"])?.create()?.ok()?;
    let text = std::fs::read_to_string(rig.dir.join("pid"))?;
    ensure!(
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()),
        "the pid file holds {text:?}"
    );
    Ok(())
}
