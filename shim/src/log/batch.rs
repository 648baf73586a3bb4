//! Lines on their way into a file, written there together. A line and what stands around it are copies of a few bytes each,
//! for which a call of memcpy (with musl an instruction with a long run-up) is too much; so they go in whole blocks, and
//! what is too much of the last one is written over.

use std::ops::Range;

use sys::vector::{self, BLOCK};

/// So many bytes are copied in line.
const SHORT: usize = 2 * BLOCK;
/// From here on memcpy is faster.
const LONG: usize = 4 * BLOCK;
/// A batch this small keeps its memory in any case.
const KEPT: usize = 8 << 10;

/// A text that is written again and again.
#[derive(Debug)]
pub struct Stamp {
    /// With bytes behind it that are never kept.
    padded: Vec<u8>,
    length: usize,
}

impl Stamp {
    /// Of this text.
    pub fn new(text: String) -> Self {
        let (length, mut padded) = (text.len(), text.into_bytes());
        padded.resize(length.max(SHORT), 0);
        Self { padded, length }
    }
}

/// Bytes, and room behind them.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    length: usize,
}

impl Batch {
    /// Empties it, and makes room for about so many bytes.
    pub fn begin(&mut self, length: usize) {
        self.length = 0;
        if self.bytes.len() < length {
            // What was in it need not move.
            self.bytes = vec![0; length];
        }
    }

    /// The bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Takes the last bytes away.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Gives the memory back, but while it is small, or while a payload floods us.
    pub fn rest(&mut self) {
        if self.bytes.len() > KEPT && self.length < self.bytes.len() / 8 {
            *self = Self::default();
        }
    }

    /// Adds a stamp.
    #[inline(always)]
    pub fn stamp(&mut self, stamp: &Stamp) {
        self.copy(&stamp.padded, 0..stamp.length);
    }

    /// Adds one byte.
    pub fn push(&mut self, byte: u8) {
        self.make_room(1);
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    /// Adds `bytes[range]`.
    #[inline(always)]
    pub fn copy(&mut self, bytes: &[u8], range: Range<usize>) {
        let from = bytes.get(range.start..).and_then(<[u8]>::first_chunk::<SHORT>);
        let room = self.bytes.get_mut(self.length..).and_then(<[u8]>::first_chunk_mut::<SHORT>);
        match (from, room) {
            (Some(from), Some(room)) if range.len() <= SHORT => {
                let ((from, more), (room, behind)) = (from.split_at(BLOCK), room.split_at_mut(BLOCK));
                room.copy_from_slice(from);
                if range.len() > BLOCK {
                    behind.copy_from_slice(more);
                }
                self.length += range.len();
            }
            _ => self.copy_slowly(&bytes[range]),
        }
    }

    /// The same where it is long, or where there is no room, or nothing behind it.
    #[inline(never)]
    fn copy_slowly(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        copy_blocks(bytes, &mut self.bytes[self.length..]);
        self.length += bytes.len();
    }

    /// Adds `bytes[range]` as the inside of a JSON string. Bytes that are no UTF-8 become U+FFFD, as docker's do.
    #[inline]
    pub fn escape(&mut self, bytes: &[u8], range: Range<usize>) {
        let mut from = range.start;
        while from < range.end {
            let count = (range.end - from).min(BLOCK);
            let room = self.bytes.get_mut(self.length..).and_then(<[u8]>::first_chunk_mut);
            let Some(room) = room else {
                self.grow(BLOCK);
                continue;
            };
            let block = vector::block(bytes, from);
            *room = block;
            let unusual = vector::find_unusual(&block, b' ', *b"\"\\") & (u64::MAX >> (BLOCK - count));
            if unusual == 0 {
                self.length += count;
                from += count;
            } else {
                self.length += unusual.trailing_zeros() as usize;
                from += self.escape_block(bytes, from, unusual, range.end);
            }
        }
    }

    /// The same for the bytes of one block from the first of its `unusual` ones on; how many of the block are done, or
    /// more where it ends in a sequence of UTF-8.
    #[inline(never)]
    fn escape_block(&mut self, bytes: &[u8], base: usize, mut unusual: u64, end: usize) -> usize {
        let count = (end - base).min(BLOCK);
        self.make_room(BLOCK * 8);
        while unusual != 0 {
            let at = unusual.trailing_zeros() as usize;
            if let Some((text, length)) = ESCAPES.get(usize::from(bytes[base + at])) {
                self.add(&vector::block(text, 0), usize::from(*length));
            } else {
                return at + self.foreign(&bytes[base + at..end]);
            }
            unusual &= unusual - 1;
            let next = (unusual.trailing_zeros() as usize).min(count);
            self.add(&vector::block(bytes, base + at + 1), next - at - 1);
        }
        count
    }

    /// The bytes that are no ASCII at the beginning of `rest`; how many.
    fn foreign(&mut self, rest: &[u8]) -> usize {
        // An ASCII byte ends every sequence, whole or not.
        let length = rest.iter().position(u8::is_ascii).unwrap_or(rest.len());
        for chunk in rest[..length].utf8_chunks() {
            self.copy(chunk.valid().as_bytes(), 0..chunk.valid().len());
            if !chunk.invalid().is_empty() {
                self.copy("\u{fffd}".as_bytes(), 0.."\u{fffd}".len());
            }
        }
        length
    }

    /// Adds the first `length` bytes of a block. There must be room for all of it.
    #[inline]
    fn add(&mut self, block: &[u8; BLOCK], length: usize) {
        if let Some(room) = self.bytes[self.length..].first_chunk_mut() {
            *room = *block;
        }
        self.length += length;
    }

    /// Room for so many bytes, and for what is too much.
    #[inline]
    fn make_room(&mut self, length: usize) {
        if self.bytes.len() - self.length < length + SHORT {
            self.grow(length + SHORT);
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, length: usize) {
        self.bytes.resize((self.length + length).max(self.bytes.len() * 2), 0);
    }
}

/// Copies all of `bytes` to the beginning of `room`.
fn copy_blocks(bytes: &[u8], room: &mut [u8]) {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let Some(last) = bytes.last_chunk::<BLOCK>().filter(|_| bytes.len() <= LONG) else {
        room[..bytes.len()].copy_from_slice(bytes);
        return;
    };
    // The last block reaches back into the one before it.
    let starts = (0..).step_by(BLOCK).take(blocks.len());
    for (at, block) in starts.zip(blocks).chain([(bytes.len() - BLOCK, last)]) {
        if let Some(room) = room[at..].first_chunk_mut() {
            *room = *block;
        }
    }
}

/// What stands for each ASCII character that needs it, with its length; for the others, too, but nobody asks.
static ESCAPES: [([u8; 6], u8); 128] = {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut all = [(*b"\\u0000", 6); 128];
    let mut byte = 0;
    while byte < all.len() {
        all[byte].0[4] = HEX[byte >> 4];
        all[byte].0[5] = HEX[byte & 15];
        byte += 1;
    }
    all[b'\n' as usize] = (*b"\\n    ", 2);
    all[b'\r' as usize] = (*b"\\r    ", 2);
    all[b'\t' as usize] = (*b"\\t    ", 2);
    all[b'"' as usize] = (*b"\\\"    ", 2);
    all[b'\\' as usize] = (*b"\\\\    ", 2);
    all
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_more_and_nothing_less_is_added() {
        let bytes: Vec<u8> = (0..=255).cycle().take(3000).collect();
        let mut batch = Batch::default();
        for length in [0, 1, 63, 64, 65, 127, 128, 129, 200, 255, 256, 257, 2000] {
            for start in [0, 1, 56, 100, 127, 128, 190, 192, 255, 2990, 3000] {
                let range = start..(start + length).min(bytes.len());
                batch.begin(0);
                batch.copy(b"before", 0..6);
                batch.copy(&bytes, range.clone());
                batch.push(b'.');
                assert_eq!(batch.bytes(), [b"before", &bytes[range], b"."].concat(), "{length} from {start}");
            }
        }
        for text in ["", "short", &"long ".repeat(40)] {
            batch.begin(0);
            batch.stamp(&Stamp::new(text.to_owned()));
            assert_eq!(batch.bytes(), text.as_bytes());
        }
        batch.truncate(7);
        assert_eq!((batch.bytes(), batch.len()), (&b"long lo"[..], 7));
        batch.begin(1 << 20);
        batch.rest();
        assert!(batch.bytes.is_empty(), "no memory is kept for nothing");
    }

    proptest! {
        #[test]
        fn every_text_is_what_json_reads_again(
            pieces in prop::collection::vec(
                prop_oneof![
                    "[ -~]{0,90}".prop_map(String::into_bytes),
                    "\\PC{0,20}".prop_map(String::into_bytes),
                    prop::collection::vec(any::<u8>(), 0..20),
                    prop::collection::vec(0_u8..0x30, 0..90),
                ],
                0..8,
            ),
            cut in 0_usize..5,
        ) {
            let bytes = pieces.concat();
            let range = cut.min(bytes.len())..bytes.len().saturating_sub(cut).max(cut.min(bytes.len()));
            let mut batch = Batch::default();
            batch.begin(0);
            batch.push(b'"');
            batch.escape(&bytes, range.clone());
            batch.push(b'"');
            let text: String = serde_json::from_slice(batch.bytes()).unwrap();
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes[range]));
        }
    }
}
