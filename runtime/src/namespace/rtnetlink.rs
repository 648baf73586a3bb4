//! A blocking rtnetlink(7) socket, one request at a time.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// `RTM_NEWLINK`.
pub const NEWLINK: u16 = 16;
/// `RTM_GETLINK`.
pub const GETLINK: u16 = 18;
/// `RTM_NEWADDR`.
pub const NEWADDR: u16 = 20;
/// `RTM_GETADDR`.
pub const GETADDR: u16 = 22;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE_EXCL: u16 = 0x600;
const HEADER: usize = 16;
/// More than the kernel puts into one answer.
const LONGEST: usize = 64 << 10;

/// One message being written.
#[derive(Debug)]
pub struct Message(Vec<u8>);

impl Message {
    /// Asks for something about one object, or to change it.
    #[must_use]
    pub fn request(kind: u16, fixed: &[u8]) -> Self {
        Self::new(kind, NLM_F_REQUEST | NLM_F_ACK, fixed)
    }

    /// Asks for a list.
    #[must_use]
    pub fn list(kind: u16, fixed: &[u8]) -> Self {
        Self::new(kind, NLM_F_REQUEST | NLM_F_DUMP, fixed)
    }

    /// Asks to make something that is not there yet.
    #[must_use]
    pub fn create(kind: u16, fixed: &[u8]) -> Self {
        Self::new(kind, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE_EXCL, fixed)
    }

    fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self(bytes)
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute that is a C string.
    #[must_use]
    pub fn with_text(self, kind: u16, text: &str) -> Self {
        self.with(kind, &[text.as_bytes(), &[0]].concat())
    }
}

/// A socket in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Opens one.
    ///
    /// # Errors
    /// None in practice.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        Ok(Self(socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?))
    }

    /// Sends `message` and calls `each` with the kind and body of every message of the answer.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn ask(&self, mut message: Message, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let length = u32::try_from(message.0.len()).map_err(io::Error::other)?;
        message.0[..4].copy_from_slice(&length.to_ne_bytes());
        send(self.0.as_raw_fd(), &message.0, MsgFlags::empty())?;
        let mut buffer = vec![0; LONGEST];
        loop {
            let length = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let mut rest = &buffer[..length];
            while let Some((kind, body, after)) = split(rest) {
                rest = after;
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return outcome(body),
                    _ => each(kind, body),
                }
            }
        }
    }
}

fn outcome(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code)) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
    }
}

/// The first message of `bytes`: kind, body, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let body = bytes.get(HEADER..length)?;
    let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The attributes in `bytes`: kind and value.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let message = Message::request(NEWLINK, &[7; 16]).with_text(3, "eth0").with(28, &[1, 2, 3, 4]);
        let read: Vec<_> = attributes(&message.0[HEADER + 16..]).collect();
        assert_eq!(read, [(3, b"eth0\0".as_slice()), (28, [1, 2, 3, 4].as_slice())]);
    }

    #[test]
    fn cut_off_messages_end_the_list() {
        for bytes in [[].as_slice(), &[1, 0], &[3, 0, 0, 0], &[9, 0, 1, 0, 5], &[0; 8]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
            assert!(split(bytes).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn the_kernel_lists_loopback() {
        let mut names = Vec::new();
        let list = Message::list(GETLINK, &[0; 16]);
        Socket::open()
            .unwrap()
            .ask(list, |_, body| {
                names.extend(attributes(&body[16..]).filter(|(kind, _)| *kind == 3).map(|(_, v)| v.to_vec()));
            })
            .unwrap();
        assert!(names.contains(&b"lo\0".to_vec()), "{names:?}");
    }
}
