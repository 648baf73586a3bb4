//! Where the rules go: nftables, or iptables where the host's own rules are there.
//!
//! `NETCTL_FIREWALL` or `--firewall` say it; else the host does. While containers are attached the choice stands, in
//! `STATE/net/firewall`, so that every command changes the same rules; `netctl reload --firewall …` moves them.

use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::errno::Errno;

use super::batch;
use crate::netlink::message::{Batch, attributes};
use crate::netlink::socket::{Socket, errno};
use crate::state::{self, State};

/// The environment variable that says it for all commands.
const VARIABLE: &str = "NETCTL_FIREWALL";

/// A back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Tables of our own, by netlink.
    Nftables,
    /// Chains of our own in the tables of `iptables`.
    Iptables,
    /// The same by `iptables-legacy`.
    IptablesLegacy,
    /// No rules at all: somebody else makes them.
    None,
}

impl Choice {
    const ALL: [(&'static str, Self); 4] = [
        ("nftables", Self::Nftables),
        ("iptables", Self::Iptables),
        ("iptables-legacy", Self::IptablesLegacy),
        ("none", Self::None),
    ];

    /// Its name in flags and files.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, choice)| *choice == self).map_or("", |(name, _)| name)
    }
}

/// What the flag says.
static FLAG: OnceLock<Option<Choice>> = OnceLock::new();

fn parse(text: &str) -> Result<Option<Choice>> {
    match Choice::ALL.iter().find(|(name, _)| text == *name) {
        Some((_, choice)) => Ok(Some(*choice)),
        None if text.is_empty() || text == "auto" => Ok(None),
        None => fault!(Usage, "firewall {text:?}: auto, nftables, iptables, iptables-legacy or none"),
    }
}

/// Has every later call in this process follow the flag, whatever the environment says.
///
/// # Errors
/// `Usage` for an unknown one.
pub fn ask(text: &str) -> Result<()> {
    let _ = FLAG.set(parse(text)?);
    Ok(())
}

/// What the user asks for; `None` where nobody does, or for `auto`.
///
/// # Errors
/// `Usage` for an unknown one.
pub fn asked() -> Result<Option<Choice>> {
    match FLAG.get() {
        Some(choice) => Ok(*choice),
        None => parse(&std::env::var(VARIABLE).unwrap_or_default()).context(VARIABLE),
    }
}

fn file(state: &State) -> PathBuf {
    state.path(&["firewall"])
}

/// Where the rules of attached containers are.
///
/// # Errors
/// The note cannot be read.
pub fn noted(state: &State) -> Result<Option<Choice>> {
    Ok(state::read(&file(state))?.and_then(|text| parse(text.trim()).ok().flatten()))
}

/// Refuses a container whose rules would stand elsewhere than those of the others.
///
/// # Errors
/// `WrongState` where the user asks for another back end than the attached containers have.
pub fn check(state: &State) -> Result<()> {
    let Some(asked) = asked()? else { return Ok(()) };
    match noted(state)? {
        Some(noted) if noted != asked => {
            if state.live()?.is_empty() && state::list(&state.path(&["guests"]))?.is_empty() {
                return state::remove(&file(state));
            }
            fault!(
                WrongState,
                "the rules of attached containers are in {}: netctl reload --firewall {} moves them",
                noted.name(),
                asked.name()
            )
        }
        _ => Ok(()),
    }
}

/// The back end whose rules stand, or that shall be used from now on.
///
/// # Errors
/// A wrong choice.
pub fn current(state: &State, socket: &Socket) -> Result<Choice> {
    match noted(state)? {
        Some(noted) => Ok(noted),
        None => note(state, asked()?.map_or_else(|| detect(socket), Ok)?),
    }
}

/// Writes the choice down.
///
/// # Errors
/// The file system's.
pub fn note(state: &State, choice: Choice) -> Result<Choice> {
    let file = file(state);
    std::fs::write(&file, choice.name()).with_context(|| format!("write {}", file.display()))?;
    Ok(choice)
}

/// Forgets the choice where no rules are left.
///
/// # Errors
/// The file system's.
pub fn forget(state: &State) -> Result<()> {
    if state.live()?.is_empty() && state::list(&state.path(&["guests"]))?.is_empty() {
        state::remove(&file(state))?;
    }
    Ok(())
}

/// Nftables, unless this kernel has none, or iptables drops whatever is forwarded that it does not know (as on a host
/// with Docker): a packet must pass all tables, so ours has to be accepted there.
fn detect(socket: &Socket) -> Result<Choice> {
    let mut batch = Batch::new();
    batch::get_chain(&mut batch, "filter", "FORWARD");
    let mut drops = false;
    let asked = socket.query(&batch, |_, body| {
        const CHAIN_POLICY: u16 = 5;
        let policy = attributes(body.get(4..).unwrap_or(&[])).find(|(kind, _)| *kind == CHAIN_POLICY);
        drops |= policy.is_some_and(|(_, value)| value == 0u32.to_be_bytes());
    });
    match asked {
        Ok(()) if drops => Ok(Choice::Iptables),
        Err(err) if matches!(errno(&err), Some(Errno::EINVAL | Errno::EOPNOTSUPP)) => Ok(Choice::Iptables),
        _ => Ok(Choice::Nftables),
    }
}
