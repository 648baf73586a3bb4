//! Names of containers on other hosts, from the list that an overlay network's hosts share: `DIR/.<network>.shared` says
//! where that is.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use contracts::atomic;
use serde::{Deserialize, Serialize};

use super::zone::{Entry, Zone};
use crate::cidr::Cidr;
use crate::network::peers;
use crate::state;

/// Where to read what other hosts say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// A file or a directory of files.
    pub path: PathBuf,
    /// What tells containers' addresses from hosts'.
    pub subnets: Vec<Cidr>,
}

impl Shared {
    /// The directory in which changes are seen.
    pub fn directory(&self) -> &Path {
        if self.path.is_dir() { &self.path } else { self.path.parent().unwrap_or(&self.path) }
    }

    /// The containers elsewhere. Those of this host, the zone's own, are its own business.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn names(&self, zone: &Zone) -> Result<Vec<Entry>> {
        let own: Vec<IpAddr> = zone.entries.iter().flat_map(|entry| entry.addresses.clone()).collect();
        let names = peers::read_path(&self.path, &self.subnets)?.names.into_iter();
        let others = names.filter(|(_, address, _)| !own.contains(address));
        let entry = |(_, address, names)| Entry { names, addresses: vec![address], ..Entry::default() };
        Ok(others.map(entry).collect())
    }
}

fn file(dir: &Path, network: &str) -> PathBuf {
    dir.join(format!(".{network}.shared"))
}

/// Notes it for the name server.
///
/// # Errors
/// The file system's.
pub fn write(dir: &Path, network: &str, shared: &Shared) -> Result<()> {
    atomic::write_json_volatile(&file(dir, network), shared, 0o600)
}

/// What is noted.
///
/// # Errors
/// An unreadable note.
pub fn read(dir: &Path, network: &str) -> Result<Option<Shared>> {
    atomic::read_json(&file(dir, network))
}

/// Forgets it.
///
/// # Errors
/// The file system's.
pub fn remove(dir: &Path, network: &str) -> Result<()> {
    state::remove(&file(dir, network))
}
