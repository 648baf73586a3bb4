//! `hooks`: when they run, where, and what they are told.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::expect::same;
use crate::case::Case;
use crate::rig::Rig;

const SECTION: &str = "config.md#posix-platform-hooks";

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("hooks/order", "runtime.md#lifecycle", order),
    Case::new("hooks/poststart", "config.md#poststart", poststart),
    Case::new("hooks/state", SECTION, state),
    Case::new("hooks/namespaces", SECTION, namespaces),
    Case::new("hooks/env", SECTION, env),
    Case::new("hooks/failure-stops-create", "config.md#createruntime-hooks", failure_stops_create),
    Case::new("hooks/start-container-failure", "config.md#startcontainer-hooks", start_failure),
    Case::new("hooks/poststop-failure-is-ignored", "config.md#poststop", poststop_failure),
    Case::new("hooks/timeout", SECTION, timeout),
    Case::new("hooks/program-missing", SECTION, program_missing),
    Case::new("hooks/relative-path", SECTION, relative_path),
];

/// A hook that writes down what it sees. One that runs in the container writes to the container's root.
fn hook(rig: &Rig<'_>, name: &str, more: &[&str]) -> Value {
    let log = log_of(rig, name);
    let (program, log) = match name {
        "startContainer" => ("/probe".to_owned(), "/hooks.log".to_owned()),
        _ => (rig.inside("/probe").to_string_lossy().into_owned(), log.to_string_lossy().into_owned()),
    };
    let mut args = vec!["hook".to_owned(), "probe".into(), "hook".into(), name.into(), log];
    args.extend(more.iter().map(|&word| word.to_owned()));
    json!({"path": program, "args": args})
}

fn log_of(rig: &Rig<'_>, name: &str) -> std::path::PathBuf {
    if name == "startContainer" { rig.inside("/hooks.log") } else { rig.dir.join("hooks.log") }
}

fn record(rig: &Rig<'_>, name: &str) -> Result<Value> {
    let text = fs::read_to_string(log_of(rig, name)).with_context(|| format!("{name} did not run"))?;
    let mut records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.find(|record| record["hook"] == name).with_context(|| format!("{name} did not run"))
}

fn add(rig: &mut Rig<'_>, name: &str, more: &[&str]) -> Result<()> {
    let hook = hook(rig, name, more);
    rig.set(&format!("/hooks/{name}"), json!([hook])).map(drop)
}

fn order(rig: &mut Rig<'_>) -> Result<()> {
    for name in ["prestart", "createRuntime", "createContainer", "startContainer", "poststop"] {
        add(rig, name, &[])?;
    }
    rig.program(&["pause"])?.create()?.ok()?;
    let names = |rig: &Rig<'_>| -> Vec<String> {
        let text = fs::read_to_string(rig.dir.join("hooks.log")).unwrap_or_default();
        let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.filter_map(|record| record["hook"].as_str().map(str::to_owned)).collect()
    };
    let ran = names(rig);
    ensure!(ran == ["prestart", "createRuntime", "createContainer"], "after create these have run: {ran:?}");
    ensure!(!log_of(rig, "startContainer").exists(), "startContainer ran before start");
    rig.call(&["start", &rig.id])?.ok()?;
    rig.until("startContainer has run", |rig| Ok(record(rig, "startContainer").is_ok()))?;
    rig.call(&["delete", "--force", &rig.id])?.ok()?;
    let ran = names(rig);
    ensure!(ran.last().is_some_and(|name| name == "poststop"), "after delete these have run: {ran:?}");
    Ok(())
}

fn poststart(rig: &mut Rig<'_>) -> Result<()> {
    add(rig, "poststart", &[])?;
    rig.program(&["pause"])?.create()?.ok()?;
    ensure!(record(rig, "poststart").is_err(), "poststart ran before start");
    rig.call(&["start", &rig.id])?.ok()?;
    rig.until("poststart has run", |rig| Ok(record(rig, "poststart").is_ok()))
}

fn state(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/annotations", json!({"com.example.key": "value"}))?;
    for name in ["createRuntime", "createContainer", "poststart", "poststop"] {
        add(rig, name, &[])?;
    }
    rig.running("pause")?;
    rig.until("poststart has run", |rig| Ok(record(rig, "poststart").is_ok()))?;
    let pid = rig.pid()?;
    rig.call(&["delete", "--force", &rig.id])?.ok()?;
    for (name, status) in [
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ] {
        let state = record(rig, name)?["state"].clone();
        same(&format!("{name}: id"), &state["id"], rig.id.as_str())?;
        same(&format!("{name}: bundle"), &state["bundle"], rig.bundle().to_string_lossy().into_owned())?;
        same(&format!("{name}: annotation"), &state["annotations"]["com.example.key"], "value")?;
        ensure!(state["ociVersion"].is_string(), "{name}: no ociVersion in {state}");
        same(&format!("{name}: status"), &state["status"], status)?;
        // As seen from where the hook runs: the second one runs in the container.
        match name {
            "poststop" => {}
            "createContainer" => same(&format!("{name}: pid"), &state["pid"], 1)?,
            _ => same(&format!("{name}: pid"), &state["pid"], pid)?,
        }
    }
    Ok(())
}

fn namespaces(rig: &mut Rig<'_>) -> Result<()> {
    for name in ["createRuntime", "createContainer", "startContainer"] {
        add(rig, name, &[])?;
    }
    rig.running("pause")?;
    let pid = rig.pid()?;
    let of_container = fs::read_link(format!("/proc/{pid}/ns/mnt"))?.to_string_lossy().into_owned();
    let of_host = fs::read_link("/proc/self/ns/mnt")?.to_string_lossy().into_owned();
    for (name, wanted) in
        [("createRuntime", &of_host), ("createContainer", &of_container), ("startContainer", &of_container)]
    {
        let found = record(rig, name)?["facts"]["namespaces"]["mnt"].clone();
        // Inside the container the hook may see no /proc of its own yet.
        if found.is_string() {
            same(&format!("{name}: the mount namespace"), &found, wanted.as_str())?;
        }
    }
    Ok(())
}

fn env(rig: &mut Rig<'_>) -> Result<()> {
    let mut hook = hook(rig, "createRuntime", &[]);
    hook["env"] = json!(["ONLY=this"]);
    rig.set("/hooks/createRuntime", json!([hook]))?.facts()?;
    let record = record(rig, "createRuntime")?;
    same("the hook's environment", &record["facts"]["env"], json!(["ONLY=this"]))?;
    same("the hook's argv[0]", &record["args"][0], "hook")
}

fn failure_stops_create(rig: &mut Rig<'_>) -> Result<()> {
    add(rig, "createRuntime", &["3"])?;
    rig.program(&["pause"])?.create()?.fails()?;
    ensure!(rig.call(&["state", &rig.id])?.code != 0, "the container exists after its hook has failed");
    Ok(())
}

fn start_failure(rig: &mut Rig<'_>) -> Result<()> {
    add(rig, "startContainer", &["3"])?;
    let run = rig.program(&["echo", "it ran"])?.run()?;
    ensure!(run.code != 0, "run succeeded although startContainer failed");
    ensure!(!run.stdout.contains("it ran"), "the program ran although startContainer failed");
    Ok(())
}

fn poststop_failure(rig: &mut Rig<'_>) -> Result<()> {
    add(rig, "poststop", &["3"])?;
    rig.running("pause")?;
    rig.call(&["delete", "--force", &rig.id])?.ok()?;
    ensure!(rig.call(&["state", &rig.id])?.code != 0, "the container still exists");
    Ok(())
}

fn timeout(rig: &mut Rig<'_>) -> Result<()> {
    let mut hook = hook(rig, "createRuntime", &["sleep"]);
    hook["timeout"] = json!(1);
    let start = Instant::now();
    rig.set("/hooks/createRuntime", json!([hook]))?.program(&["pause"])?.create()?.fails()?;
    ensure!(
        start.elapsed() < Duration::from_secs(15),
        "a hook with a timeout of 1 s held create {:?}",
        start.elapsed()
    );
    Ok(())
}

fn program_missing(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/hooks/createRuntime", json!([{"path": "/no/such/hook"}]))?;
    let run = rig.run()?.fails()?;
    ensure!(run.stderr.contains("/no/such/hook"), "the error does not name the hook: {}", run.stderr);
    Ok(())
}

fn relative_path(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/hooks/createRuntime", json!([{"path": "true"}]))?.run()?.fails()?;
    Ok(())
}
