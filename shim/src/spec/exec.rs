//! The process of an `exec`: the container's own, with another command.

use anyhow::Result;
use contracts::container::Container;
use serde_json::{Value, json};
use sys::path::Root;

use super::process::{user, user_json, with_home};
use super::{set, strings};
use crate::cli::ExecFlags;
use crate::request::env;

/// The container's process with other arguments and without a terminal.
pub fn process(spec: &Value, args: &[String]) -> Value {
    let mut process = spec["process"].clone();
    process["args"] = json!(args);
    process["terminal"] = json!(false);
    process
}

/// The process that `shim exec` asks for.
pub fn wished(
    record: &Container,
    spec: &Value,
    flags: &ExecFlags,
    args: &[String],
    rootfs: &Root,
) -> Result<Value> {
    let mut process = process(spec, args);
    process["terminal"] = json!(flags.tty);
    if let Some(dir) = &flags.workdir {
        process["cwd"] = json!(dir);
    }
    let before = strings(spec, "/process/env");
    let mut base: Vec<String> = before.iter().filter(|entry| !entry.starts_with("HOME=")).cloned().collect();
    // HOME follows the user, unless the container set it itself.
    let own_home = record.config.env.iter().find(|entry| entry.starts_with("HOME="));
    base.extend(own_home.cloned());
    if flags.tty && !base.iter().any(|entry| entry.starts_with("TERM=")) {
        base.push("TERM=xterm".into());
    }
    let mut env = env::merge(&base, &env::collect(&flags.env_file, &flags.env)?);
    let who = user(record, rootfs, flags.user.as_deref().unwrap_or(&record.config.user))?;
    env = with_home(env, &who.home);
    process["env"] = json!(env);
    process["user"] = user_json(&who, record.umask);
    if flags.privileged {
        let all = super::security::all();
        for name in ["bounding", "effective", "permitted"] {
            set(&mut process, &format!("/capabilities/{name}"), json!(all));
        }
    }
    Ok(process)
}
