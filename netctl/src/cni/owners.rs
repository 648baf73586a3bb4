//! Who has which lease, without reading every file of host-local's: each lease of ours has a second link,
//! `DATADIR/.owners/<network>/<container>,<interface>,<address>`. The leases themselves stay as host-local knows them; one
//! that it has made has no second link and is read, one that it has given back has lost its first.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::state;

/// The leases of one network, whose lock the caller holds.
#[derive(Debug)]
pub struct Owners {
    leases: PathBuf,
    links: PathBuf,
}

impl Owners {
    /// Those of the leases in `base/network`.
    pub fn new(base: &Path, network: &str) -> Self {
        Self { leases: base.join(network), links: base.join(".owners").join(network) }
    }

    /// Makes a lease's second link. Where there can be none, the lease is read when it matters.
    pub fn note(&self, address: &str, owner: &str) {
        let Some(name) = link_name(address, owner) else { return };
        let (lease, link) = (self.leases.join(address), self.links.join(name));
        let again = match fs::hard_link(&lease, &link) {
            Err(err) if err.kind() == ErrorKind::NotFound => fs::create_dir_all(&self.links),
            // Of a lease that somebody else has given back.
            Err(err) if err.kind() == ErrorKind::AlreadyExists => fs::remove_file(&link),
            _ => return,
        };
        if again.is_ok() {
            let _ = fs::hard_link(&lease, &link);
        }
    }

    /// The addresses of all whose owner is `wanted`.
    ///
    /// # Errors
    /// The file system's.
    pub fn find(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<(IpAddr, String)>> {
        let mut links = self.links()?;
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        let shown = || format!("read directory {}", self.leases.display());
        for entry in fs::read_dir(&self.leases).with_context(shown)? {
            let entry = entry.with_context(shown)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(address) = name.parse::<IpAddr>() else { continue };
            let link = links.get(&entry.ino()).and_then(|link| owner_in(link, &name));
            let owner = if let Some(owner) = link {
                links.remove(&entry.ino());
                owner
            } else {
                let text = state::read(&self.leases.join(&name))?.unwrap_or_default().trim().to_owned();
                unknown.push((name, text.clone()));
                text
            };
            if wanted(&owner) {
                found.push((address, owner));
            }
        }
        for left in links.into_values() {
            state::remove(&self.links.join(left))?;
        }
        for (address, owner) in unknown {
            self.note(&address, &owner);
        }
        Ok(found)
    }

    /// Gives a lease back.
    ///
    /// # Errors
    /// The file system's.
    pub fn release(&self, address: IpAddr, owner: &str) -> Result<()> {
        let address = address.to_string();
        state::remove(&self.leases.join(&address))?;
        if let Some(name) = link_name(&address, owner) {
            state::remove(&self.links.join(name))?;
        }
        // Only where they are empty now.
        if fs::remove_dir(&self.links).is_ok() {
            let _ = self.links.parent().map(fs::remove_dir);
        }
        Ok(())
    }

    /// The names of the second links, by the file that they are of.
    fn links(&self) -> Result<HashMap<u64, String>> {
        let shown = || format!("read directory {}", self.links.display());
        let entries = match fs::read_dir(&self.links) {
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(HashMap::new()),
            other => other.with_context(shown)?,
        };
        let mut links = HashMap::new();
        for entry in entries {
            let entry = entry.with_context(shown)?;
            if let Ok(name) = entry.file_name().into_string() {
                links.insert(entry.ino(), name);
            }
        }
        Ok(links)
    }
}

/// `None` for what no name can say.
fn link_name(address: &str, owner: &str) -> Option<String> {
    let (container, interface) = owner.split_once("\r\n")?;
    let is_plain = |text: &str| !text.is_empty() && !text.contains(['/', ',', '\r', '\n']);
    (is_plain(container) && is_plain(interface)).then(|| format!("{container},{interface},{address}"))
}

fn owner_in(link: &str, address: &str) -> Option<String> {
    let (container, interface) = link.strip_suffix(address)?.strip_suffix(',')?.split_once(',')?;
    Some(format!("{container}\r\n{interface}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(owners: &Owners, address: &str, owner: &str) {
        fs::create_dir_all(&owners.leases).unwrap();
        fs::write(owners.leases.join(address), owner).unwrap();
    }

    fn found(owners: &Owners, owner: &str) -> Vec<String> {
        let found = owners.find(|text| text == owner).unwrap();
        let mut found: Vec<String> = found.iter().map(|(address, _)| address.to_string()).collect();
        found.sort();
        found
    }

    #[test]
    fn leases_of_the_other_plugin_count_and_are_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let owners = Owners::new(dir.path(), "n");
        lease(&owners, "10.0.0.2", "a\r\neth0");
        lease(&owners, "fd00::2", "a\r\neth0\n");
        lease(&owners, "10.0.0.3", "old");
        lease(&owners, "lock", "a\r\neth0");
        assert_eq!(found(&owners, "a\r\neth0"), ["10.0.0.2", "fd00::2"]);
        assert_eq!(found(&owners, "old"), ["10.0.0.3"]);
        let link = owners.links.join("a,eth0,10.0.0.2");
        assert!(link.exists() && owners.links.join("a,eth0,fd00::2").exists());
        // Written past its name: it is the link that was believed.
        fs::write(&link, "b\r\neth0").unwrap();
        assert_eq!(found(&owners, "a\r\neth0"), ["10.0.0.2", "fd00::2"]);
    }

    #[test]
    fn a_lease_given_back_and_out_by_the_other_plugin_has_its_new_owner() {
        let dir = tempfile::tempdir().unwrap();
        let owners = Owners::new(dir.path(), "n");
        lease(&owners, "10.0.0.2", "a\r\neth0");
        owners.note("10.0.0.2", "a\r\neth0");
        fs::remove_file(owners.leases.join("10.0.0.2")).unwrap();
        lease(&owners, "10.0.0.2", "b\r\neth0");
        assert!(found(&owners, "a\r\neth0").is_empty());
        assert_eq!(found(&owners, "b\r\neth0"), ["10.0.0.2"]);
        assert!(!owners.links.join("a,eth0,10.0.0.2").exists(), "it is of no lease any more");
        // The same owner again, with a link of its former lease in the way.
        fs::remove_file(owners.leases.join("10.0.0.2")).unwrap();
        lease(&owners, "10.0.0.2", "b\r\neth0");
        assert_eq!(found(&owners, "b\r\neth0"), ["10.0.0.2"]);
        owners.release("10.0.0.2".parse().unwrap(), "b\r\neth0").unwrap();
        assert!(found(&owners, "b\r\neth0").is_empty());
    }

    #[test]
    fn nothing_stays_of_the_last_lease() {
        let dir = tempfile::tempdir().unwrap();
        let owners = Owners::new(dir.path(), "n");
        lease(&owners, "10.0.0.2", "a\r\neth0");
        owners.note("10.0.0.2", "a\r\neth0");
        owners.release("10.0.0.2".parse().unwrap(), "a\r\neth0").unwrap();
        assert!(!dir.path().join(".owners").exists());
    }
}
