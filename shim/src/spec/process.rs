//! `process` of config.json: command, environment, user, limits.

use std::path::Path;

use anyhow::Result;
use contracts::container::Container;
use contracts::passwd;
use serde_json::{Value, json};
use sys::path::Root;

use super::{list, set};
use crate::request::env;

/// The init that `--init` puts before the command: this very program under another name.
pub const INIT: &str = "/sbin/docker-init";

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub fn apply(record: &Container, spec: &mut Value, rootfs: &Root) -> Result<()> {
    let config = &record.config;
    let mut args = vec![record.path.clone()];
    args.extend(record.args.iter().cloned());
    if record.host_config.init == Some(true) {
        args.splice(0..0, [INIT.to_owned(), "--".to_owned()]);
    }
    set(spec, "/process/args", json!(args));
    set(spec, "/process/terminal", json!(config.tty));
    let cwd = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
    set(spec, "/process/cwd", json!(cwd));
    let user = user(record, rootfs, &config.user)?;
    set(spec, "/process/user", user_json(&user, record.umask));
    set(spec, "/process/env", json!(environment(record, &user.home)));
    if record.host_config.oom_score_adj != 0 {
        set(spec, "/process/oomScoreAdj", json!(record.host_config.oom_score_adj));
    }
    for limit in &record.host_config.ulimits {
        let name = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
        let limits = list(spec, "/process/rlimits");
        limits.retain(|known| known["type"] != name.as_str());
        limits.push(json!({ "type": name, "soft": unsigned(limit.soft), "hard": unsigned(limit.hard) }));
    }
    Ok(())
}

/// -1 is no limit, which the kernel spells as all bits.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Who runs: `spec` looked up in the rootfs, with the groups of `--group-add`.
pub fn user(record: &Container, rootfs: &Root, spec: &str) -> Result<passwd::User> {
    let mut user = passwd::resolve(rootfs, spec)?;
    for group in record.host_config.group_add.iter().flatten() {
        let gid = passwd::group(rootfs, group)?;
        if !user.additional_gids.contains(&gid) {
            user.additional_gids.push(gid);
        }
    }
    Ok(user)
}

/// `process.user` of config.json. Docker lists the primary group among the further ones, too.
pub fn user_json(user: &passwd::User, umask: Option<u32>) -> Value {
    let mut gids = vec![user.gid];
    gids.extend(user.additional_gids.iter().filter(|&&gid| gid != user.gid));
    let mut value = json!({ "uid": user.uid, "gid": user.gid, "additionalGids": gids });
    if let Some(umask) = umask {
        value["umask"] = json!(umask);
    }
    value
}

/// Changes the variables of a spec that is whole.
pub fn change_environment(spec: &mut Value, change: impl FnOnce(&[String]) -> Vec<String>) {
    let now = super::strings(spec, "/process/env");
    set(spec, "/process/env", json!(change(&now)));
}

fn environment(record: &Container, home: &str) -> Vec<String> {
    let hostname = match super::hostname(record) {
        name if name.is_empty() => {
            nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned()
        }
        name => name,
    };
    let mut base = vec![PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if record.config.tty {
        base.push("TERM=xterm".into());
    }
    with_home(env::merge(&base, &record.config.env), home)
}

/// HOME as the account says, unless it is set already.
pub fn with_home(mut env: Vec<String>, home: &str) -> Vec<String> {
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
    env
}

/// The host's program that stands behind [`INIT`].
pub fn init_program() -> Result<String> {
    let exe = std::env::current_exe()?;
    let exe: &Path = &exe;
    Ok(exe.display().to_string())
}
