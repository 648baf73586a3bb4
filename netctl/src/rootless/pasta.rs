//! pasta: its flags; its ports are among them.

use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use contracts::fault;
use contracts::network::Port;

use super::PATIENCE;
use crate::state;

/// An address of nobody's, at which it takes questions for the host's name servers.
pub const SERVER: &str = "169.254.1.1";

/// Starts it and waits until it is ready; `None` where it has ended instead.
///
/// # Errors
/// It cannot be executed; `Busy` where it has ended because of the ports.
pub fn start(mut command: Command, dir: &Path, namespace: &Path, ports: &[Port]) -> Result<Option<Child>> {
    let ready = dir.join("pasta.pid");
    state::remove(&ready)?;
    command
        .args(["--config-net", "--netns-only", "--foreground", "--quiet", "--no-map-gw"])
        .args(["--dns-forward", SERVER, "-T", "none", "-U", "none"])
        .args(flags(ports))
        .arg("--pid")
        .arg(&ready)
        .arg("--netns")
        .arg(namespace);
    let mut child = command.spawn().context("start pasta")?;
    let patience = Instant::now() + PATIENCE;
    loop {
        if Instant::now() > patience {
            let _ = child.kill().and_then(|()| child.wait());
            bail!("pasta is not ready after {} seconds", PATIENCE.as_secs());
        }
        if state::read(&ready)?.is_some_and(|text| text.ends_with('\n')) {
            return Ok(Some(child));
        }
        if child.try_wait().context("wait for pasta")?.is_some() {
            break;
        }
        sleep(Duration::from_millis(1));
    }
    let log = state::read(&dir.join("uplink.log"))?.unwrap_or_default();
    match log.lines().map(str::trim).find(|line| line.contains("bind") && !ports.is_empty()) {
        Some(why) => fault!(Busy, "cannot publish ports: pasta: {why}"),
        None => Ok(None),
    }
}

fn flags(ports: &[Port]) -> Vec<String> {
    let mut flags = Vec::new();
    for (flag, protocol) in [("-t", "tcp"), ("-u", "udp")] {
        let before = flags.len();
        for port in ports.iter().filter(|port| port.protocol == protocol) {
            let number = port.host_port;
            let host = port.host_ip.map(|host| format!("{host}/")).unwrap_or_default();
            flags.extend([flag.to_owned(), format!("{host}{number}")]);
        }
        if flags.len() == before {
            flags.extend([flag.to_owned(), "none".to_owned()]);
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use contracts::network::Port;

    #[test]
    fn ports_become_flags() {
        let port = |host: &str, host_port, protocol: &str| Port {
            host_ip: host.parse().ok(),
            host_port,
            container_port: 80,
            protocol: protocol.into(),
            ..Port::default()
        };
        assert_eq!(super::flags(&[]).join(" "), "-t none -u none");
        let given = [port("", 8080, "tcp"), port("127.0.0.1", 8081, "tcp"), port("::1", 53, "udp")];
        assert_eq!(super::flags(&given).join(" "), "-t 8080 -t 127.0.0.1/8081 -u ::1/53");
    }
}
