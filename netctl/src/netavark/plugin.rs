//! Drivers that are programs: `DIR/DRIVER setup|teardown NETNS`, JSON in and out.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::task::Task;

/// The program of that driver.
///
/// # Errors
/// There is none.
pub fn find(dirs: &[PathBuf], driver: &str) -> Result<PathBuf> {
    let is_plain = !driver.is_empty() && !driver.contains('/') && driver != "..";
    let mut programs = dirs.iter().map(|dir| dir.join(driver));
    if let Some(program) = programs.find(|program| is_plain && program.is_file()) {
        return Ok(program);
    }
    bail!("unknown network driver {driver:?}")
}

/// Has it join the container to its network; the status block of that network.
///
/// # Errors
/// What the plugin said.
pub fn setup(program: &Path, task: &Task<'_>) -> Result<Value> {
    let said = execute(program, "setup", task)?;
    serde_json::from_str(&said).with_context(|| format!("plugin {}: its answer", program.display()))
}

/// Has it complete a network's definition; what it said.
///
/// # Errors
/// What the plugin said.
pub fn create(program: &Path, network: &Value) -> Result<String> {
    converse(program, &["create".as_ref()], network)
}

/// Has it undo that.
///
/// # Errors
/// What the plugin said.
pub fn teardown(program: &Path, task: &Task<'_>) -> Result<()> {
    execute(program, "teardown", task).map(|_| ())
}

fn execute(program: &Path, verb: &str, task: &Task<'_>) -> Result<String> {
    let (input, name) = (task.input, &task.info.name);
    let wanted = input.networks.iter().find(|(of, _)| of == name).map(|(_, wanted)| wanted);
    let text = json!({
        "container_id": input.container_id, "container_name": input.container_name,
        "port_mappings": input.port_mappings, "network": input.network_info.get(name), "network_options": wanted,
    });
    let netns = match task.namespace {
        Some(namespace) => format!("/proc/{}/fd/{}", std::process::id(), namespace.file.as_raw_fd()),
        None => task.netns.display().to_string(),
    };
    converse(program, &[verb.as_ref(), netns.as_ref()], &text)
}

fn converse(program: &Path, args: &[&OsStr], text: &Value) -> Result<String> {
    let shown = || format!("plugin {}", program.display());
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(shown)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading says why on stdout.
        let _ = stdin.write_all(text.to_string().as_bytes());
    }
    let output = child.wait_with_output().with_context(shown)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let error: Value = serde_json::from_str(&said).unwrap_or_default();
    bail!("{}: {}", shown(), error["error"].as_str().unwrap_or(said.trim()))
}
