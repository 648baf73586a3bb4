//! Reading a blob while it is being received: what the writer has stored is read from its file, so that nothing is kept
//! in memory and a slow reader holds up nobody.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// How far the writer is; one for the writer and for each of its readers.
#[derive(Debug, Clone, Default)]
pub struct Received(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    bytes: u64,
    ended: bool,
}

impl Received {
    /// The file has its first `bytes` bytes.
    pub(super) fn reached(&self, bytes: u64) {
        let (state, grown) = &*self.0;
        state.lock().unwrap_or_else(PoisonError::into_inner).bytes = bytes;
        grown.notify_all();
    }

    /// Nothing more will come, or is wanted.
    pub fn ended(&self) {
        let (state, grown) = &*self.0;
        state.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        grown.notify_all();
    }

    /// Waits for more than `at` bytes; the number there is now, which is no more than `at` only at the end.
    fn beyond(&self, at: u64) -> u64 {
        let (state, grown) = &*self.0;
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |state: &mut State| state.bytes <= at && !state.ended;
        grown.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner).bytes
    }
}

/// A reader that waits for the writer and ends where it has ended, be that the blob's end or a failure: who reads must
/// verify what was read.
#[derive(Debug)]
pub struct Follower {
    file: File,
    at: u64,
    received: Received,
}

impl Follower {
    pub(super) const fn new(file: File, received: Received) -> Self {
        Self { file, at: 0, received }
    }

    /// By which its reading is ended from another thread.
    #[must_use]
    pub fn received(&self) -> Received {
        self.received.clone()
    }
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.received.beyond(self.at).saturating_sub(self.at);
        let len = usize::try_from(there).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..len], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_follower_reads_all_that_comes_and_ends_with_the_writer() {
        let mut file = tempfile::tempfile().unwrap();
        let received = Received::default();
        let mut follower = Follower::new(file.try_clone().unwrap(), received.clone());
        let reading = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            follower.read_to_end(&mut bytes).map(|_| bytes)
        });
        let mut wrote = Vec::new();
        for piece in [&b"one "[..], b"two ", b"three"] {
            file.write_all(piece).unwrap();
            wrote.extend_from_slice(piece);
            received.reached(wrote.len() as u64);
        }
        received.ended();
        assert_eq!(reading.join().unwrap().unwrap(), wrote);
    }
}
