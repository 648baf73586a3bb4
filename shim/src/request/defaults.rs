//! What `daemon.json` gives to containers whose flags say nothing.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use contracts::daemon::Daemon;
use contracts::fault;
use nix::unistd::{Uid, User};

use super::podman;
use crate::cli::CreateFlags;
use crate::container::Store;

/// Fills `flags` from the file, where there is one. The user's own flags win.
pub fn apply(store: &Store, flags: &mut CreateFlags) -> Result<()> {
    podman::translate(flags)?;
    let Some(daemon) = Daemon::load(&store.paths)? else { return Ok(()) };
    remap(&daemon, flags)?;
    logs(&daemon, flags);
    runtime(&daemon, flags)?;
    let (network, security) = (&mut flags.network, &mut flags.security);
    if network.dns.is_empty() {
        network.dns.clone_from(&daemon.dns);
    }
    if network.dns_option.is_empty() {
        network.dns_option.clone_from(&daemon.dns_opts);
    }
    if network.dns_search.is_empty() {
        network.dns_search.clone_from(&daemon.dns_search);
    }
    for (name, limit) in &daemon.default_ulimits {
        if !security.ulimit.iter().any(|own| own.split('=').next() == Some(name)) {
            security.ulimit.push(format!("{name}={}:{}", limit.soft, limit.hard));
        }
    }
    let has = |options: &[String], key: &str| options.iter().any(|option| option.starts_with(key));
    if daemon.no_new_privileges && !has(&security.security_opt, "no-new-privileges") {
        security.security_opt.push("no-new-privileges".into());
    }
    if let Some(profile) =
        daemon.seccomp_profile.filter(|profile| !["", "builtin"].contains(&profile.as_str()))
        && !has(&security.security_opt, "seccomp")
        && !security.privileged
    {
        security.security_opt.push(format!("seccomp={profile}"));
    }
    let adopt = |own: &mut Option<String>, default: Option<String>| {
        if own.is_none() {
            *own = default;
        }
    };
    adopt(&mut security.ipc, daemon.default_ipc_mode);
    adopt(&mut security.cgroupns, daemon.default_cgroupns_mode.filter(|_| !security.privileged));
    adopt(&mut security.cgroup_parent, daemon.cgroup_parent);
    adopt(&mut flags.storage.shm_size, daemon.default_shm_size);
    flags.init = flags.init.or(daemon.init);
    Ok(())
}

/// `userns-remap`: the ids that /etc/subuid gives to a user, for every container that does not ask for others.
fn remap(daemon: &Daemon, flags: &mut CreateFlags) -> Result<()> {
    let security = &mut flags.security;
    let asked = security.userns.is_some() || security.subuidname.is_some() || security.subgidname.is_some();
    if daemon.userns_remap.is_empty() || asked || !(security.uidmap.is_empty() && security.gidmap.is_empty())
    {
        return Ok(());
    }
    if security.privileged {
        fault!(
            Usage,
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when \
             running privileged mode"
        );
    }
    if flags.network.network.iter().any(|network| network == "host") {
        fault!(Usage, "cannot share the host's network namespace when user namespaces are enabled");
    }
    if security.pid.as_deref() == Some("host") {
        fault!(Usage, "cannot share the host PID namespace when user namespaces are enabled");
    }
    let (user, group) = daemon.userns_remap.split_once(':').unwrap_or((&daemon.userns_remap, ""));
    let user = if user == "default" { "dockremap" } else { user };
    let name = match user.parse() {
        Ok(uid) => match User::from_uid(Uid::from_raw(uid)).context("look up the user of userns-remap")? {
            Some(user) => user.name,
            None => fault!(NotFound, "daemon.json: userns-remap: no user has the id {uid}"),
        },
        Err(_) => user.to_owned(),
    };
    security.subgidname = Some(if group.is_empty() { name.clone() } else { group.to_owned() });
    security.subuidname = Some(name);
    Ok(())
}

/// The driver, and its options: those belong to the driver of the file only.
fn logs(daemon: &Daemon, flags: &mut CreateFlags) {
    let default = daemon.log_driver.as_deref().unwrap_or("json-file");
    let driver = flags.log_driver.get_or_insert_with(|| default.into());
    if driver != default {
        return;
    }
    for (key, value) in &daemon.log_opts {
        if !flags.log_opt.iter().any(|own| own.split('=').next() == Some(key)) {
            flags.log_opt.push(format!("{key}={value}"));
        }
    }
}

/// `--runtime NAME`, or the default one, is the program that the file gives that name.
fn runtime(daemon: &Daemon, flags: &mut CreateFlags) -> Result<()> {
    let given = flags.runtime.as_deref().or(daemon.default_runtime.as_deref());
    let Some(known) = given.and_then(|name| daemon.runtimes.get(name)) else { return Ok(()) };
    if known.path == PathBuf::new() {
        let kind = &known.runtime_type;
        fault!(
            Unsupported,
            "daemon.json: runtime {}: {kind} is a shim of containerd's, not a program",
            given.unwrap_or_default()
        );
    }
    flags.runtime_args.clone_from(&known.runtime_args);
    flags.runtime = Some(known.path.display().to_string());
    Ok(())
}
