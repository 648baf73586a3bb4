//! slirp4netns: its flags, and its API socket, on which it is told ports.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use contracts::fault;
use contracts::network::Port;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use super::PATIENCE;

/// Its own name server.
pub const SERVER: &str = "10.0.2.3";

/// Starts it and waits until it is ready; `None` where it has ended instead.
///
/// # Errors
/// It cannot be executed.
pub fn start(mut command: Command, dir: &Path, namespace: &Path) -> Result<Option<Child>> {
    let (ready, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("make a pipe")?;
    // Its word that it is ready goes to its descriptor 0: 1 and 2 are for people.
    command
        .args(["--configure", "--mtu=65520", "--disable-host-loopback", "--ready-fd=0", "--netns-type=path"])
        .arg("--api-socket")
        .arg(dir.join("uplink.sock"))
        .arg(namespace)
        .arg("tap0")
        .stdin(Stdio::from(writer));
    let mut child = command.spawn().context("start slirp4netns")?;
    // Our copy of the pipe's end would hide the program's death.
    drop(command);
    let mut readable = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    if poll(&mut readable, timeout).context("wait for slirp4netns")? == 0 {
        let _ = child.kill().and_then(|()| child.wait());
        bail!("slirp4netns is not ready after {} seconds", PATIENCE.as_secs());
    }
    let mut word = [0; 1];
    let said = File::from(ready).read(&mut word).context("wait for slirp4netns")?;
    Ok(Some(child).filter(|_| said == 1))
}

fn ask(dir: &Path, question: &Value) -> Result<Value> {
    let path = dir.join("uplink.sock");
    let shown = || format!("ask slirp4netns at {}", path.display());
    let mut stream = UnixStream::connect(&path).with_context(shown)?;
    stream.write_all(question.to_string().as_bytes()).with_context(shown)?;
    stream.shutdown(Shutdown::Write).with_context(shown)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).with_context(shown)?;
    serde_json::from_str(&text).with_context(shown)
}

fn host(port: &Port) -> IpAddr {
    port.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
}

/// Opens a port on the host.
///
/// # Errors
/// `Busy` where it is taken, `Unsupported` for IPv6, which it does not forward.
pub fn open(dir: &Path, port: &Port) -> Result<()> {
    let (host, number, protocol) = (host(port), port.host_port, &port.protocol);
    if host.is_ipv6() {
        fault!(
            Unsupported,
            "cannot publish [{host}]:{number}/{protocol} for an ordinary user: slirp4netns forwards IPv4 only \
             (NETCTL_UPLINK=pasta)"
        );
    }
    let answer = ask(
        dir,
        &json!({"execute": "add_hostfwd", "arguments": {
            "proto": protocol, "host_addr": host, "host_port": number, "guest_port": number,
        }}),
    )?;
    match answer["error"]["desc"].as_str() {
        None => Ok(()),
        Some(why) => fault!(Busy, "cannot publish {host}:{number}/{protocol}: {why}"),
    }
}

/// Closes ports.
///
/// # Errors
/// The program does not answer.
pub fn close(dir: &Path, ports: &[Port]) -> Result<()> {
    let listed = ask(dir, &json!({"execute": "list_hostfwd"}))?;
    for entry in listed["return"]["entries"].as_array().into_iter().flatten() {
        let is_ours = |port: &Port| {
            entry["proto"] == json!(port.protocol)
                && entry["host_port"] == json!(port.host_port)
                && entry["host_addr"] == json!(host(port).to_string())
        };
        if ports.iter().any(is_ours) {
            ask(dir, &json!({"execute": "remove_hostfwd", "arguments": {"id": entry["id"]}}))?;
        }
    }
    Ok(())
}
