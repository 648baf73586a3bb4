//! What `setup` and `teardown` do at a time: one container on one network.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::aardvark::Server;
use super::input::{Info, Input, Wanted};
use crate::attach::namespace::Namespace;
use crate::guest::Key;

/// One container on one network.
#[derive(Debug)]
pub struct Task<'a> {
    /// The whole input.
    pub input: &'a Input,
    /// The network.
    pub info: Info,
    /// What the container wants of it.
    pub wanted: Wanted,
    /// The container's namespace; `None` where it has gone before its networks were taken down.
    pub namespace: Option<&'a Namespace>,
    /// Where it is, or was.
    pub netns: &'a Path,
    /// `--firewall-driver none`.
    pub without_rules: bool,
    /// Who answers names.
    pub names: &'a Server,
}

impl Task<'_> {
    /// The bridge's name.
    ///
    /// # Errors
    /// There is none.
    pub fn bridge(&self) -> Result<&str> {
        match self.info.network_interface.as_deref().filter(|name| !name.is_empty()) {
            Some(name) if name.len() <= 15 && !name.contains(['/', ':', ' ']) => Ok(name),
            Some(name) => bail!("invalid bridge name {name:?}"),
            None => bail!("no network interface provided"),
        }
    }

    /// The container's namespace where it must be there.
    ///
    /// # Errors
    /// It has gone.
    pub fn inside(&self) -> Result<&Namespace> {
        self.namespace.with_context(|| format!("container netns not found: {}", self.netns.display()))
    }

    /// Under which it is remembered.
    pub fn key(&self) -> Key {
        Key {
            network: self.info.name.clone(),
            container: self.input.container_id.clone(),
            interface: self.wanted.interface_name.clone(),
        }
    }
}
