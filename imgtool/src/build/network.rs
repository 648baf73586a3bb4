//! The network of RUN steps: one attachment for a whole build, made by `netctl` when the first step asks.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use contracts::network::{Request, Status};
use contracts::paths::Paths;
use contracts::tool;

use super::work::Work;

/// The name of the mark that tells a sweeper to take the network down too.
pub const MARK: &str = "network";

/// A network that is up.
#[derive(Debug)]
pub struct Network {
    work: Work,
    /// What netctl made.
    pub status: Status,
}

impl Network {
    /// Joins the default network.
    ///
    /// # Errors
    /// There is no netctl, or it fails.
    pub fn up(paths: &Paths) -> Result<Self> {
        let work = Work::new(paths)?;
        // Before the call: a build killed during it leaves the mark.
        fs::write(work.path().join(MARK), "").context("mark the network")?;
        let request = Request { version: 1, hostname: "buildkitsandbox".into(), ..Request::default() };
        let netctl = tool::find("netctl");
        let mut child = Command::new(&netctl)
            .args(["up", work.id()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("execute {}", netctl.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            let bytes = serde_json::to_vec(&request).context("encode the network request")?;
            // A netctl that ended early says why on its stderr.
            let _ = stdin.write_all(&bytes);
        }
        let output = child.wait_with_output().context("wait for netctl")?;
        if !output.status.success() {
            // One that was killed has left its work half-done, and nobody else knows of this id.
            down_or_leave(&work);
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let status = serde_json::from_slice(&output.stdout).context("parse netctl's answer")?;
        Ok(Self { work, status })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        down_or_leave(&self.work);
    }
}

/// The work directory with its mark stays for the next build where the network does: nothing else knows of it.
fn down_or_leave(work: &Work) {
    if !down(work.id()) {
        work.leave();
    }
}

/// Takes a build's network down; not up is fine. Says whether it has gone.
pub fn down(id: &str) -> bool {
    tool::succeeds("netctl", &["down", id])
}
