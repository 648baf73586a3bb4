//! What podman's flags mean for the others, and for the record.

use std::path::Path;

use anyhow::Result;
use contracts::container::Container;
use contracts::fault;

use crate::cli::CreateFlags;

/// The variables that name proxies.
const PROXIES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
];

/// Turns into other flags what can be said by them.
pub fn translate(flags: &mut CreateFlags) -> Result<()> {
    let podman = &flags.podman;
    if podman.arch.is_some() || podman.os.is_some() || podman.variant.is_some() {
        let own = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let mut platform =
            format!("{}/{}", podman.os.as_deref().unwrap_or("linux"), podman.arch.as_deref().unwrap_or(own));
        if let Some(variant) = &podman.variant {
            platform = format!("{platform}/{variant}");
        }
        flags.platform = Some(platform);
    }
    if let Some(zone) = &podman.tz {
        let file = match zone.as_str() {
            "local" => "/etc/localtime".to_owned(),
            _ if zone.is_empty() || zone.starts_with('/') || zone.split('/').any(|part| part == "..") => {
                fault!(Usage, "unknown time zone {zone}")
            }
            _ => format!("/usr/share/zoneinfo/{zone}"),
        };
        if !Path::new(&file).is_file() {
            fault!(NotFound, "unknown time zone {zone}: no {file} here");
        }
        flags.storage.volume.push(format!("{file}:/etc/localtime:ro"));
    }
    if podman.read_only_tmpfs && flags.storage.read_only {
        for target in ["/run", "/tmp", "/var/tmp"] {
            let at = |text: &String| text.split(':').any(|part| part.trim_end_matches('/') == target);
            let storage = &mut flags.storage;
            if !storage.tmpfs.iter().any(at) && !storage.volume.iter().any(at) {
                storage.tmpfs.push(format!("{target}:exec,tmpcopyup"));
            }
        }
    }
    Ok(())
}

/// The variables of this process that the container gets.
pub fn environment(flags: &CreateFlags) -> Vec<String> {
    let all = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let wanted = |name: &str| flags.podman.env_host || (flags.podman.http_proxy && PROXIES.contains(&name));
    all.filter(|(name, _)| wanted(name)).map(|(name, value)| format!("{name}={value}")).collect()
}

/// What the record itself says.
pub fn record(flags: &CreateFlags, record: &mut Container) -> Result<()> {
    let podman = &flags.podman;
    if let Some(mask) = &podman.umask {
        record.umask = match u32::from_str_radix(mask, 8) {
            Ok(bits) if bits <= 0o777 => Some(bits),
            _ => fault!(Usage, "invalid umask {mask}: it is an octal number up to 0777"),
        };
    }
    record.run_timeout = podman.timeout.unwrap_or_default();
    for (keep, file) in [(podman.no_hosts, "/etc/hosts"), (podman.no_hostname, "/etc/hostname")] {
        if keep {
            record.image_files.push(file.into());
        }
    }
    if podman.no_hosts && !flags.network.add_host.is_empty() {
        fault!(Usage, "--no-hosts and --add-host cannot be set together");
    }
    Ok(())
}

/// Takes away what of the image's environment is not wanted; `own` is the user's.
pub fn unset(flags: &CreateFlags, own: &[String], env: &mut Vec<String>) {
    let podman = &flags.podman;
    if podman.unsetenv_all {
        *env = own.to_vec();
    }
    env.retain(|entry| {
        let name = entry.split('=').next().unwrap_or(entry);
        !podman.unsetenv.iter().any(|unwanted| unwanted == name)
    });
}
