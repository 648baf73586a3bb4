//! What the user asked for: flags, then the image's config, become a container's record.

pub mod defaults;
pub mod env;
pub mod health;
pub mod idmap;
pub mod image;
pub mod links;
pub mod mounts;
pub mod network;
pub mod podman;
pub mod ports;
pub mod resources;
pub mod signal;
pub mod units;
pub mod user_namespace;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use contracts::container::{Config, Container, DeviceMapping, HostConfig, LogConfig, PortBinding};
use contracts::fault;
use serde_json::json;

use crate::cli::{CreateFlags, WindowsFlags};
use crate::container::Store;
use crate::log;

/// A record from flags alone, and the mounts they ask for. What is wrong with the flags is found here, before
/// anything is made.
pub fn read(store: &Store, flags: &CreateFlags) -> Result<(Container, Vec<mounts::Wish>)> {
    refuse(&flags.windows)?;
    let mut record = Container {
        version: 1,
        created: contracts::container::now(),
        config: config(flags)?,
        host_config: host_config(flags)?,
        network: network::request(store, &flags.network)?,
        runtime: runtime(flags),
        runtime_args: flags.runtime_args.clone(),
        health_more: health::more(&flags.health)?,
        health_on_failure: flags.health.health_on_failure.clone().unwrap_or_default(),
        ..Container::default()
    };
    let (image, command) =
        flags.image_and_command.split_first().map_or(("", &[][..]), |(a, b)| (a.as_str(), b));
    if image.starts_with('-') || image.is_empty() {
        fault!(Usage, "invalid reference format: {image:?}");
    }
    // What a text processor makes of a hyphen.
    if let Some(rest) = image.strip_prefix(['\u{2013}', '\u{2014}', '\u{2212}']) {
        fault!(
            Usage,
            "invalid reference format: {image}: it begins with a dash that is no hyphen: is it -{rest}?"
        );
    }
    record.image = image.into();
    record.config.image = image.into();
    if !command.is_empty() {
        record.config.cmd = Some(command.to_vec());
    }
    podman::record(flags, &mut record)?;
    publish(flags, &mut record)?;
    resources::apply(&flags.resources, &mut record.host_config)?;
    if flags.rm && record.host_config.restart_policy.name != "no" {
        fault!(Usage, "conflicting options: cannot specify both --restart and --rm");
    }
    if log::is_passthrough(&record) && (flags.tty || !flags.attach.is_empty()) {
        let flag = if flags.tty { "tty" } else { "attach" };
        let driver = &record.host_config.log_config.driver;
        fault!(
            Usage,
            "conflicting options: --{flag} and --log-driver {driver}, which passes on the streams as they are"
        );
    }
    let wishes = wishes(flags, &mut record)?;
    Ok((record, wishes))
}

/// Takes weights off that this machine does not know.
pub fn weight_warning(record: &mut Container) -> Option<&'static str> {
    let host = &mut record.host_config;
    if (host.blkio_weight == 0 && host.blkio_weight_device.is_empty()) || resources::has_io_weight() {
        return None;
    }
    host.blkio_weight = 0;
    host.blkio_weight_device.clear();
    Some("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
}

/// What of the request this machine cannot do but docker lets pass; it is taken off.
pub fn warnings(record: &mut Container) -> Vec<&'static str> {
    let mut warnings = Vec::from_iter(weight_warning(record));
    let host = &record.host_config;
    let on_host = record.network.networks.iter().any(|network| network.network == "host");
    if on_host && (!record.network.ports.is_empty() || host.publish_all_ports) {
        warnings.push("Published ports are discarded when using host network mode");
    }
    warnings
}

fn refuse(windows: &WindowsFlags) -> Result<()> {
    for (flag, value) in [
        ("cpu-count", &windows.cpu_count),
        ("cpu-percent", &windows.cpu_percent),
        ("io-maxbandwidth", &windows.io_maxbandwidth),
        ("io-maxiops", &windows.io_maxiops),
    ] {
        if value.is_some() {
            fault!(Unsupported, "--{flag} is for Windows containers only");
        }
    }
    match windows.isolation.as_deref() {
        None | Some("default") => Ok(()),
        Some(other) => fault!(Usage, "invalid isolation: {other}: only default exists on Linux"),
    }
}

fn runtime(flags: &CreateFlags) -> PathBuf {
    match &flags.runtime {
        Some(program) => program.into(),
        None => contracts::tool::find("runtime"),
    }
}

fn config(flags: &CreateFlags) -> Result<Config> {
    let mut labels = BTreeMap::new();
    for file in &flags.label_file {
        labels.extend(units::pairs(&env::lines(file)?));
    }
    labels.extend(units::pairs(&flags.label));
    if flags.workdir.as_deref().is_some_and(|dir| !dir.starts_with('/')) {
        let dir = flags.workdir.as_deref().unwrap_or_default();
        fault!(Usage, "the working directory '{dir}' is invalid, it needs to be an absolute path");
    }
    if let Some(name) = &flags.hostname {
        let fine = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if name.is_empty() || name.len() > 63 || !name.chars().all(fine) {
            fault!(Usage, "invalid hostname format: {name}");
        }
    }
    if let Some(signal) = &flags.stop_signal {
        signal::parse(signal)?;
    }
    for stream in &flags.attach {
        if !["stdin", "stdout", "stderr"].contains(&stream.to_ascii_lowercase().as_str()) {
            fault!(
                Usage,
                "invalid argument \"{stream}\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"
            );
        }
    }
    let attached = |name: &str| flags.attach.iter().any(|stream| stream.eq_ignore_ascii_case(name));
    Ok(Config {
        hostname: flags.hostname.clone().unwrap_or_default(),
        domainname: flags.domainname.clone().unwrap_or_default(),
        user: flags.user.clone().unwrap_or_default(),
        attach_stdin: attached("stdin"),
        attach_stdout: attached("stdout"),
        attach_stderr: attached("stderr"),
        tty: flags.tty,
        open_stdin: flags.interactive,
        stdin_once: flags.interactive,
        env: env::merge(&podman::environment(flags), &env::collect(&flags.env_file, &flags.env)?),
        entrypoint: flags.entrypoint.as_ref().map(|program| vec![program.clone()]),
        working_dir: flags.workdir.clone().unwrap_or_default(),
        labels,
        stop_signal: flags.stop_signal.clone().unwrap_or_default(),
        stop_timeout: flags.stop_timeout,
        healthcheck: health::check(&flags.health)?,
        ..Config::default()
    })
}

fn host_config(flags: &CreateFlags) -> Result<HostConfig> {
    let (security, storage, network) = (&flags.security, &flags.storage, &flags.network);
    if storage.gpus.is_some() {
        fault!(Unsupported, "--gpus is not supported: give the devices with --device");
    }
    if storage.use_api_socket {
        fault!(Unsupported, "--use-api-socket is not supported: there is no daemon and no API socket");
    }
    if storage.volume_driver.as_deref().is_some_and(|driver| driver != "local") {
        let driver = storage.volume_driver.as_deref().unwrap_or_default();
        fault!(Unsupported, "error looking up volume plugin {driver}: plugin \"{driver}\" not found");
    }
    if let Some(option) = storage.storage_opt.first() {
        fault!(Unsupported, "--storage-opt {option} is not supported by the overlay store");
    }
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let mode = |text: &Option<String>| text.clone().unwrap_or_default();
    let shm_size = match &storage.shm_size {
        Some(text) => units::size("--shm-size", text)?,
        None => 64 << 20,
    };
    if shm_size < 0 {
        fault!(Usage, "SHM size can not be less than 0");
    }
    Ok(HostConfig {
        log_config: log_config(flags)?,
        restart_policy: health::restart_policy(&flags.restart)?,
        container_id_file: flags.cidfile.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        auto_remove: flags.rm,
        volumes_from: some(&storage.volumes_from),
        cap_add: some(&security.cap_add),
        cap_drop: some(&security.cap_drop),
        cgroupns_mode: mode(&security.cgroupns),
        dns: network.dns.iter().map(ToString::to_string).collect(),
        dns_options: network.dns_option.clone(),
        dns_search: network.dns_search.clone(),
        extra_hosts: some(&network.add_host),
        group_add: some(&flags.group_add),
        ipc_mode: security.ipc.clone().unwrap_or_else(|| "private".into()),
        links: some(&network.link),
        oom_score_adj: oom_score(security.oom_score_adj)?,
        pid_mode: mode(&security.pid),
        privileged: security.privileged,
        publish_all_ports: network.publish_all,
        readonly_rootfs: storage.read_only,
        security_opt: some(&security.security_opt),
        uts_mode: mode(&security.uts),
        userns_mode: mode(&security.userns),
        shm_size,
        sysctls: sysctls(&security.sysctl)?,
        cgroup_parent: mode(&security.cgroup_parent),
        devices: storage.device.iter().map(|text| device(text)).collect::<Result<_>>()?,
        device_cgroup_rules: some(&storage.device_cgroup_rule),
        ulimits: security.ulimit.iter().map(|text| resources::ulimit(text)).collect::<Result<_>>()?,
        init: flags.init,
        annotations: units::pairs(&flags.annotation).collect(),
        ..HostConfig::default()
    })
}

fn oom_score(value: Option<i64>) -> Result<i64> {
    match value.unwrap_or_default() {
        score if (-1000..=1000).contains(&score) => Ok(score),
        score => fault!(Usage, "Invalid value {score}, range for oom score adj is [-1000, 1000]"),
    }
}

fn log_config(flags: &CreateFlags) -> Result<LogConfig> {
    let config = LogConfig {
        driver: flags.log_driver.clone().unwrap_or_else(|| "json-file".into()),
        config: units::pairs(&flags.log_opt).collect(),
    };
    log::check(&config)?;
    Ok(config)
}

fn sysctls(items: &[String]) -> Result<BTreeMap<String, String>> {
    const IPC: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let mut sysctls = BTreeMap::new();
    for item in items {
        let (name, value) = item.split_once('=').unwrap_or((item, ""));
        let allowed = IPC.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.");
        if !allowed || !item.contains('=') {
            fault!(
                Usage,
                "invalid argument \"{item}\" for \"--sysctl\" flag: sysctl '{item}' is not allowed"
            );
        }
        sysctls.insert(name.into(), value.into());
    }
    Ok(sysctls)
}

fn device(text: &str) -> Result<DeviceMapping> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_mode = |mode: &str| !mode.is_empty() && mode.chars().all(|c| "rwm".contains(c));
    let (host, inside, mode) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, mode] if is_mode(mode) => (host, host, mode),
        [host, inside] => (host, inside, "rwm"),
        [host, inside, mode] if is_mode(mode) => (host, inside, mode),
        _ => {
            fault!(Usage, "invalid argument \"{text}\" for \"--device\" flag: bad format for device: {text}")
        }
    };
    if !host.starts_with('/') || !inside.starts_with('/') {
        fault!(Usage, "invalid argument \"{text}\" for \"--device\" flag: {text} is not an absolute path");
    }
    Ok(DeviceMapping {
        path_on_host: host.into(),
        path_in_container: inside.into(),
        cgroup_permissions: mode.into(),
    })
}

fn publish(flags: &CreateFlags, record: &mut Container) -> Result<()> {
    for text in &flags.network.expose {
        for key in ports::exposed(text)? {
            record.config.exposed_ports.insert(key, json!({}));
        }
    }
    for port in &record.network.ports {
        let key = format!("{}/{}", port.container_port, port.protocol);
        record.config.exposed_ports.insert(key.clone(), json!({}));
        record.host_config.port_bindings.entry(key).or_default().push(PortBinding {
            host_ip: port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            host_port: match (port.host_port, port.host_port_last) {
                (0, _) => String::new(),
                (only, 0) => only.to_string(),
                (first, last) => format!("{first}-{last}"),
            },
        });
    }
    let first = record.network.networks.first();
    record.host_config.network_mode = first.map(|at| at.network.clone()).unwrap_or_default();
    Ok(())
}

fn wishes(flags: &CreateFlags, record: &mut Container) -> Result<Vec<mounts::Wish>> {
    let storage = &flags.storage;
    let mut wishes = Vec::new();
    for text in &storage.volume {
        wishes.push(mounts::volume(text)?);
    }
    record.host_config.binds = (!storage.volume.is_empty()).then(|| storage.volume.clone());
    for text in &storage.mount {
        let wish = mounts::mount(text)?;
        record.host_config.mounts.push(json!({
            "Type": wish.point.kind, "Source": if ["volume", "image"].contains(&wish.point.kind.as_str()) { &wish.point.name } else { &wish.point.source },
            "Target": wish.point.destination, "ReadOnly": !wish.point.rw,
        }));
        wishes.push(wish);
    }
    for text in &storage.tmpfs {
        let (target, options) = mounts::tmpfs(text)?;
        record.host_config.tmpfs.insert(target, options);
    }
    let targets = wishes.iter().map(|wish| wish.point.destination.as_str());
    mounts::check_duplicates(targets.chain(record.host_config.tmpfs.keys().map(String::as_str)))?;
    Ok(wishes)
}
