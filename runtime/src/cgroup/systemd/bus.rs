//! A connection to systemd: its private socket, else the message bus.

use std::env;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use contracts::fault;

use super::wire::{Call, Kind, Message, Value, Writer, length};

const NAME: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// How long an answer or the end of a job may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection. Calls wait for their answer; signals that come meanwhile are kept.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    serial: u32,
    signals: Vec<Message>,
}

fn read_line(stream: &mut UnixStream) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.extend(byte);
        ensure!(line.len() < 1024, "D-Bus: endless answer to AUTH");
    }
    Ok(line)
}

/// A refusal, for callers that can do without.
#[derive(Debug)]
pub struct Refusal(pub String);

impl std::fmt::Display for Refusal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}
impl std::error::Error for Refusal {}

impl Bus {
    /// Connects to the system's manager, or as an ordinary user to the user's own.
    ///
    /// # Errors
    /// systemd does not run here.
    pub fn connect() -> Result<Self> {
        let root = !contracts::paths::is_ordinary_user();
        let base = if root {
            PathBuf::from("/run")
        } else {
            let id = nix::unistd::geteuid();
            env::var_os("XDG_RUNTIME_DIR").map_or_else(|| format!("/run/user/{id}").into(), PathBuf::from)
        };
        // The private socket is systemd itself: no bus daemon between, no name to ask for.
        if let Ok(bus) = Self::open(&base.join("systemd/private")) {
            return Ok(bus);
        }
        let path = if root { base.join("dbus/system_bus_socket") } else { base.join("bus") };
        let Ok(mut bus) = Self::open(&path) else {
            fault!(Unsupported, "--systemd-cgroup: systemd does not answer on {}", path.display());
        };
        let daemon = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
            signature: "",
        };
        bus.call(daemon, Writer::default())?;
        let mut rule = Writer::default();
        rule.text("type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
        bus.call(Call { member: "AddMatch", signature: "s", ..daemon }, rule)?;
        bus.call(manager("Subscribe", ""), Writer::default())?;
        Ok(bus)
    }

    fn open(path: &Path) -> Result<Self> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // AUTH EXTERNAL: the uid in decimal, in hexadecimal; the kernel vouches for it. In a user namespace our number is
        // not the one that systemd knows us by: none is named, and the kernel's word is taken.
        let identity = if sys::namespace::in_user_namespace() {
            "\r\nDATA".to_owned()
        } else {
            let uid = nix::unistd::geteuid().to_string();
            uid.bytes().fold(" ".to_owned(), |hex, byte| format!("{hex}{byte:02x}"))
        };
        // BEGIN at once, and the first call only after the answer: what systemd reads in one piece with BEGIN waits in its
        // buffer until more comes, which is for ever.
        stream.write_all(format!("\0AUTH EXTERNAL{identity}\r\nBEGIN\r\n").as_bytes())?;
        let mut answer = read_line(&mut stream)?;
        if answer.starts_with(b"DATA") {
            answer = read_line(&mut stream)?;
        }
        ensure!(answer.starts_with(b"OK "), "D-Bus: {}", String::from_utf8_lossy(&answer).trim_end());
        Ok(Self { stream, serial: 0, signals: Vec::new() })
    }

    /// Starts a transient unit and waits until it runs.
    ///
    /// # Errors
    /// systemd refuses, or its job fails.
    pub fn start_transient(&mut self, unit: &str, properties: &[(String, Value)]) -> Result<()> {
        let mut body = Writer::default();
        body.text(unit);
        body.text("replace");
        body.properties(properties);
        body.array(8, |_| {});
        let job = self.call(manager("StartTransientUnit", "ssa(sv)a(sa(sv))"), body)?.body().text()?;
        self.wait_for(&job, unit)
    }

    /// Stops a unit and waits for it.
    ///
    /// # Errors
    /// A [`Refusal`] where it does not exist.
    pub fn stop(&mut self, unit: &str) -> Result<()> {
        let mut body = Writer::default();
        body.text(unit);
        body.text("replace");
        let job = self.call(manager("StopUnit", "ss"), body)?.body().text()?;
        self.wait_for(&job, unit)
    }

    /// Forgets that a unit failed, so that its name is free.
    ///
    /// # Errors
    /// A [`Refusal`] where it does not exist.
    pub fn reset_failed(&mut self, unit: &str) -> Result<()> {
        let mut body = Writer::default();
        body.text(unit);
        self.call(manager("ResetFailedUnit", "s"), body).map(drop)
    }

    /// Changes properties of a running unit until it stops.
    ///
    /// # Errors
    /// systemd refuses.
    pub fn set_properties(&mut self, unit: &str, properties: &[(String, Value)]) -> Result<()> {
        let mut body = Writer::default();
        body.text(unit);
        body.bool(true);
        body.properties(properties);
        self.call(manager("SetUnitProperties", "sba(sv)"), body).map(drop)
    }

    /// A unit's cgroup, from the root of the hierarchy.
    ///
    /// # Errors
    /// It has none.
    pub fn control_group(&mut self, unit: &str) -> Result<String> {
        let mut body = Writer::default();
        body.text(unit);
        let path = self.call(manager("GetUnit", "s"), body)?.body().text()?;
        let kind = if unit.ends_with(".slice") { "Slice" } else { "Scope" };
        let mut body = Writer::default();
        body.text(&format!("{NAME}.{kind}"));
        body.text("ControlGroup");
        let call = Call {
            destination: NAME,
            path: &path,
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            signature: "ss",
        };
        let reply = self.call(call, body)?;
        let mut reader = reply.body();
        ensure!(reader.signature()? == "s", "{unit}: ControlGroup is no text");
        let path = reader.text()?;
        ensure!(path.len() > 1, "{unit}: has no cgroup");
        Ok(path)
    }

    fn call(&mut self, call: Call<'_>, body: Writer) -> Result<Message> {
        self.serial += 1;
        let what = || format!("systemd {}", call.member);
        self.stream.write_all(&call.encode(self.serial, &body.0)).with_context(what)?;
        loop {
            let message = self.receive().with_context(what)?;
            match message.kind {
                Kind::Reply(serial) if serial == self.serial => return Ok(message),
                Kind::Error(serial) if serial == self.serial => {
                    let detail = message.body().text().unwrap_or_default();
                    return Err(Refusal(format!("{}: {detail}", message.error))).with_context(what);
                }
                _ => self.signals.push(message),
            }
        }
    }

    /// Waits for `JobRemoved(u id, o job, s unit, s result)`.
    fn wait_for(&mut self, job: &str, unit: &str) -> Result<()> {
        let mut kept = std::mem::take(&mut self.signals).into_iter();
        loop {
            let message = match kept.next() {
                Some(message) => message,
                None => self.receive().with_context(|| format!("wait for systemd's job for {unit}"))?,
            };
            if message.member != "JobRemoved" {
                continue;
            }
            let mut body = message.body();
            body.u32()?;
            if body.text()? != job {
                continue;
            }
            body.text()?;
            return match body.text()?.as_str() {
                "done" => Ok(()),
                result => bail!("systemd: job for {unit}: {result}"),
            };
        }
    }

    fn receive(&mut self) -> Result<Message> {
        let mut start = [0; 16];
        self.stream.read_exact(&mut start).context("read from systemd")?;
        let mut bytes = start.to_vec();
        bytes.resize(length(&start)?, 0);
        self.stream.read_exact(&mut bytes[16..]).context("read from systemd")?;
        Message::decode(&bytes)
    }
}

fn manager<'a>(member: &'a str, signature: &'a str) -> Call<'a> {
    Call { destination: NAME, path: OBJECT, interface: MANAGER, member, signature }
}
