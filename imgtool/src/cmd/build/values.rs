//! The values of `build`'s flags, read.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use contracts::fault;

use super::args::{Args, Steps};
use crate::build::limits::{self, Limits};
use crate::build::provenance::{self, Wish};
use crate::build::{Options, Secret};
use crate::obtain::Policy;
use crate::store::document::Platform;

/// What the build is told; its platform is the first of several.
///
/// # Errors
/// A value that is none.
pub fn options(args: &Args) -> Result<Options> {
    let mut build_args = Vec::new();
    for path in &args.build_arg_files {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        build_args.extend(lines.filter_map(build_arg));
    }
    build_args.extend(args.build_args.iter().filter_map(|text| build_arg(text)));
    let epoch = build_args.iter().rev().find(|(name, _)| name == "SOURCE_DATE_EPOCH");
    let epoch = epoch.map(|(_, value)| value.clone());
    let epoch = epoch.or_else(|| std::env::var("SOURCE_DATE_EPOCH").ok()).filter(|text| !text.is_empty());
    let epoch =
        epoch.map(|text| text.parse().with_context(|| format!("SOURCE_DATE_EPOCH {text}"))).transpose()?;
    let rewrite = args.output.iter().find_map(|output| output.rewrite);
    if rewrite == Some(true) && epoch.is_none() {
        fault!(Usage, "--output rewrite-timestamp=true needs SOURCE_DATE_EPOCH");
    }
    Ok(Options {
        build_args,
        target: args.target.clone(),
        labels: args.labels.iter().map(|text| pair(text, "--label")).collect::<Result<_>>()?,
        no_cache: args.no_cache,
        no_cache_filter: args.no_cache_filter.iter().map(|name| name.to_ascii_lowercase()).collect(),
        network: args.steps.network.clone(),
        hosts: args.steps.hosts.iter().map(|text| host(text)).collect::<Result<_>>()?,
        limits: limits(&args.steps)?,
        secrets: args.secrets.iter().map(|text| secret(text)).collect::<Result<_>>()?,
        ssh: args.ssh.iter().map(|text| agent(text)).collect::<Result<_>>()?,
        contexts: args.contexts.iter().map(|text| pair(text, "--build-context")).collect::<Result<_>>()?,
        allow: args.allow.clone(),
        pull: if args.pull { Policy::Always } else { Policy::Missing },
        platform: args.platform.first().cloned().unwrap_or_else(Platform::host),
        epoch,
        rewrite: rewrite.unwrap_or(true),
        inline: false,
        annotations: args.annotations.clone(),
        registry: args.registry.clone(),
    })
}

/// A name alone takes its value from the environment, and means nothing where it is not set.
fn build_arg(text: &str) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => std::env::var(text).ok().map(|value| (text.to_owned(), value)),
    }
}

fn pair(text: &str, flag: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ if flag == "--label" && !text.is_empty() => Ok((text.to_owned(), String::new())),
        _ => fault!(Usage, "{flag} {text}: want NAME=VALUE"),
    }
}

/// `name:address` or `name=address`; an address of version 6 may stand in brackets.
fn host(text: &str) -> Result<(String, String)> {
    let split = text.split_once('=').or_else(|| text.split_once(':'));
    let Some((name, address)) = split.filter(|(name, _)| !name.is_empty()) else {
        fault!(Usage, "bad format for add-host: \"{text}\": NAME:ADDRESS expected")
    };
    if address == "host-gateway" {
        fault!(Unsupported, "--add-host {text}: build steps know no host-gateway; give the address");
    }
    let plain = address.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(address);
    if plain.parse::<IpAddr>().is_err() {
        fault!(Usage, "invalid IP address in add-host: \"{address}\"");
    }
    Ok((name.to_owned(), plain.to_owned()))
}

fn limits(steps: &Steps) -> Result<Limits> {
    let bytes = |text: &Option<String>| text.as_deref().map(limits::bytes).transpose();
    let shm_size = match bytes(&steps.shm_size)? {
        Some(size) => match u64::try_from(size) {
            Ok(size) => Some(size),
            Err(_) => fault!(Usage, "--shm-size {size} is no size"),
        },
        None => None,
    };
    Ok(Limits {
        memory: bytes(&steps.memory)?,
        memory_swap: bytes(&steps.memory_swap)?,
        cpu_shares: steps.cpu_shares,
        cpu_period: steps.cpu_period,
        cpu_quota: steps.cpu_quota,
        cpuset_cpus: steps.cpuset_cpus.clone(),
        cpuset_mems: steps.cpuset_mems.clone(),
        cgroup_parent: steps.cgroup_parent.clone(),
        shm_size,
        ulimits: steps.ulimits.clone(),
    })
}

/// `id=a,src=file`, `id=a,env=NAME`, `type=file,…`; without a source the variable or file of that name.
fn secret(text: &str) -> Result<(String, Secret)> {
    let (mut id, mut source) = (None, None);
    let mut env = false;
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => source = Some(value.to_owned()),
            Some(("env", value)) => (env, source) = (true, Some(value.to_owned())),
            Some(("type", "env")) => env = true,
            Some(("type", "file")) => {}
            _ => bail!("--secret {text}: unexpected field {field}"),
        }
    }
    let Some(id) = id.or_else(|| source.clone()) else { bail!("--secret {text}: id is missing") };
    let source = source.unwrap_or_else(|| id.clone());
    let from_env = env || (!Path::new(&source).exists() && std::env::var_os(&source).is_some());
    Ok((id, if from_env { Secret::Env(source) } else { Secret::File(source.into()) }))
}

fn agent(text: &str) -> Result<(String, PathBuf)> {
    let (id, socket) = text.split_once('=').map_or((text, None), |(id, socket)| (id, Some(socket)));
    let socket = socket.map(PathBuf::from).or_else(|| std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from));
    match socket {
        Some(socket) => Ok((id.to_owned(), socket)),
        None => fault!(Usage, "--ssh {text}: SSH_AUTH_SOCK is not set"),
    }
}

/// What `--provenance`, `--attest` and `--sbom` ask for.
///
/// # Errors
/// A kind of statement that is not made here.
pub fn attestation(args: &Args) -> Result<Option<Wish>> {
    let no_sbom = || {
        contracts::fault::Fault::new(
            contracts::fault::Kind::Unsupported,
            "bills of materials (--sbom, --attest type=sbom) are not made: they take a scanner image",
        )
    };
    if args.sbom.as_deref().is_some_and(|value| value != "false") {
        return Err(no_sbom().into());
    }
    let mut wish = args.provenance.as_deref().map(provenance::wish).transpose()?.flatten();
    for text in &args.attest {
        let (kinds, rest): (Vec<&str>, Vec<&str>) =
            text.split(',').partition(|field| field.starts_with("type="));
        match kinds.as_slice() {
            ["type=provenance"] => wish = provenance::wish(&rest.join(","))?,
            ["type=sbom"] if rest == ["disabled=true"] => {}
            ["type=sbom"] => return Err(no_sbom().into()),
            _ => fault!(Usage, "--attest {text}: type=provenance expected"),
        }
    }
    Ok(wish)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses() {
        assert_eq!(host("a:1.2.3.4").unwrap(), ("a".into(), "1.2.3.4".into()));
        assert_eq!(host("a=[::1]").unwrap(), ("a".into(), "::1".into()));
        assert_eq!(host("a:::1").unwrap(), ("a".into(), "::1".into()));
        for bad in ["a", ":1.2.3.4", "a:b", "a:host-gateway"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}
