//! Addresses: from our own host-local, or from another IPAM plugin, executed with the same environment and input.

use std::env;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::answer::Answer;
use super::config::{Config, Environment};
use super::failure::{DECODING, Failure, INVALID_CONFIG, fail};
use super::host_local::Leases;

/// The configuration in both its forms.
#[derive(Debug)]
pub struct Input {
    /// Read.
    pub config: Config,
    /// As it came.
    pub raw: Value,
}

impl Input {
    fn is_ours(&self) -> bool {
        self.config.ipam.kind == "host-local"
    }

    /// ADD. Without an IPAM plugin there are no addresses.
    ///
    /// # Errors
    /// The plugin's, with its number.
    pub fn ipam_add(&self, environment: &Environment) -> Result<Answer> {
        if self.config.ipam.kind.is_empty() {
            return Ok(Answer::default());
        }
        if self.is_ours() {
            return Leases::open(&self.config)?.add(&self.config, environment);
        }
        let said = self.execute("ADD")?;
        match serde_json::from_str(&said) {
            Ok(value) => Answer::parse(&value),
            Err(err) => fail!(DECODING, "result of IPAM plugin {}: {err}", self.config.ipam.kind),
        }
    }

    /// DEL.
    ///
    /// # Errors
    /// As [`Self::ipam_add`].
    pub fn ipam_del(&self, environment: &Environment) -> Result<()> {
        if self.is_ours() {
            return Leases::open(&self.config)?.remove(environment);
        }
        self.forward("DEL")
    }

    /// CHECK.
    ///
    /// # Errors
    /// As [`Self::ipam_add`].
    pub fn ipam_check(&self, environment: &Environment) -> Result<()> {
        if self.is_ours() {
            return Leases::open(&self.config)?.check(environment);
        }
        self.forward("CHECK")
    }

    /// GC.
    ///
    /// # Errors
    /// As [`Self::ipam_add`].
    pub fn ipam_gc(&self) -> Result<()> {
        if self.is_ours() {
            let valid = self.config.valid_attachments.as_deref().unwrap_or_default();
            return Leases::open(&self.config)?.collect(valid);
        }
        self.forward("GC")
    }

    /// STATUS.
    ///
    /// # Errors
    /// As [`Self::ipam_add`].
    pub fn ipam_status(&self) -> Result<()> {
        if self.is_ours() {
            return Leases::open(&self.config).map(|_| ());
        }
        self.forward("STATUS")
    }

    fn forward(&self, command: &str) -> Result<()> {
        if self.config.ipam.kind.is_empty() { Ok(()) } else { self.execute(command).map(|_| ()) }
    }

    fn execute(&self, command: &str) -> Result<String> {
        let kind = &self.config.ipam.kind;
        let program = find(kind)?;
        let shown = || format!("execute IPAM plugin {}", program.display());
        let mut child = Command::new(&program)
            .env("CNI_COMMAND", command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(shown)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A plugin that does not read its input (VERSION, an early error) is no failure of ours.
            let _ = stdin.write_all(self.raw.to_string().as_bytes());
        }
        let output = child.wait_with_output().with_context(shown)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        let error: Value = serde_json::from_str(&said).unwrap_or_default();
        let code = error["code"].as_u64().and_then(|code| u32::try_from(code).ok()).unwrap_or(100);
        let message = format!("IPAM plugin {kind}: {}", error["msg"].as_str().unwrap_or(said.trim()));
        Err(Failure { code, message }.into())
    }
}

/// The plugin of that name in `CNI_PATH`.
fn find(kind: &str) -> Result<PathBuf> {
    let path = env::var_os("CNI_PATH").unwrap_or_default();
    // A name with a slash would leave the directories that the runtime trusts.
    if !kind.contains('/') && kind != ".." {
        for dir in env::split_paths(&path) {
            let program = dir.join(kind);
            if program.is_file() {
                return Ok(program);
            }
        }
    }
    fail!(INVALID_CONFIG, "IPAM plugin {kind:?} is not in CNI_PATH ({})", path.to_string_lossy())
}
