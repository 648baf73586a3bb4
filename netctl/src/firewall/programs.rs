//! Running `iptables-restore` and `iptables-save`: one text per address family, applied as one step.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use contracts::fault;

use super::batch::Family;
use super::{Choice, Publish, Zone, iptables};

/// How long another user of the tables may hold their lock, in seconds.
const PATIENCE: &str = "60";

/// The programs of one kind.
#[derive(Debug)]
pub struct Programs {
    table: &'static str,
    v4: Pair,
    /// `None` where the host has no ip6tables: then only a network with IPv6 is an error.
    v6: Option<Pair>,
}

#[derive(Debug)]
struct Pair {
    restore: PathBuf,
    save: PathBuf,
}

/// A program in PATH; without one, where administrators' programs are.
pub fn find(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/sbin:/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|place| place.join(name)).find(|file| {
        file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

fn pair(program: &str, kind: &str) -> Result<Pair> {
    let get = |what: &str| -> Result<PathBuf> {
        match find(&format!("{program}{kind}-{what}")) {
            Some(path) => Ok(path),
            None => fault!(
                Unsupported,
                "program {program}{kind}-{what} is missing: install iptables, or --firewall nftables"
            ),
        }
    };
    Ok(Pair { restore: get("restore")?, save: get("save")? })
}

impl Programs {
    /// Finds them.
    ///
    /// # Errors
    /// `Unsupported`, naming the missing one.
    pub fn find(table: &'static str, choice: Choice) -> Result<Self> {
        let kind = if choice == Choice::IptablesLegacy { "-legacy" } else { "" };
        Ok(Self { table, v4: pair("iptables", kind)?, v6: pair("ip6tables", kind).ok() })
    }

    fn of(&self, family: Family) -> Result<&Pair> {
        match (family, &self.v6) {
            (Family::V4 | Family::Bridge, _) => Ok(&self.v4),
            (Family::V6, Some(pair)) => Ok(pair),
            (Family::V6, None) => pair("ip6tables", "").map(|_| &self.v4),
        }
    }

    /// As [`super::Filter::rebuild`].
    ///
    /// # Errors
    /// What the program says.
    pub fn rebuild(&self, zones: &[Zone], ports: &[Publish]) -> Result<()> {
        self.write(zones, Some(ports))
    }

    /// As [`super::Filter::set_zones`].
    ///
    /// # Errors
    /// What the program says.
    pub fn set_zones(&self, zones: &[Zone]) -> Result<()> {
        self.write(zones, None)
    }

    fn write(&self, zones: &[Zone], ports: Option<&[Publish]>) -> Result<()> {
        for family in Family::BOTH {
            let used = family.is_used_by(zones);
            if !used && family == Family::V6 && self.v6.is_none() {
                continue;
            }
            let pair = self.of(family)?;
            let saved = pair.save()?;
            let text = if used {
                iptables::zones(self.table, family, zones, ports, &saved)
            } else {
                iptables::removal(self.table, &saved)
            };
            if let Some(refusal) = pair.restore(&text)? {
                bail!("write rules with {}: {refusal}", pair.restore.display());
            }
        }
        Ok(())
    }

    /// As [`super::Filter::add_ports`].
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn add_ports(&self, ports: &[Publish]) -> Result<bool> {
        self.change(ports, iptables::add)
    }

    /// As [`super::Filter::remove_ports`].
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn remove_ports(&self, ports: &[Publish]) -> Result<bool> {
        self.change(ports, iptables::remove)
    }

    fn change(&self, ports: &[Publish], say: fn(&str, Family, &[Publish]) -> String) -> Result<bool> {
        for family in Family::BOTH {
            let text = say(self.table, family, ports);
            // A refusal is a chain or a rule that is not there; the caller writes all anew, and that says what is wrong.
            if !text.is_empty() && self.of(family)?.restore(&text)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Pair {
    fn save(&self) -> Result<String> {
        let shown = || format!("run {}", self.save.display());
        let output = Command::new(&self.save).stdin(Stdio::null()).output().with_context(shown)?;
        if !output.status.success() {
            bail!("{}: {}", self.save.display(), first_line(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What the program says against the text; `None` where it took it.
    fn restore(&self, text: &str) -> Result<Option<String>> {
        if text.is_empty() {
            return Ok(None);
        }
        let shown = || format!("run {}", self.restore.display());
        let mut child = Command::new(&self.restore)
            .args(["--noflush", "--wait", PATIENCE])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(shown)?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may have refused an early line and gone; what it said tells more than our broken pipe.
            let _ = stdin.write_all(text.as_bytes());
        }
        let output = child.wait_with_output().with_context(shown)?;
        Ok((!output.status.success()).then(|| first_line(&output.stderr)))
    }
}

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it failed and said nothing")
        .trim()
        .to_owned()
}
