//! `DIR/<id>,<interface>.json`: an address that a server of the container's network has given for a time.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::atomic;
use contracts::lock::Lock;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::exchange::{Client, Grant};
use crate::attach::namespace::{self, Namespace};
use crate::attach::request::mac_address;
use crate::cidr::Cidr;
use crate::netlink::link;
use crate::netlink::message::Batch;
use crate::netlink::route::{self, Route};
use crate::netlink::socket::errno;
use crate::state;

/// One lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lease {
    /// Format of this document: 1.
    pub version: u32,
    /// The container's id, which is also how the server knows it.
    pub id: String,
    /// Its host name; empty for none.
    pub hostname: String,
    /// The interface inside.
    pub interface: String,
    /// Its MAC address.
    pub mac: String,
    /// The container's network namespace.
    pub netns: PathBuf,
    /// Device and inode of it: another one of that name is none of ours.
    pub namespace: (u64, u64),
    /// The metric of the default route; `None` where there shall be none.
    pub metric: Option<u32>,
    /// The address.
    pub address: Option<Cidr>,
    /// Routes: where to, by whom.
    pub routes: Vec<(Cidr, IpAddr)>,
    /// The router of the default route, whoever gives that.
    pub router: Option<IpAddr>,
    /// Name servers.
    pub names: Vec<IpAddr>,
    /// The domain; empty for none.
    pub domain: String,
    /// Who gave it.
    pub server: Option<Ipv4Addr>,
    /// The neighbour behind whom the server is.
    pub neighbour: String,
    /// Seconds since the boot when it was given.
    pub since: u64,
    /// For how many seconds; `None` for ever.
    pub lifetime: Option<u32>,
    /// After how many seconds its server is asked to prolong it.
    pub renewal: u32,
    /// After how many seconds any server is asked.
    pub rebinding: u32,
}

/// Seconds since the boot, those that the machine slept through too.
///
/// # Errors
/// The kernel has no such clock.
pub fn now() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).context("read the clock")?;
    Ok(u64::try_from(time.tv_sec()).unwrap_or(0))
}

fn hex(mac: [u8; 6]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

impl Lease {
    /// The file's name.
    pub fn file_name(&self) -> String {
        format!("{},{}.json", self.id, self.interface)
    }

    /// Takes in what a server has granted.
    ///
    /// # Errors
    /// The kernel has no clock.
    pub fn take(&mut self, grant: &Grant) -> Result<()> {
        let answer = &grant.answer;
        self.address = answer.address.map(|address| Cidr { address: address.into(), prefix: answer.prefix });
        let any = Cidr { address: Ipv4Addr::UNSPECIFIED.into(), prefix: 0 };
        self.routes = match answer.routes.as_slice() {
            [] => answer.routers.iter().take(1).map(|router| (any, (*router).into())).collect(),
            routes => routes.iter().map(|(to, by)| (*to, (*by).into())).collect(),
        };
        self.router = self.gateway().filter(|by| !by.is_unspecified());
        self.routes.retain(|(to, by)| !by.is_unspecified() && (to.prefix > 0 || self.metric.is_some()));
        self.names = answer.names.iter().copied().map(IpAddr::from).collect();
        self.domain.clone_from(&answer.domain);
        self.server = answer.server.or(self.server);
        self.neighbour = hex(grant.neighbour);
        self.since = now()?;
        self.lifetime = answer.lifetime;
        // As the standard has it where the server says nothing, or nothing that can be.
        let life = answer.lifetime.unwrap_or(u32::MAX);
        let part = |of: u64, whole: u64| u32::try_from(u64::from(life) * of / whole).unwrap_or(u32::MAX);
        self.rebinding = answer.rebinding.filter(|time| *time <= life).unwrap_or_else(|| part(7, 8));
        self.renewal = answer.renewal.filter(|time| *time <= self.rebinding).unwrap_or_else(|| part(1, 2));
        Ok(())
    }

    /// The address alone.
    pub fn own(&self) -> Option<Ipv4Addr> {
        match self.address?.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    /// The router of the default route.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.routes.iter().find(|(to, _)| to.prefix == 0).map(|(_, by)| *by)
    }

    /// The server, and the neighbour behind whom it is.
    pub fn server(&self) -> Option<(Ipv4Addr, [u8; 6])> {
        Some((self.server?, mac_address(&self.neighbour).ok()?))
    }

    /// The container's namespace; `None` where it, or the interface in it, has gone.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open(&self) -> Result<Option<(Namespace, u32)>> {
        let Ok(found) = fs::metadata(&self.netns) else { return Ok(None) };
        if (found.dev(), found.ino()) != self.namespace {
            return Ok(None);
        }
        let namespace = namespace::open_path(&self.netns)?;
        let link = link::find(&namespace.inside, &self.interface)?;
        let mac = mac_address(&self.mac)?;
        Ok(link.filter(|link| link.mac == mac).map(|link| (namespace, link.index)))
    }

    /// Who asks for it.
    ///
    /// # Errors
    /// The MAC address is none.
    pub fn client(&self, interface: u32) -> Result<Client<'_>> {
        Ok(Client { interface, mac: mac_address(&self.mac)?, id: &self.id, hostname: &self.hostname })
    }

    /// Gives the interface the address and the routes, in place of what it had of `before`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn apply(&self, (namespace, index): (&Namespace, u32), before: Option<&Self>) -> Result<()> {
        if let Some(old) = before.and_then(|before| before.address) {
            let mut batch = Batch::new();
            // With it go the routes by its subnet.
            route::delete_address(&mut batch, index, old);
            match namespace.inside.run(&batch) {
                Err(err) if errno(&err) == Some(nix::errno::Errno::EADDRNOTAVAIL) => {}
                other => other?,
            }
        }
        let Some(address) = self.address else { return Ok(()) };
        let mut batch = Batch::new();
        link::add_address(&mut batch, index, address);
        // A router outside of the subnet (RFC 3442 has them) is behind the link all the same.
        let is_here = |by: &IpAddr| address.contains(*by);
        for (_, by) in self.routes.iter().filter(|(_, by)| !is_here(by)) {
            route::append(&mut batch, &Route::new(Cidr { address: *by, prefix: 32 }, None, index));
        }
        for (to, by) in &self.routes {
            let metric = self.metric.unwrap_or(0);
            route::append(&mut batch, &Route { metric, ..Route::new(*to, Some(*by), index) });
        }
        namespace.inside.run(&batch).with_context(|| format!("configure {} of {}", self.interface, self.id))
    }
}

/// The leases in a directory; none where it does not exist.
///
/// # Errors
/// An unreadable one.
pub fn all(dir: &Path) -> Result<Vec<Lease>> {
    let mut names = state::list(dir)?;
    names.retain(|name| name.ends_with(".json") && !name.starts_with('.'));
    names.iter().filter_map(|name| atomic::read_json(&dir.join(name)).transpose()).collect()
}

/// Writes a new one.
///
/// # Errors
/// The file system's.
pub fn write(dir: &Path, lease: &Lease) -> Result<()> {
    state::make_dir(dir)?;
    let _lock = lock(dir)?;
    atomic::write_json_volatile(&dir.join(lease.file_name()), lease, 0o600)
}

/// Writes one again, unless it was removed meanwhile. Whether it is there.
///
/// # Errors
/// The file system's.
pub fn rewrite(dir: &Path, lease: &Lease) -> Result<bool> {
    let _lock = lock(dir)?;
    let path = dir.join(lease.file_name());
    if !path.exists() {
        return Ok(false);
    }
    atomic::write_json_volatile(&path, lease, 0o600).map(|()| true)
}

/// Removes one, and the directory with the last one.
///
/// # Errors
/// The file system's.
pub fn remove(dir: &Path, lease: &Lease) -> Result<()> {
    let _lock = lock(dir)?;
    state::remove(&dir.join(lease.file_name()))
}

/// Of those who change a lease's file: a keeper must not write again what somebody has removed.
fn lock(dir: &Path) -> Result<Lock> {
    Lock::exclusive(&dir.join(".lock"))
}

/// Who a namespace is, wherever it is mounted.
///
/// # Errors
/// The kernel's refusal.
pub fn identity(namespace: &File) -> Result<(u64, u64)> {
    let found = namespace.metadata().context("look at the network namespace")?;
    Ok((found.dev(), found.ino()))
}
