//! A container as docker's `inspect` shows it.

use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use contracts::container::{Container, State, Status};
use contracts::network::{self, Endpoint};
use serde_json::{Map, Value, json};

use crate::container::{Store, rootfs, short};
use crate::volume;

const NEVER: &str = "0001-01-01T00:00:00Z";

/// The whole object.
pub fn object(store: &Store, record: &Container, status: &Status, sizes: bool) -> Value {
    let bundle = store.bundle(&record.id);
    let network = status.network.as_ref();
    let file = |path: Option<&PathBuf>| path.map(|path| path.display().to_string()).unwrap_or_default();
    let driver = record.host_config.log_config.driver.as_str();
    let log = if matches!(driver, "none" | "syslog") {
        String::new()
    } else {
        store.log(&record.id).display().to_string()
    };
    let mut object = json!({
        "Id": record.id,
        "Created": record.created,
        "Path": record.path,
        "Args": record.args,
        "State": state(status),
        "Image": record.image_id,
        "ResolvConfPath": file(network.and_then(|network| network.resolv_conf.as_ref())),
        "HostnamePath": file(network.and_then(|network| network.hostname_file.as_ref())),
        "HostsPath": file(network.and_then(|network| network.hosts.as_ref())),
        "LogPath": log,
        "Name": format!("/{}", record.name),
        "RestartCount": status.restart_count,
        "Driver": "overlay",
        "Platform": record.platform.split('/').next().unwrap_or("linux"),
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": record.host_config,
        "GraphDriver": { "Name": "overlay", "Data": {
            "LowerDir": lower_dirs(store, &bundle), "MergedDir": rootfs::path(status, &bundle),
            "UpperDir": bundle.join("upper"), "WorkDir": bundle.join("work"),
        } },
        "Mounts": record.mounts,
        "Config": record.config,
        "NetworkSettings": network_settings(store, record, status),
    });
    // Windows' keys, which docker shows everywhere.
    for key in ["CpuCount", "CpuPercent", "IOMaximumBandwidth", "IOMaximumIOps"] {
        object["HostConfig"][key] = json!(0);
    }
    if sizes {
        let (own, all) = self::sizes(store, &record.id, status);
        object["SizeRw"] = json!(own);
        object["SizeRootFs"] = json!(all);
    }
    object
}

/// Bytes of the writable layer, and of all that the container sees (of a stopped one: of all its layers).
pub fn sizes(store: &Store, id: &str, status: &Status) -> (u64, u64) {
    let bundle = store.bundle(id);
    let own = volume::size(&bundle.join("upper"));
    let process = status.process.filter(|_| status.state.is_live());
    if let Some(Ok(mount)) = process.map(rootfs::copy) {
        return (own, volume::size(Path::new(&format!("/proc/self/fd/{}", mount.as_raw_fd()))));
    }
    (own, own + layers(store, &bundle).iter().map(|dir| volume::size(dir)).sum::<u64>())
}

/// The directories of a container's layers, the lowest first.
fn layers(store: &Store, bundle: &Path) -> Vec<PathBuf> {
    let note =
        contracts::atomic::read_json::<Value>(&bundle.join("bundle.json")).ok().flatten().unwrap_or_default();
    let layers = note["layers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    // A layer may lie in an additional store.
    let mut roots = vec![store.paths.layers()];
    roots
        .extend(store.paths.additional_stores().unwrap_or_default().iter().map(|other| other.join("layers")));
    let layer = |hex: &str| roots.iter().map(|root| root.join(hex)).find(|dir| dir.is_dir());
    layers.filter_map(|layer| layer.split_once(':')).filter_map(|(_, hex)| layer(hex)).collect()
}

/// As overlayfs is told: the highest first.
fn lower_dirs(store: &Store, bundle: &Path) -> String {
    let dirs = layers(store, bundle);
    dirs.iter().rev().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":")
}

fn state(status: &Status) -> Value {
    let time = |text: &str| if text.is_empty() { NEVER.to_owned() } else { text.to_owned() };
    // A container that is started again or frozen counts as running, as in docker.
    let running = status.state.is_live();
    let mut state = json!({
        "Status": status.state.word(),
        "Running": running,
        "Paused": status.state == State::Paused,
        "Restarting": status.state == State::Restarting,
        "OOMKilled": status.oom_killed,
        "Dead": status.state == State::Dead,
        "Pid": status.process.filter(|_| running).map_or(0, |process| process.pid),
        "ExitCode": status.exit_code,
        "Error": status.error,
        "StartedAt": time(&status.started_at),
        "FinishedAt": time(&status.finished_at),
    });
    if let Some(health) = &status.health {
        state["Health"] = json!(health);
    }
    state
}

/// What `netctl` says now: networks come and go while a container runs (`netctl connect`).
fn attached(store: &Store, record: &Container, status: &Status) -> network::Status {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Attachment {
        status: Option<network::Status>,
    }
    let file = store.paths.net().join("attachments").join(format!("{}.json", record.id));
    let now = contracts::atomic::read_json::<Attachment>(&file).ok().flatten().and_then(|file| file.status);
    now.filter(|_| status.state.is_live()).or_else(|| status.network.clone()).unwrap_or_default()
}

fn network_settings(store: &Store, record: &Container, status: &Status) -> Value {
    let network = attached(store, record, status);
    let mut ports: Map<String, Value> =
        record.config.exposed_ports.keys().map(|key| (key.clone(), Value::Null)).collect();
    for port in &network.ports {
        let key = format!("{}/{}", port.container_port, port.protocol);
        let binding = json!({
            "HostIp": port.host_ip.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string()),
            "HostPort": port.host_port.to_string(),
        });
        match ports.get_mut(&key) {
            Some(Value::Array(list)) => list.push(binding),
            _ => drop(ports.insert(key, json!([binding]))),
        }
    }
    let mut networks = Map::new();
    for at in &record.network.networks {
        let end = network.networks.get(&at.network).cloned().unwrap_or_default();
        networks.insert(at.network.clone(), endpoint(record, &end, at));
    }
    for (name, end) in &network.networks {
        let later = || network::Attachment {
            network: name.clone(),
            aliases: end.aliases.clone(),
            ..Default::default()
        };
        networks.entry(name).or_insert_with(|| endpoint(record, end, &later()));
    }
    let first = network.networks.values().next().cloned().unwrap_or_default();
    let (address, length) = split(&first.address);
    let (address6, length6) = split(first.address6.as_deref().unwrap_or_default());
    let text = |ip: Option<std::net::IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    json!({
        "Bridge": "",
        "SandboxID": if network.netns.is_some() || network.unnamed { record.id.as_str() } else { "" },
        "SandboxKey": match rootfs::running(status).filter(|_| network.unnamed) {
            Some(process) => Some(format!("/proc/{}/ns/net", process.pid).into()),
            None => network.netns,
        },
        "Ports": ports,
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": endpoint_id(&record.id, &first.network_id),
        "Gateway": text(first.gateway),
        "GlobalIPv6Address": address6,
        "GlobalIPv6PrefixLen": length6,
        "IPAddress": address,
        "IPPrefixLen": length,
        "IPv6Gateway": text(first.gateway6),
        "MacAddress": first.mac,
        "Networks": networks,
    })
}

/// One for each pair of container and network: the one's digits over the other's.
fn endpoint_id(container: &str, network: &str) -> String {
    let digit = |c: char| c.to_digit(16).unwrap_or_default();
    let mixed = container.chars().zip(network.chars()).map(|(a, b)| digit(a) ^ digit(b));
    mixed.filter_map(|value| char::from_digit(value, 16)).collect()
}

fn endpoint(record: &Container, end: &Endpoint, asked: &network::Attachment) -> Value {
    let (address, length) = split(&end.address);
    let (address6, length6) = split(end.address6.as_deref().unwrap_or_default());
    let text = |ip: Option<std::net::IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    let fixed = asked
        .ip
        .or(asked.ip6)
        .map(|_| json!({ "IPv4Address": text(asked.ip), "IPv6Address": text(asked.ip6) }));
    // The default network has no names.
    let names = (asked.network != "bridge" && !end.network_id.is_empty()).then(|| {
        let all = [record.name.as_str()].into_iter().chain(end.aliases.iter().map(String::as_str));
        let mut names: Vec<&str> = Vec::new();
        for name in all.chain([short(&record.id), record.config.hostname.as_str()]) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    });
    json!({
        "IPAMConfig": fixed,
        "Links": null,
        "Aliases": if asked.aliases.is_empty() { Value::Null } else { json!(asked.aliases) },
        "MacAddress": end.mac,
        "DriverOpts": null,
        "GwPriority": end.gw_priority,
        "NetworkID": end.network_id,
        "EndpointID": endpoint_id(&record.id, &end.network_id),
        "Gateway": text(end.gateway),
        "IPAddress": address,
        "IPPrefixLen": length,
        "IPv6Gateway": text(end.gateway6),
        "GlobalIPv6Address": address6,
        "GlobalIPv6PrefixLen": length6,
        "DNSNames": names,
    })
}

fn split(address: &str) -> (String, u32) {
    let (ip, length) = address.split_once('/').unwrap_or((address, "0"));
    (ip.to_owned(), length.parse().unwrap_or(0))
}
