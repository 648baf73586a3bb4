//! What `daemon.json` gives to containers whose flags say nothing.

use std::path::PathBuf;

use anyhow::Result;
use contracts::daemon::Daemon;
use contracts::fault;

use crate::cli::CreateFlags;
use crate::container::Store;

/// Fills `flags` from the file, where there is one. The user's own flags win.
pub fn apply(store: &Store, flags: &mut CreateFlags) -> Result<()> {
    let Some(daemon) = Daemon::load(&store.paths)? else { return Ok(()) };
    if !daemon.userns_remap.is_empty() {
        fault!(
            Unsupported,
            "daemon.json: userns-remap is not supported: containers of an ordinary user have a user namespace of their own"
        );
    }
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
