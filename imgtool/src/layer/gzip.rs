//! One gzip stream, compressed by several threads, as pigz does it: blocks of a fixed size, each with the last of the block
//! before as its dictionary, one member around all. What comes out depends only on what goes in and the level, never on
//! the number of threads or their speed, so equal layers keep equal digests.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::mem;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Bytes of input compressed apart. Ending a block costs some bytes: at this size one in ten thousand.
const BLOCK: usize = 256 << 10;
/// What deflate can look back on.
const WINDOW: usize = 32 << 10;
/// What is looked at of a block to see whether it can be made smaller: so much at three places.
const SAMPLE: usize = 16 << 10;
/// More threads than this outrun whoever feeds them.
const MOST_THREADS: usize = 8;
/// Magic number, deflate, no name, no time, no extra flags, unknown system: as flate2 writes it.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A block to compress and where its result is awaited.
struct Job {
    block: Arc<Vec<u8>>,
    before: Option<Arc<Vec<u8>>>,
    last: bool,
    done: SyncSender<io::Result<Piece>>,
}

/// A compressed block, with the checksum of what it was.
struct Piece {
    bytes: Vec<u8>,
    crc: Crc,
}

/// Compresses what is written to it into `W`. Ended by [`Gzip::finish`]; dropped, it leaves a cut stream.
pub struct Gzip<W: Write> {
    out: W,
    level: Compression,
    block: Vec<u8>,
    before: Option<Arc<Vec<u8>>>,
    crc: Crc,
    /// Where threads take their jobs from; none as long as there was one block only.
    jobs: Option<Sender<Job>>,
    /// Results in the order of their blocks.
    awaited: VecDeque<Receiver<io::Result<Piece>>>,
    threads: usize,
    begun: bool,
}

impl<W: Write> Gzip<W> {
    /// Compresses into `out` with as many threads as there are processors. None is started for less than a block.
    pub fn new(out: W, level: Compression) -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self::with_threads(out, level, processors.min(MOST_THREADS))
    }

    fn with_threads(out: W, level: Compression, threads: usize) -> Self {
        let (jobs, awaited) = (None, VecDeque::new());
        let block = Vec::new();
        Self { out, level, block, before: None, crc: Crc::new(), jobs, awaited, threads, begun: false }
    }

    /// Writes the rest, and gives back what was written to.
    ///
    /// # Errors
    /// Writing fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.compress(true)?;
        while let Some(piece) = self.awaited.pop_front() {
            self.put(&piece)?;
        }
        let (sum, length) = (self.crc.sum(), self.crc.amount());
        self.out.write_all(&sum.to_le_bytes())?;
        self.out.write_all(&length.to_le_bytes())?;
        Ok(self.out)
    }

    /// Has the current block compressed.
    fn compress(&mut self, last: bool) -> io::Result<()> {
        let block = Arc::new(mem::take(&mut self.block));
        let before = self.before.replace(Arc::clone(&block));
        let (done, awaited) = sync_channel(1);
        self.awaited.push_back(awaited);
        let job = Job { block, before, last, done };
        if last && self.jobs.is_none() {
            // The only block there is.
            job.run(self.level);
            return Ok(());
        }
        let jobs = match self.jobs.take() {
            Some(jobs) => jobs,
            None => start(self.level, self.threads)?,
        };
        jobs.send(job).map_err(|_| ended())?;
        self.jobs = Some(jobs);
        // Enough that no thread waits for the writing of another's result.
        while self.awaited.len() > 2 * self.threads {
            if let Some(piece) = self.awaited.pop_front() {
                self.put(&piece)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, piece: &Receiver<io::Result<Piece>>) -> io::Result<()> {
        let piece = piece.recv().map_err(|_| ended())??;
        if !mem::replace(&mut self.begun, true) {
            self.out.write_all(&HEADER)?;
        }
        self.crc.combine(&piece.crc);
        self.out.write_all(&piece.bytes)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Only when more comes: the last block is ended otherwise.
        if self.block.len() == BLOCK {
            self.compress(false)?;
        }
        if self.block.capacity() == 0 {
            self.block.reserve_exact(if self.before.is_some() { BLOCK } else { bytes.len().min(BLOCK) });
        }
        let len = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    /// Nothing: where blocks end is decided by their size alone.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the threads; they end when the sender is dropped.
fn start(level: Compression, threads: usize) -> io::Result<Sender<Job>> {
    let (jobs, taken) = channel::<Job>();
    let taken = Arc::new(Mutex::new(taken));
    for nth in 0..threads.max(1) {
        let taken = Arc::clone(&taken);
        let work = move || {
            loop {
                let job = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(job) = job else { return };
                job.run(level);
            }
        };
        match thread::Builder::new().name("gzip".into()).spawn(work) {
            // One does it too, where a limit of processes allows no more.
            Err(err) if nth == 0 => return Err(err),
            Err(_) => break,
            Ok(_) => {}
        }
    }
    Ok(jobs)
}

impl Job {
    fn run(self, level: Compression) {
        // Nobody waits for it any more where the stream was given up.
        let _ = self.done.send(self.compressed(level));
    }

    fn compressed(&self, level: Compression) -> io::Result<Piece> {
        let before = self.before.as_deref().map_or(&[][..], Vec::as_slice);
        let before = &before[before.len().saturating_sub(WINDOW)..];
        // Images hold much that is packed already; trying to pack it again is most of the work.
        let level = if stubborn(before, &self.block)? { Compression::none() } else { level };
        let mut deflate = Compress::new(level, false);
        if !before.is_empty() {
            deflate.set_dictionary(before).map_err(io::Error::other)?;
        }
        let flush = if self.last { FlushCompress::Finish } else { FlushCompress::Sync };
        let mut bytes = Vec::with_capacity(self.block.len() / 2 + 64);
        loop {
            let used = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
            let rest = self.block.get(used..).unwrap_or_default();
            let status = deflate.compress_vec(rest, &mut bytes, flush).map_err(io::Error::other)?;
            // What was flushed is out as soon as there is room left for more.
            let whole = if self.last { status == Status::StreamEnd } else { bytes.len() < bytes.capacity() };
            if whole {
                break;
            }
            bytes.reserve(bytes.capacity().max(1 << 10));
        }
        let mut crc = Crc::new();
        crc.update(&self.block);
        Ok(Piece { bytes, crc })
    }
}

/// Whether no part of a full block gets smaller, with what stands before it in view.
fn stubborn(before: &[u8], block: &[u8]) -> io::Result<bool> {
    if block.len() < BLOCK {
        return Ok(false);
    }
    for at in [0, BLOCK / 2, BLOCK - SAMPLE] {
        let mut deflate = Compress::new(Compression::fast(), false);
        let seen = if at == 0 { before } else { &block[at - WINDOW..at] };
        if !seen.is_empty() {
            deflate.set_dictionary(seen).map_err(io::Error::other)?;
        }
        let mut bytes = Vec::with_capacity(SAMPLE + SAMPLE / 8 + 64);
        let sample = &block[at..at + SAMPLE];
        deflate.compress_vec(sample, &mut bytes, FlushCompress::Finish).map_err(io::Error::other)?;
        if bytes.len() < SAMPLE - SAMPLE / 50 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn ended() -> io::Error {
    io::Error::other("a compressing thread ended badly")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    fn packed(input: &[u8], threads: usize, piece: usize, level: u32) -> Vec<u8> {
        let mut gzip = Gzip::with_threads(Vec::new(), Compression::new(level), threads);
        for piece in input.chunks(piece) {
            gzip.write_all(piece).unwrap();
        }
        gzip.finish().unwrap()
    }

    fn unpacked(packed: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        // One member and nothing behind it.
        let mut decoder = flate2::bufread::GzDecoder::new(packed);
        decoder.read_to_end(&mut out).unwrap();
        assert!(decoder.into_inner().is_empty());
        out
    }

    /// Some that compresses and some that does not.
    fn input(len: usize) -> Vec<u8> {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()[7]
        };
        (0..len).map(|at| if at % 70_000 < 30_000 { next() } else { at.to_le_bytes()[1] }).collect()
    }

    #[test]
    fn the_same_bytes_come_out_however_many_threads_there_are() {
        for len in [0, 1, BLOCK, BLOCK + 1, 5 * BLOCK + 77] {
            for level in [0, 4] {
                let input = input(len);
                let one = packed(&input, 1, len.max(1), level);
                assert_eq!(unpacked(&one), input, "{len} at {level}");
                assert_eq!(packed(&input, 2, 4097, level), one);
                assert_eq!(packed(&input, 5, 700_001, level), one);
            }
        }
    }

    #[test]
    fn what_cannot_be_packed_is_stored_and_nothing_else() {
        let noise = |len: usize| -> Vec<u8> {
            let mut state = 1_u64;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            };
            (0..len).map(|_| next()).collect()
        };
        let input = noise(4 * BLOCK);
        assert!(stubborn(&[], &input[..BLOCK]).unwrap());
        let out = packed(&input, 2, BLOCK, 4);
        assert_eq!(unpacked(&out), input);
        assert!(out.len() < input.len() + input.len() / 1000, "{}", out.len());
        // Text anywhere in it, or the same again, is worth the work.
        for at in [0, BLOCK / 2, BLOCK - SAMPLE] {
            let mut mixed = noise(BLOCK);
            mixed[at..at + SAMPLE / 2].fill(b'x');
            assert!(!stubborn(&[], &mixed).unwrap(), "{at}");
        }
        let again = [&input[BLOCK - 20_000..BLOCK], &input[..BLOCK - 20_000]].concat();
        assert!(!stubborn(&input[BLOCK - WINDOW..BLOCK], &again).unwrap());
    }

    #[test]
    fn blocks_look_back_on_each_other() {
        let half = input(30_000);
        let twice: Vec<u8> = half.iter().copied().cycle().take(4 * BLOCK).collect();
        // Without, each block would hold what repeats once more.
        assert!(packed(&twice, 2, BLOCK, 6).len() < 2 * half.len());
    }

    #[test]
    fn a_full_disk_is_told() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut gzip = Gzip::with_threads(Full(100_000), Compression::new(4), 2);
        let written = gzip.write_all(&input(5 * BLOCK)).and_then(|()| gzip.finish().map(|_| ()));
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
        #[test]
        fn whatever_goes_in_comes_out(
            bytes in prop::collection::vec(any::<u8>(), 0..80_000), times in 1..8_usize, piece in 1..90_000_usize,
        ) {
            let input = bytes.repeat(times);
            prop_assert_eq!(unpacked(&packed(&input, 3, piece, 4)), input);
        }
    }
}
