//! What the runtime and the container's new process say to each other, one message per packet.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, bail};
use contracts::fault::{Fault, Kind};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use sys::last_calls::{self, LastCalls};

use super::program;
use crate::rootfs::ready::Ready;
use crate::seccomp;

/// Before what [`ProcessEnd::make_or_tell`] has to tell.
const LAST: u8 = b'X';

const GONE: &str = "the runtime is gone";

/// The longest report, tag included.
const LONGEST: usize = 4 << 10;

/// From the new process to the runtime.
#[derive(Debug)]
pub enum Report {
    /// The pid of a process made on the runtime's behalf, in the runtime's namespace.
    Cloned(i32),
    /// The namespaces are there and filled: time for the hooks on the runtime's side. Waits for an answer.
    Hooks,
    /// The master end of the terminal.
    Terminal(OwnedFd),
    /// The descriptor by which a seccomp agent listens. Waits for an answer.
    Listener(OwnedFd),
    /// All is ready. Waits for an answer before the program is executed.
    Ready,
    /// It failed, and is gone.
    Failed(anyhow::Error),
    /// It closed its end: the program has been executed, or the process died without a word.
    Closed,
}

/// The runtime's end.
#[derive(Debug)]
pub struct RuntimeEnd(OwnedFd);

/// The new process's end.
#[derive(Debug)]
pub struct ProcessEnd(OwnedFd);

/// Makes both ends.
///
/// # Errors
/// None in practice.
pub fn pair() -> Result<(RuntimeEnd, ProcessEnd)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .context("make a socket pair")?;
    Ok((RuntimeEnd(ours), ProcessEnd(theirs)))
}

impl RuntimeEnd {
    /// Waits for the next report.
    ///
    /// # Errors
    /// A packet that makes no sense.
    pub fn receive(&self) -> Result<Report> {
        let mut buffer = [0; LONGEST];
        let (length, fd) = loop {
            match sys::pass_fd::receive(&self.0, &mut buffer) {
                // It ended without reading all that we sent. Told once; what it said before is still to be read.
                Err(err) if err.kind() == io::ErrorKind::ConnectionReset => {}
                other => break other.context("read from the container's process")?,
            }
        };
        let Some((&tag, body)) = buffer[..length].split_first() else { return Ok(Report::Closed) };
        Ok(match (tag, fd) {
            (b'P', _) => Report::Cloned(i32::from_ne_bytes(body.try_into().context("wrong packet")?)),
            (b'H', _) => Report::Hooks,
            (b'T', Some(fd)) => Report::Terminal(fd),
            (b'L', Some(fd)) => Report::Listener(fd),
            (b'R', _) => Report::Ready,
            (b'E', _) => Report::Failed(decode(body)),
            (LAST, _) => Report::Failed(last_words(body).context("wrong packet")?),
            _ => bail!("the container's process sent a wrong packet"),
        })
    }

    /// Sleeps until the process executes its program or dies; what it has reported before is still to be read. Being
    /// woken for each report would keep it waiting, too, where both have one processor.
    ///
    /// # Errors
    /// None in practice.
    pub fn wait_for_end(&self) -> Result<()> {
        loop {
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::empty())], PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                other => return other.map(drop).context("wait for the container's process"),
            }
        }
    }

    /// Lets the process go on.
    ///
    /// # Errors
    /// It is gone.
    pub fn proceed(&self) -> Result<()> {
        transmit(&self.0, b"G").context("the container's process has ended early")
    }

    /// Gives the process its cgroup, which is ready: the `tasks` files of version 1 to join by; and what is ready of its
    /// root file system. A process that is gone has said why, which is for [`Self::receive`].
    ///
    /// # Errors
    /// Too many of them.
    pub fn hand_cgroup(&self, tasks: &[OwnedFd], ready: &Ready) -> Result<()> {
        let packet: Vec<u8> = std::iter::once(b'C').chain(ready.encode()).collect();
        let fds: Vec<BorrowedFd<'_>> = tasks.iter().map(AsFd::as_fd).chain(ready.descriptors()).collect();
        unless_gone(sys::pass_fd::send_all(&self.0, &packet, &fds)).context("hand over the cgroup")
    }

    /// Tells the process that its container is on record, as [`Self::hand_cgroup`] hands over the cgroup; with its
    /// system call filter, if it has one, and with all that it is still to have open.
    ///
    /// # Errors
    /// The filter is too long, as only a listener's metadata can make it.
    pub fn confirm(&self, filter: Option<&[u8]>, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let sent = sys::pass_fd::send_all(&self.0, filter.unwrap_or(b"G"), fds);
        unless_gone(sent).context("hand over the system call filter")
    }
}

impl ProcessEnd {
    /// Closes all other descriptors of this process from `first` on. Only for one that never returns to their owners.
    ///
    /// # Errors
    /// Before Linux 5.9.
    pub fn close_others_from(&self, first: u32) -> Result<()> {
        sys::clone::close_all_but(first, &[self.0.as_fd()]).context("close the runtime's descriptors")
    }

    /// Makes the last calls of this process, or tells the runtime which of them failed and ends. Returns only where it could
    /// not begin: nothing has changed then.
    pub fn make_or_tell(&self, calls: LastCalls<'_>) -> io::Error {
        let mut packet = vec![0; last_calls::FRONT];
        packet[0] = LAST;
        packet.extend(calls.program.to_bytes().iter().take(LONGEST - packet.len()));
        calls.make(self.0.as_fd(), &mut packet)
    }

    /// Reports, and waits until the runtime says to go on.
    ///
    /// # Errors
    /// The runtime is gone, or could not do its part.
    pub fn ask(&self, report: &Report) -> Result<()> {
        self.tell(report)?;
        self.wait()
    }

    /// Waits until the runtime says to go on.
    ///
    /// # Errors
    /// The runtime is gone.
    pub fn wait(&self) -> Result<()> {
        let mut answer = [0; 1];
        let (length, _) = sys::pass_fd::receive(&self.0, &mut answer).context("wait for the runtime")?;
        if length == 0 {
            bail!(GONE);
        }
        Ok(())
    }

    /// Waits for what [`RuntimeEnd::hand_cgroup`] sends.
    ///
    /// # Errors
    /// The runtime is gone, or could not make the cgroup.
    pub fn cgroup(&self) -> Result<(Vec<OwnedFd>, Ready)> {
        let mut packet = [0; 64];
        let (length, mut tasks) =
            sys::pass_fd::receive_all(&self.0, &mut packet).context("wait for the container's cgroup")?;
        let Some((_, ready)) = packet[..length].split_first() else { bail!(GONE) };
        let ready = Ready::decode(ready, &mut tasks);
        Ok((tasks, ready))
    }

    /// Waits for what [`RuntimeEnd::confirm`] sends: a filter where one is asked for, and descriptors.
    ///
    /// # Errors
    /// The runtime is gone, or could not make the filter or the record.
    pub fn confirmed(&self, filter: bool) -> Result<(Option<seccomp::Program>, Vec<OwnedFd>)> {
        let context = "wait for the container's record";
        let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
        let mut bytes = vec![0; recv(self.0.as_raw_fd(), &mut [], peek).context(context)?];
        let (length, fds) = sys::pass_fd::receive_all(&self.0, &mut bytes).context(context)?;
        if length == 0 {
            bail!(GONE);
        }
        let filter = filter.then(|| seccomp::Program::decode(&bytes[..length])).transpose()?;
        Ok((filter, fds))
    }

    /// Reports.
    ///
    /// # Errors
    /// The runtime is gone.
    pub fn tell(&self, report: &Report) -> Result<()> {
        let with_fd = |tag: &[u8], fd: BorrowedFd<'_>| sys::pass_fd::send(&self.0, tag, fd);
        match report {
            Report::Cloned(pid) => {
                let mut packet = vec![b'P'];
                packet.extend(pid.to_ne_bytes());
                transmit(&self.0, &packet)
            }
            Report::Hooks => transmit(&self.0, b"H"),
            Report::Terminal(fd) => with_fd(b"T", fd.as_fd()),
            Report::Listener(fd) => with_fd(b"L", fd.as_fd()),
            Report::Ready => transmit(&self.0, b"R"),
            Report::Failed(err) => {
                let mut packet = vec![b'E'];
                packet.extend(encode(err));
                transmit(&self.0, &packet)
            }
            Report::Closed => Ok(()),
        }
        .context("tell the runtime")
    }
}

fn unless_gone(sent: io::Result<()>) -> io::Result<()> {
    match sent {
        Err(err) if matches!(err.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
            Ok(())
        }
        other => other,
    }
}

fn transmit(socket: impl AsFd, packet: &[u8]) -> io::Result<()> {
    let socket = socket.as_fd().as_raw_fd();
    send(socket, packet, MsgFlags::MSG_NOSIGNAL)?;
    Ok(())
}

const KINDS: [Kind; 10] = [
    Kind::NotFound,
    Kind::Exists,
    Kind::WrongState,
    Kind::Busy,
    Kind::Usage,
    Kind::Unsupported,
    Kind::Denied,
    Kind::Remote,
    Kind::CommandNotFound,
    Kind::CommandNotExecutable,
];

/// An error as bytes: its kind, then its one line.
#[must_use]
pub fn encode(err: &anyhow::Error) -> Vec<u8> {
    let kind = Kind::of(err).and_then(|kind| KINDS.iter().position(|known| *known == kind));
    let mut bytes = vec![kind.and_then(|index| u8::try_from(index).ok()).unwrap_or(u8::MAX)];
    bytes.extend(contracts::report::one_line(err).bytes().take(LONGEST - 2));
    bytes
}

/// What [`ProcessEnd::make_or_tell`] had to tell.
fn last_words(body: &[u8]) -> Option<anyhow::Error> {
    let (call, rest) = body.split_first_chunk()?;
    let (errno, path) = rest.split_first_chunk()?;
    let errno = Errno::from_raw(i32::from_ne_bytes(*errno));
    Some(program::failure(i32::from_ne_bytes(*call).into(), errno, &String::from_utf8_lossy(path)))
}

/// The error that [`encode`] wrote.
#[must_use]
pub fn decode(bytes: &[u8]) -> anyhow::Error {
    let Some((&kind, text)) = bytes.split_first() else {
        return anyhow::anyhow!("the container's process failed");
    };
    let text = String::from_utf8_lossy(text).into_owned();
    match KINDS.get(usize::from(kind)) {
        Some(&kind) => Fault::new(kind, text).into(),
        None => anyhow::anyhow!(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_kind_and_text() {
        let err: anyhow::Error = Fault::new(Kind::CommandNotFound, "exec: \"x\"").into();
        let back = decode(&encode(&err.context("start")));
        assert_eq!(
            (Kind::of(&back), back.to_string().as_str()),
            (Some(Kind::CommandNotFound), "start: exec: \"x\"")
        );
        assert_eq!(decode(&encode(&anyhow::anyhow!("plain"))).to_string(), "plain");
        assert_eq!(Kind::of(&decode(&[])), None);
    }

    #[test]
    fn what_it_said_is_heard_after_its_death() {
        let (runtime, process) = pair().unwrap();
        runtime.hand_cgroup(&[], &Ready::default()).unwrap();
        process.tell(&Report::Failed(anyhow::anyhow!("no such limit"))).unwrap();
        drop(process);
        runtime.confirm(Some(b"filter"), &[]).unwrap();
        assert!(
            matches!(runtime.receive().unwrap(), Report::Failed(err) if err.to_string() == "no such limit")
        );
        assert!(matches!(runtime.receive().unwrap(), Report::Closed));
    }

    #[test]
    fn a_dead_end_is_an_error_not_a_signal() {
        let (runtime, process) = pair().unwrap();
        process.tell(&Report::Ready).unwrap();
        assert!(matches!(runtime.receive().unwrap(), Report::Ready));
        drop(process);
        assert!(matches!(runtime.receive().unwrap(), Report::Closed));
        assert!(runtime.proceed().is_err());
    }
}
