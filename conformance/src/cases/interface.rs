//! The command line that engines rely on beside the life cycle: runc's.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::expect::same;
use crate::case::Case;
use crate::rig::Rig;

const SECTION: &str = "runtime.md#operations";

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("interface/version", SECTION, version),
    Case::new("interface/help", SECTION, help),
    Case::new("interface/unknown-command", SECTION, unknown_command),
    Case::new("interface/spec", "config.md#configuration", spec),
    Case::new("interface/spec-runs", "config.md#configuration", spec_runs),
    Case::new("interface/spec-keeps-a-file", "config.md#configuration", spec_keeps),
    Case::new("interface/features", "features.md#features-structure", features),
    Case::new("interface/log-json", "runtime.md#errors", log_json),
    Case::new("interface/log-text", "runtime.md#errors", log_text),
    Case::new("interface/ps", SECTION, ps),
    Case::new("interface/kill-all", "runtime.md#kill", kill_all),
    Case::new("interface/bundle-is-the-working-directory", "runtime.md#create", bundle_default),
];

fn version(rig: &mut Rig<'_>) -> Result<()> {
    let out = rig.call(&["--version"])?.ok()?.stdout;
    ensure!(out.contains("version"), "--version prints {out:?}");
    ensure!(out.lines().any(|line| line.trim_start().starts_with("spec: 1.")), "no spec version in {out:?}");
    Ok(())
}

fn help(rig: &mut Rig<'_>) -> Result<()> {
    let out = rig.call(&["--help"])?.ok()?.stdout;
    for verb in ["create", "start", "state", "kill", "delete", "run", "exec", "list", "spec"] {
        ensure!(out.contains(verb), "--help does not name {verb}");
    }
    Ok(())
}

fn unknown_command(rig: &mut Rig<'_>) -> Result<()> {
    let run = rig.call(&["frobnicate"])?;
    ensure!(run.code != 0, "an unknown command succeeded");
    Ok(())
}

/// The config.json that `spec` writes.
fn written(rig: &Rig<'_>) -> Result<Value> {
    let bundle = rig.bundle();
    rig.call(&["spec", "--bundle", &bundle.to_string_lossy()])?.ok()?;
    let text = fs::read_to_string(bundle.join("config.json")).context("spec wrote no config.json")?;
    serde_json::from_str(&text).context("spec wrote something that is not JSON")
}

fn spec(rig: &mut Rig<'_>) -> Result<()> {
    let config = written(rig)?;
    same("root.path", &config["root"]["path"], "rootfs")?;
    same("process.args", &config["process"]["args"], serde_json::json!(["sh"]))?;
    ensure!(
        config["linux"]["namespaces"].as_array().is_some_and(|list| list.len() >= 5),
        "{}",
        config["linux"]
    );
    Ok(())
}

fn spec_runs(rig: &mut Rig<'_>) -> Result<()> {
    rig.config = written(rig)?;
    rig.set("/process/terminal", false)?.set("/root/readonly", false)?;
    let cgroup = rig.cgroups_path(&rig.id);
    rig.set("/linux/cgroupsPath", cgroup)?.facts().map(drop)
}

fn spec_keeps(rig: &mut Rig<'_>) -> Result<()> {
    let (bundle, file) = (rig.bundle(), rig.bundle().join("config.json"));
    fs::write(&file, "mine")?;
    let run = rig.call(&["spec", "--bundle", &bundle.to_string_lossy()])?;
    ensure!(run.code != 0, "spec succeeded over an existing file");
    ensure!(fs::read_to_string(&file)? == "mine", "spec overwrote an existing config.json");
    Ok(())
}

fn features(rig: &mut Rig<'_>) -> Result<()> {
    let features = rig.call(&["features"])?.ok()?.json()?;
    ensure!(
        features["ociVersionMin"].is_string() && features["ociVersionMax"].is_string(),
        "no versions: {features}"
    );
    for list in ["hooks", "mountOptions"] {
        ensure!(
            features[list].as_array().is_some_and(|list| !list.is_empty()),
            "{list} is {}",
            features[list]
        );
    }
    let namespaces = &features["linux"]["namespaces"];
    ensure!(namespaces.as_array().is_some_and(|list| list.len() >= 7), "namespaces: {namespaces}");
    Ok(())
}

/// Fails, as there is no config.json, with `--log`; what the log holds.
fn log(rig: &Rig<'_>, format: &str) -> Result<String> {
    let file = rig.dir.join("log");
    let path = file.to_string_lossy();
    let bundle = rig.bundle();
    let bundle = bundle.to_string_lossy();
    rig.call(&["--log", &path, "--log-format", format, "create", "--bundle", &bundle, &rig.id])?.fails()?;
    fs::read_to_string(&file).context("the log was not written")
}

fn log_json(rig: &mut Rig<'_>) -> Result<()> {
    let text = log(rig, "json")?;
    let records = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>();
    let records = records.with_context(|| format!("the log is not one JSON object per line: {text:?}"))?;
    let error =
        records.iter().rev().find(|record| record["level"] == "error").context("no error in the log")?;
    let message = error["msg"].as_str().unwrap_or_default();
    ensure!(message.contains("config.json"), "msg is {message:?}");
    let time = error["time"].as_str().unwrap_or_default();
    ensure!(time.len() >= 20 && time.contains('T'), "time is {time:?}");
    Ok(())
}

fn log_text(rig: &mut Rig<'_>) -> Result<()> {
    let text = log(rig, "text")?;
    ensure!(text.contains("config.json"), "the log holds {text:?}");
    Ok(())
}

fn ps(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let pids = rig.call(&["ps", "--format", "json", &rig.id])?.ok()?.json()?;
    same("the processes", &pids, serde_json::json!([rig.pid()?]))
}

fn kill_all(rig: &mut Rig<'_>) -> Result<()> {
    rig.program(&["fork", "3"])?.create()?.ok()?;
    rig.call(&["start", &rig.id])?.ok()?;
    rig.until("the children are started", |rig| Ok(rig.output()?.contains("ready")))?;
    rig.call(&["kill", "--all", &rig.id, "KILL"])?.ok()?;
    ensure!(rig.wait()? == 137, "the container did not die by SIGKILL");
    Ok(())
}

fn bundle_default(rig: &mut Rig<'_>) -> Result<()> {
    rig.program(&["exit", "4"])?.write_config()?;
    let root = rig.dir.join("state");
    let run =
        rig.tool.run(&rig.bundle(), "here", &["--root", &root.to_string_lossy(), "run", &rig.id], None)?;
    run.exits(4).map(drop)
}
