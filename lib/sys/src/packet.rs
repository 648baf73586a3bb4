//! Packet sockets (packet(7)): IPv4 packets of one interface, before it has an address.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

const ETH_P_IP: u16 = 0x0800;

/// Loads a part of the packet, or takes a decision, as `bpf_common.h` numbers them.
const fn step(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Whole UDP datagrams to that port; nothing else wakes the reader.
const fn only_udp_to(port: u16) -> [libc::sock_filter; 9] {
    [
        // The protocol is UDP, and this is the first or only fragment.
        step(0x30, 9, 0, 0),
        step(0x15, 17, 0, 6),
        step(0x28, 6, 0, 0),
        step(0x45, 0x1fff, 4, 0),
        // Behind the header, whose length is in the first byte, the second half-word is the port.
        step(0xb1, 0, 0, 0),
        step(0x48, 2, 0, 0),
        step(0x15, port as u32, 0, 1),
        step(0x06, u32::MAX, 0, 0),
        step(0x06, 0, 0, 0),
    ]
}

/// A socket for IPv4 packets on that interface of the current network namespace, of which it receives UDP datagrams
/// to `port`. It never blocks.
///
/// # Errors
/// `EPERM` without `CAP_NET_RAW`; no such interface.
pub fn open(interface: u32, port: u16) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Without a protocol nothing is received before the filter stands.
    // SAFETY: passes integers only.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut filter = only_udp_to(port);
    let length = u16::try_from(filter.len()).unwrap_or(0);
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    let size = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap_or(0);
    // SAFETY: the program and the filter that it points to outlive the call, which copies them.
    let done = unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const program).cast(), size)
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    let (address, size) = link_address(interface, [0; 6]);
    // SAFETY: the address outlives the call.
    if unsafe { libc::bind(fd, (&raw const address).cast(), size) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

fn link_address(interface: u32, mac: [u8; 6]) -> (libc::sockaddr_ll, libc::socklen_t) {
    // SAFETY: sockaddr_ll is plain old data, for which zero bytes are a value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or(0);
    address.sll_protocol = ETH_P_IP.to_be();
    address.sll_ifindex = interface.cast_signed();
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&mac);
    (address, libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(0))
}

/// Sends an IPv4 packet by that interface to a neighbour's MAC address.
///
/// # Errors
/// `ENETDOWN`; the interface has gone.
pub fn send(socket: impl AsFd, interface: u32, to: [u8; 6], packet: &[u8]) -> io::Result<()> {
    let (address, size) = link_address(interface, to);
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the packet and the address outlive the call.
    let sent = unsafe {
        libc::sendto(fd, packet.as_ptr().cast(), packet.len(), 0, (&raw const address).cast(), size)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives the next IPv4 packet: its length, and the MAC address of the neighbour that it is from.
///
/// # Errors
/// `EAGAIN` where there is none.
pub fn receive(socket: impl AsFd, packet: &mut [u8]) -> io::Result<(usize, [u8; 6])> {
    let (mut address, mut size) = link_address(0, [0; 6]);
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the buffer, the address and its size outlive the call, which writes no more than they hold.
    let got = unsafe {
        libc::recvfrom(
            fd,
            packet.as_mut_ptr().cast(),
            packet.len(),
            0,
            (&raw mut address).cast(),
            &raw mut size,
        )
    };
    let length = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    let mut mac = [0; 6];
    mac.copy_from_slice(&address.sll_addr[..6]);
    Ok((length, mac))
}
