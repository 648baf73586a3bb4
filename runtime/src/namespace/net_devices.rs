//! `linux.netDevices`: interfaces of the host that move into the container's network namespace, as runc moves them.
//!
//! The kernel takes a moved interface's addresses away, so they are read before and set again after; only those that
//! somebody configured for the whole world (permanent, of global scope) mean anything in another namespace.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::libc;

use super::rtnetlink::{GETADDR, GETLINK, Message, NEWADDR, NEWLINK, Socket, attributes};
use crate::spec::linux::NetDevice;

const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_PERMANENT: u32 = 0x80;
const IFA_F_NODAD: u8 = 0x02;
const RT_SCOPE_UNIVERSE: u8 = 0;
const IFF_UP: u32 = 1;
/// `IFNAMSIZ`, with the final NUL.
const NAME_SIZE: usize = 16;

/// An address of an interface: the fixed part of its message and the attributes that are kept.
#[derive(Debug)]
struct Address {
    header: [u8; 8],
    attributes: Vec<(u16, Vec<u8>)>,
}

/// Checks the names, as the kernel would only after the container's process exists.
///
/// # Errors
/// A usage fault.
pub fn check(devices: &BTreeMap<String, NetDevice>) -> Result<()> {
    let mut inside = std::collections::BTreeSet::new();
    for (name, device) in devices {
        let renamed = device.name_inside(name);
        for one in [name.as_str(), renamed] {
            if !is_valid(one) {
                fault!(Usage, "linux.netDevices: invalid network device name {one:?}");
            }
        }
        if !inside.insert(renamed) {
            fault!(Usage, "linux.netDevices: two devices would be called {renamed:?}");
        }
    }
    Ok(())
}

/// As the kernel's `dev_valid_name`; `%` would make it a pattern.
fn is_valid(name: &str) -> bool {
    !name.is_empty()
        && name.len() < NAME_SIZE
        && name != "."
        && name != ".."
        && !name
            .bytes()
            .any(|byte| byte == b'/' || byte == b':' || byte == b'%' || byte.is_ascii_whitespace())
}

/// Moves all of them from our network namespace into `target` and brings them up there.
///
/// # Errors
/// Naming the device: it does not exist, its new name is taken, the kernel does not let it move.
pub fn move_all(devices: &BTreeMap<String, NetDevice>, target: BorrowedFd<'_>) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let here = Socket::open().context("open a netlink socket")?;
    let there = socket_in(target)?;
    for (name, device) in devices {
        let renamed = device.name_inside(name);
        move_one(&here, &there, name, (renamed, target))
            .with_context(|| format!("move network device {name} into the container as {renamed}"))?;
    }
    Ok(())
}

/// A socket stays in the namespace it was opened in, whoever uses it.
fn socket_in(target: BorrowedFd<'_>) -> Result<Socket> {
    let home = File::open("/proc/thread-self/ns/net").context("open our own network namespace")?;
    sys::namespace::join(target, libc::CLONE_NEWNET).context("join the container's network namespace")?;
    let socket = Socket::open();
    sys::namespace::join(home.as_fd(), libc::CLONE_NEWNET).context("return to our network namespace")?;
    socket.context("open a netlink socket in the container")
}

fn move_one(
    here: &Socket,
    there: &Socket,
    name: &str,
    (renamed, target): (&str, BorrowedFd<'_>),
) -> Result<()> {
    let Some(index) = find(here, name)? else {
        fault!(NotFound, "link not found for interface {name} on runtime namespace");
    };
    // Asked first: the kernel finds out only once the device is in the other namespace, and leaves it there.
    if find(there, renamed)?.is_some() {
        fault!(Exists, "the container has a device of that name");
    }
    // Before it goes down: the kernel drops IPv6 addresses with that already.
    let addresses = addresses(here, index)?;
    set_up(here, index, false).context("set it down")?;
    let moved = Message::request(NEWLINK, &link(index, 0, 0))
        .with_text(IFLA_IFNAME, renamed)
        .with(IFLA_NET_NS_FD, &target.as_raw_fd().to_ne_bytes());
    here.ask(moved, |_, _| {}).context("change its network namespace")?;
    let index = find(there, renamed)?.context("it is not there after the move")?;
    for mut address in addresses {
        address.header[4..8].copy_from_slice(&index.to_ne_bytes());
        let message = address
            .attributes
            .iter()
            .fold(Message::create(NEWADDR, &address.header), |message, (kind, value)| {
                message.with(*kind, value)
            });
        match there.ask(message, |_, _| {}) {
            Err(err) if err.raw_os_error() == Some(libc::EEXIST) => {}
            other => other.context("set its address again")?,
        }
    }
    set_up(there, index, true).context("set it up")
}

/// `struct ifinfomsg`.
fn link(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

fn set_up(socket: &Socket, index: u32, up: bool) -> std::io::Result<()> {
    let flags = if up { IFF_UP } else { 0 };
    socket.ask(Message::request(NEWLINK, &link(index, flags, IFF_UP)), |_, _| {})
}

fn find(socket: &Socket, name: &str) -> Result<Option<u32>> {
    let mut index = None;
    let question = Message::request(GETLINK, &link(0, 0, 0)).with_text(IFLA_IFNAME, name);
    let asked = socket.ask(question, |_, body| {
        index = body.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    });
    match asked {
        Err(err) if err.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        other => other.map(|()| index).context("look for it"),
    }
}

fn addresses(socket: &Socket, index: u32) -> Result<Vec<Address>> {
    let mut found = Vec::new();
    socket
        .ask(Message::list(GETADDR, &[0; 8]), |_, body| {
            let Some((header, rest)) = body.split_first_chunk::<8>() else { return };
            if header[4..8] == index.to_ne_bytes() && header[3] == RT_SCOPE_UNIVERSE {
                found.extend(read_address(*header, rest));
            }
        })
        .context("list its addresses")?;
    Ok(found)
}

fn read_address(mut header: [u8; 8], rest: &[u8]) -> Option<Address> {
    let mut flags = u32::from(header[2]);
    let mut kept = Vec::new();
    for (kind, value) in attributes(rest) {
        match kind {
            IFA_FLAGS => flags = value.first_chunk().map_or(flags, |flags| u32::from_ne_bytes(*flags)),
            IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST => kept.push((kind, value.to_vec())),
            _ => {}
        }
    }
    header[2] &= IFA_F_NODAD;
    (flags & IFA_F_PERMANENT != 0).then_some(Address { header, attributes: kept })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_the_kernel_takes_them() {
        for good in ["eth0", "a", "veth-1.2", "123456789012345"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "eth%d", "a:b", "1234567890123456", "a\n"] {
            assert!(!is_valid(bad), "{bad:?}");
        }
        let device = |name: &str| NetDevice { name: name.to_owned() };
        let same = BTreeMap::from([("a".to_owned(), device("x")), ("x".to_owned(), device(""))]);
        assert!(check(&same).is_err());
        assert!(check(&BTreeMap::from([("a".to_owned(), device("x"))])).is_ok());
    }

    #[test]
    fn only_lasting_addresses_are_kept() {
        let header = [2, 24, 0, 0, 1, 0, 0, 0];
        let attribute = |kind: u16, value: &[u8]| {
            let length = u16::try_from(value.len() + 4).unwrap();
            [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
        };
        let body = |flags: u32| {
            [attribute(IFA_LOCAL, &[10, 0, 0, 1]), attribute(IFA_FLAGS, &flags.to_ne_bytes())].concat()
        };
        assert!(read_address(header, &body(0)).is_none());
        let kept = read_address(header, &body(IFA_F_PERMANENT)).unwrap();
        assert_eq!(kept.attributes, [(IFA_LOCAL, vec![10, 0, 0, 1])]);
    }
}
