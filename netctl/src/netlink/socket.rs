//! A netlink socket that sends batches and reads the kernel's answers.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};

use super::message::Batch;

/// The whole wait of a caller on a dump that the kernel hands out in parts.
const DUMP_PARTS: usize = 4096;

/// An open socket, bound to the network namespace that was current when it was opened.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

/// The kernel refused a message: which, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The label of the message.
    pub what: String,
    /// The reason.
    pub errno: Errno,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.what, self.errno.desc())
    }
}

impl std::error::Error for Refusal {}

/// The errno of a failed batch, where the kernel gave one.
pub fn errno(err: &anyhow::Error) -> Option<Errno> {
    err.downcast_ref::<Refusal>().map(|refusal| refusal.errno)
}

impl Socket {
    /// A socket for links, addresses and routes in the current network namespace.
    ///
    /// # Errors
    /// No permission or no descriptors left.
    pub fn route() -> Result<Self> {
        Self::open(SockProtocol::NetlinkRoute).context("open a netlink socket")
    }

    /// A socket for nftables in the current network namespace.
    ///
    /// # Errors
    /// The kernel has no nfnetlink.
    pub fn netfilter() -> Result<Self> {
        Self::open(SockProtocol::NetlinkNetFilter).context("open a netfilter netlink socket")
    }

    /// Leaves the socket open until this process ends. Closing one that has deleted rules waits for an RCU grace
    /// period (20 ms here); at the end of the process that comes after the lock, an older descriptor, is free.
    pub fn close_at_exit(self) {
        std::mem::forget(self);
    }

    fn open(protocol: SockProtocol) -> Result<Self> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        Ok(Self { fd })
    }

    /// Sends the batch and reads all answers; the first refusal is the error.
    ///
    /// # Errors
    /// A [`Refusal`] that names the message.
    pub fn run(&self, batch: &Batch) -> Result<()> {
        let mut refused = None;
        self.exchange(batch, |_, _| true, &mut refused)?;
        match refused {
            Some(refusal) => Err(refusal.into()),
            None => Ok(()),
        }
    }

    /// Sends a request whose answer is messages; `each` gets their kind and their bytes after the header.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn query(&self, batch: &Batch, mut each: impl FnMut(u16, &[u8])) -> Result<()> {
        let mut refused = None;
        let each = |kind: u16, body: &[u8]| {
            each(kind, body);
            true
        };
        self.exchange(batch, each, &mut refused)?;
        refused.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// As [`Self::query`], for a dump of which the kernel skips what the request's header does not mean, where it is
    /// new enough: the caller looks, too.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn query_strictly(&self, batch: &Batch, each: impl FnMut(u16, &[u8])) -> Result<()> {
        let is_strict = sys::netlink::set_strict(self.fd.as_fd(), true).is_ok();
        let done = self.query(batch, each);
        if is_strict {
            sys::netlink::set_strict(self.fd.as_fd(), false).context("ask the kernel as usual again")?;
        }
        done
    }

    /// As [`Self::query`], for a dump of which `each` says when it has seen enough: the rest is never made, and goes
    /// with the socket.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn query_until(self, batch: &Batch, mut each: impl FnMut(&[u8]) -> bool) -> Result<()> {
        let mut refused = None;
        self.exchange(batch, |_, body| !each(body), &mut refused)?;
        refused.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    fn exchange(
        &self,
        batch: &Batch,
        mut each: impl FnMut(u16, &[u8]) -> bool,
        refused: &mut Option<Refusal>,
    ) -> Result<()> {
        // Batches of thousands of set elements outgrow the default; FORCE is for the caller with CAP_NET_ADMIN.
        if batch.bytes().len() > 100_000 {
            let _ = setsockopt(&self.fd, sockopt::SndBufForce, &(batch.bytes().len() * 2));
            let _ = setsockopt(&self.fd, sockopt::RcvBufForce, &(batch.len() * 1024 + 262_144));
        }
        send(self.fd.as_raw_fd(), batch.bytes(), MsgFlags::empty()).context("send to the kernel")?;
        let mut buffer = vec![0; 32 * 1024];
        // The kernel works in send(2) itself: when that returns, every answer is queued (a dump's next part is
        // queued by reading the one before). So nothing here ever blocks.
        for _ in 0..DUMP_PARTS.max(batch.len() + 1) {
            match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) if read_answers(&buffer[..length], batch, &mut each, refused) => {}
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(err) => return Err(err).context("read the kernel's answer"),
            }
        }
        Ok(())
    }
}

/// Whether `each` wants more.
fn read_answers(
    mut bytes: &[u8],
    batch: &Batch,
    each: &mut impl FnMut(u16, &[u8]) -> bool,
    refused: &mut Option<Refusal>,
) -> bool {
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    while let Some(header) = bytes.get(..16) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let length = usize::try_from(length).unwrap_or(0);
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        let Some(body) = bytes.get(16..length) else { return true };
        if kind == ERROR {
            let code = body.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
            if code != 0 && refused.is_none() {
                let errno = Errno::from_raw(code.wrapping_neg());
                *refused = Some(Refusal { what: batch.label(sequence).into(), errno });
            }
        } else if kind != DONE && !each(kind, body) {
            return false;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    true
}
