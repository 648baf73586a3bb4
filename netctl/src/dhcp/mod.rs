//! Addresses that the network's own DHCP server gives (macvlan, and podman's unmanaged bridges): asked for when a
//! container comes, kept by a small process of ours while it stays, given back when it leaves.
//!
//! Whoever adds or removes a lease changes a file in `DIR`; the keeper watches them, prolongs leases, and ends with the
//! last one. `DIR.pid` names the running keeper, `DIR.lock` is held by it.

mod exchange;
mod keeper;
pub mod lease;
mod message;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::attach::namespace::Namespace;
use crate::cidr::Cidr;
use crate::netlink::link;
pub use keeper::{run, start};
use lease::Lease;

/// As long as servers take that look first whether somebody has the address, and a little more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who wants an address.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The container's id.
    pub id: &'a str,
    /// Its host name; empty for none.
    pub hostname: &'a str,
    /// The interface inside.
    pub interface: &'a str,
    /// Where the namespace is mounted.
    pub netns: &'a Path,
    /// The metric of the default route; `None` where there shall be none.
    pub metric: Option<u32>,
}

/// Gets an address for an interface that is up, configures it, and has it kept.
///
/// # Errors
/// Nobody gives one; the kernel's refusal. What was given by then is given back by [`release`].
pub fn obtain(dir: &Path, namespace: &Namespace, wanted: Wanted<'_>) -> Result<Lease> {
    let link = link::find(&namespace.inside, wanted.interface)?.context("the interface is gone")?;
    let mac = link.mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
    let mut lease = Lease {
        version: 1,
        id: wanted.id.into(),
        hostname: wanted.hostname.into(),
        interface: wanted.interface.into(),
        mac,
        netns: wanted.netns.into(),
        namespace: lease::identity(&namespace.file)?,
        metric: wanted.metric,
        ..Lease::default()
    };
    let named = || format!("interface {} of {}", wanted.interface, wanted.id);
    let client = lease.client(link.index)?;
    let grant = exchange::obtain(&namespace.file, client, PATIENCE).with_context(named)?;
    lease.take(&grant)?;
    lease::write(dir, &lease)?;
    lease.apply((namespace, link.index), None)?;
    start(dir)?;
    Ok(lease)
}

/// Gives all addresses of a container back (`interface`: only of that one); of one whose namespace has gone, the server
/// learns by itself.
///
/// # Errors
/// The file system's.
pub fn release(dir: &Path, id: &str, interface: Option<&str>) -> Result<()> {
    for lease in of(dir, id)? {
        if interface.is_some_and(|interface| interface != lease.interface) {
            continue;
        }
        // The file first: nobody prolongs it from here on.
        lease::remove(dir, &lease)?;
        if let (Ok(Some((namespace, index))), Some(own), Some(server)) =
            (lease.open(), lease.own(), lease.server())
        {
            // Best effort: it would end by itself.
            let _ = lease
                .client(index)
                .and_then(|client| exchange::release(&namespace.file, client, own, server));
        }
    }
    forget(dir);
    Ok(())
}

/// Notes whether the default route is by an interface with a lease (its metric and router) or by another one, so that
/// the keeper makes it so when the lease changes.
///
/// # Errors
/// The file system's.
pub fn set_way_out(dir: &Path, id: &str, interface: &str, way: Option<(u32, IpAddr)>) -> Result<()> {
    for mut lease in of(dir, id)?.into_iter().filter(|lease| lease.interface == interface) {
        lease.metric = way.map(|(metric, _)| metric);
        lease.routes.retain(|(to, _)| to.prefix > 0);
        lease.routes.extend(way.map(|(_, by)| (Cidr::any(by), by)));
        lease::rewrite(dir, &lease)?;
    }
    Ok(())
}

/// The leases of one container.
///
/// # Errors
/// The file system's.
pub fn of(dir: &Path, id: &str) -> Result<Vec<Lease>> {
    let mut leases = lease::all(dir)?;
    leases.retain(|lease| lease.id == id);
    Ok(leases)
}

/// Has leases kept whose keeper was killed.
///
/// # Errors
/// It cannot be started.
pub fn refresh(dir: &Path) -> Result<()> {
    if lease::all(dir)?.is_empty() { Ok(()) } else { start(dir) }
}

/// Removes what is left of the directory once it is empty.
fn forget(dir: &Path) {
    if lease::all(dir).is_ok_and(|leases| leases.is_empty()) {
        let _ = std::fs::remove_file(dir.join(".lock"));
        let _ = std::fs::remove_dir(dir);
    }
}

fn with_ending(dir: &Path, ending: &str) -> PathBuf {
    let mut path = dir.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}
