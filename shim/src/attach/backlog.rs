//! What a client has not taken yet: a little in memory, the rest in a file without a name beside the container's log. So
//! a reader that stops makes nobody wait, and when it reads again it gets everything, in order.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sys::command::{with_clean_signals, with_descriptors};
use sys::seqpacket;

/// So much waits in memory, before the file and again where there is none.
const MEMORY: usize = 256 << 10;
/// Most bytes in the file.
const LIMIT: u64 = 1 << 30;
/// Bytes read from the file at once.
const PIECE: usize = 128 << 10;
/// So much that was read is given back to the disk together.
const HOLE: u64 = 8 << 20;
/// Who is as far behind as can be and has taken nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The messages for one client, oldest first.
#[derive(Debug)]
pub struct Backlog {
    /// Where a file may be made.
    dir: Option<PathBuf>,
    first: VecDeque<Vec<u8>>,
    first_bytes: usize,
    /// Everything behind `first`.
    spool: Option<Spool>,
    /// Behind the file: what it would not take.
    last: VecDeque<Vec<u8>>,
    last_bytes: usize,
    took_at: Instant,
}

impl Backlog {
    /// An empty one, with its file in `dir`; without, all of it is in memory.
    pub fn new(dir: Option<PathBuf>) -> Self {
        let (first, last) = Default::default();
        Self { dir, first, first_bytes: 0, spool: None, last, last_bytes: 0, took_at: Instant::now() }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.last.is_empty() && self.spool.as_ref().is_none_or(Spool::is_empty)
    }

    /// Whether no more should come: memory is used up, and the file as well or there is none.
    pub fn is_full(&self) -> bool {
        self.last_bytes > MEMORY
    }

    /// When a full one has waited in vain.
    pub fn patience_ends(&self) -> Instant {
        self.took_at + PATIENCE
    }

    /// Adds a message. One always fits, however full it is.
    pub fn push(&mut self, message: Vec<u8>) {
        if self.is_empty() {
            self.took_at = Instant::now();
        }
        let nothing_behind = self.last.is_empty() && self.spool.as_ref().is_none_or(Spool::is_empty);
        if nothing_behind && self.first_bytes < MEMORY {
            self.first_bytes += message.len();
            self.first.push_back(message);
            return;
        }
        if self.last.is_empty() && self.spool().is_some_and(|spool| spool.write(&message).is_ok()) {
            return;
        }
        self.last_bytes += message.len();
        self.last.push_back(message);
    }

    fn spool(&mut self) -> Option<&mut Spool> {
        if self.spool.is_none() {
            self.spool = Spool::make(self.dir.as_ref()?).ok();
        }
        self.spool.as_mut()
    }

    /// Sends what the socket, which must not block, takes now.
    ///
    /// # Errors
    /// The client has gone, or its file cannot be read.
    pub fn send(&mut self, socket: impl AsFd) -> io::Result<()> {
        loop {
            let Some(next) = self.first.front() else {
                if !self.refill()? {
                    return Ok(());
                }
                continue;
            };
            match seqpacket::send(&socket, next) {
                Ok(()) => {
                    self.first_bytes -= next.len();
                    self.first.pop_front();
                    self.took_at = Instant::now();
                }
                Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(err) => return Err(err),
            }
        }
    }

    /// All of it in files, in their order.
    fn into_spools(self) -> io::Result<Vec<Spool>> {
        let Self { dir, first, spool, last, .. } = self;
        let mut begin = Spool::make(dir.as_deref().unwrap_or(Path::new("/tmp")))?;
        let mut end = spool;
        for message in first {
            begin.write(&message)?;
        }
        for message in last {
            end.as_mut().unwrap_or(&mut begin).write(&message)?;
        }
        Ok([begin].into_iter().chain(end).collect())
    }

    /// Brings the oldest messages into memory; whether there were any.
    fn refill(&mut self) -> io::Result<bool> {
        if let Some(spool) = self.spool.as_mut().filter(|spool| !spool.is_empty()) {
            self.first = spool.read()?;
            self.first_bytes = self.first.iter().map(Vec::len).sum();
        } else {
            // All memory that a reader who was late once needed goes with it.
            self.spool = None;
            self.first = std::mem::take(&mut self.last);
            self.first_bytes = std::mem::take(&mut self.last_bytes);
        }
        Ok(!self.first.is_empty())
    }
}

/// Another process sends it, as long as its reader lives; nobody here has to.
///
/// # Errors
/// It cannot be put into a file, or no process be made.
pub fn leave_behind(socket: OwnedFd, backlog: Backlog) -> Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("shim").arg("send-backlog").process_group(0).current_dir("/");
    command.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::null());
    let mut descriptors = Vec::new();
    for spool in backlog.into_spools().context("keep what a client has not read")? {
        command.arg(format!("{}-{}", spool.read_at, spool.write_at));
        descriptors.push(OwnedFd::from(spool.file));
    }
    with_descriptors(with_clean_signals(&mut command), descriptors);
    command.spawn().context("leave a client's backlog behind").map(drop)
}

/// `shim send-backlog READ-WRITE…`: stdin is the client's socket, descriptors from 3 on are the files.
pub fn send(words: &[OsString]) -> Result<()> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    // All of them before any gets a new number.
    let numbers = (3..).take(words.len());
    let files =
        numbers.map(sys::inherited::take).collect::<io::Result<Vec<_>>>().context("take the files")?;
    for (word, file) in words.iter().zip(files) {
        let (read, write) = word.to_str().and_then(|word| word.split_once('-')).context("READ-WRITE")?;
        let (read_at, write_at) = (read.parse()?, write.parse()?);
        let mut backlog = Backlog::new(None);
        backlog.spool = Some(Spool { file: file.into(), read_at, write_at, given_back: read_at });
        while !backlog.is_empty() {
            poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE)?;
            backlog.send(&socket)?;
        }
    }
    Ok(())
}

/// A file of messages, each behind its length.
#[derive(Debug)]
struct Spool {
    file: File,
    read_at: u64,
    write_at: u64,
    /// Up to here the disk has its blocks back.
    given_back: u64,
}

impl Spool {
    fn make(dir: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let file = match options.clone().custom_flags(libc::O_TMPFILE).open(dir) {
            Ok(file) => file,
            // A file system without such files.
            Err(_) => {
                let path = dir.join(format!(".backlog.{}", std::process::id()));
                let file = options.create_new(true).open(&path)?;
                std::fs::remove_file(&path)?;
                file
            }
        };
        Ok(Self { file, read_at: 0, write_at: 0, given_back: 0 })
    }

    fn is_empty(&self) -> bool {
        self.read_at == self.write_at
    }

    fn write(&mut self, message: &[u8]) -> io::Result<()> {
        let length = u32::try_from(message.len()).map_err(io::Error::other)?;
        if self.write_at - self.given_back > LIMIT {
            return Err(ErrorKind::StorageFull.into());
        }
        let framed = [&length.to_le_bytes(), message].concat();
        // What a full disk took of it is overwritten, or never read.
        self.file.write_all_at(&framed, self.write_at)?;
        self.write_at += framed.len() as u64;
        Ok(())
    }

    /// The oldest messages, at least one.
    fn read(&mut self) -> io::Result<VecDeque<Vec<u8>>> {
        let there = usize::try_from(self.write_at - self.read_at).unwrap_or(usize::MAX);
        let mut piece = vec![0; PIECE.min(there)];
        self.file.read_exact_at(&mut piece, self.read_at)?;
        let (mut messages, mut rest) = (VecDeque::new(), &piece[..]);
        while let Some((length, after)) = rest.split_first_chunk() {
            let Some((message, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize) else {
                break;
            };
            messages.push_back(message.to_vec());
            rest = after;
        }
        if messages.is_empty() {
            return Err(io::Error::other("a message does not fit"));
        }
        self.read_at += (piece.len() - rest.len()) as u64;
        if self.read_at - self.given_back >= HOLE {
            self.give_back();
        }
        Ok(messages)
    }

    fn give_back(&mut self) {
        let range = (self.given_back.cast_signed(), (self.read_at - self.given_back).cast_signed());
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        // Where the file system cannot, the file counts as full a little earlier.
        if fallocate(&self.file, flags, range.0, range.1).is_ok() {
            self.given_back = self.read_at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u32) -> Vec<u8> {
        [&number.to_le_bytes()[..], &vec![b'x'; 10_000]].concat()
    }

    /// Reads all that `backlog` sends; the messages' numbers.
    fn all(backlog: &mut Backlog, ours: &impl AsFd, theirs: &impl AsFd) -> Vec<u32> {
        let (mut numbers, mut buffer) = (Vec::new(), [0; 20_000]);
        loop {
            backlog.send(ours).unwrap();
            match seqpacket::receive(theirs, &mut buffer) {
                Ok(10_004) => numbers.push(u32::from_le_bytes(*buffer.first_chunk().unwrap())),
                Ok(other) => panic!("{other} bytes"),
                Err(_) => return numbers,
            }
        }
    }

    fn pair() -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
        let (ours, theirs) = seqpacket::pair().unwrap();
        sys::pipe::set_nonblocking(&ours).unwrap();
        sys::pipe::set_nonblocking(&theirs).unwrap();
        (ours, theirs)
    }

    #[test]
    fn a_late_reader_gets_everything_in_order_and_the_disk_its_blocks() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = pair();
        let mut backlog = Backlog::new(Some(dir.path().into()));
        for number in 0..2000 {
            backlog.push(message(number));
            backlog.send(&ours).unwrap();
        }
        assert!(!backlog.is_full() && backlog.first_bytes <= MEMORY + 10_004);
        let blocks =
            |backlog: &Backlog| backlog.spool.as_ref().unwrap().file.metadata().unwrap().blocks() * 512;
        let most = blocks(&backlog);
        assert!(most > 19_000_000 && std::fs::read_dir(dir.path()).unwrap().count() == 0);
        // While it reads again more comes.
        let mut buffer = [0; 20_000];
        for number in 0..1500 {
            backlog.send(&ours).unwrap();
            seqpacket::receive(&theirs, &mut buffer).unwrap();
            assert_eq!(*buffer.first_chunk().unwrap(), u32::to_le_bytes(number));
            backlog.push(message(2000 + number));
        }
        assert!(blocks(&backlog) < most + 15_000_000 - HOLE, "what was read is given back");
        assert_eq!(all(&mut backlog, &ours, &theirs), (1500..3500).collect::<Vec<_>>());
        assert!(backlog.is_empty() && backlog.spool.is_none());
        backlog.push(message(7));
        assert_eq!(all(&mut backlog, &ours, &theirs), [7]);
    }

    #[test]
    fn without_a_file_it_is_full_soon_and_loses_nothing() {
        for dir in [None, Some(PathBuf::from("/nonexistent"))] {
            let (ours, theirs) = pair();
            let mut backlog = Backlog::new(dir);
            let mut count = 0;
            while !backlog.is_full() {
                backlog.push(message(count));
                count += 1;
            }
            assert!((50..60).contains(&count), "{count}");
            assert!(backlog.patience_ends() > Instant::now());
            assert_eq!(all(&mut backlog, &ours, &theirs), (0..count).collect::<Vec<_>>());
        }
    }
}
