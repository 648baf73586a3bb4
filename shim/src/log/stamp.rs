//! What stands around every line of a log, and lines, into a batch: copies of a few bytes. A call of memcpy, which for musl
//! is an instruction with a long run-up, is too much for them; so more is copied than is needed, in pieces of a length
//! that the compiler knows, and cut off again.

use std::ops::Range;

/// As many bytes as a copy in line has at most.
const LARGE: usize = 128;
const SMALL: usize = 64;

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
        padded.resize(length.max(LARGE), 0);
        Self { padded, length }
    }

    /// Adds it to `out`.
    #[inline]
    pub fn append_to(&self, out: &mut Vec<u8>) {
        append(out, &self.padded, 0..self.length);
    }
}

/// Adds `bytes[range]` to `out`.
#[inline]
pub fn append(out: &mut Vec<u8>, bytes: &[u8], range: Range<usize>) {
    let (from, before) = (&bytes[range.start..], out.len());
    if let (true, Some(piece)) = (range.len() <= SMALL, from.first_chunk::<SMALL>()) {
        out.extend_from_slice(piece);
        out.truncate(before + range.len());
    } else if let Some(piece) = from.first_chunk::<LARGE>() {
        out.extend_from_slice(piece);
        if range.len() > LARGE {
            out.extend_from_slice(&bytes[range.start + LARGE..range.end]);
        }
        out.truncate(before + range.len());
    } else {
        out.extend_from_slice(&bytes[range]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_more_and_nothing_less_is_added() {
        let bytes: Vec<u8> = (0..=255).collect();
        for length in [0, 1, 63, 64, 65, 127, 128, 129, 200] {
            for start in [0, 1, 56, 100, 127, 128, 190, 192, 255] {
                let range = start..(start + length).min(256);
                let mut out = b"before".to_vec();
                append(&mut out, &bytes, range.clone());
                assert_eq!(out, [b"before", &bytes[range]].concat(), "{length} from {start}");
            }
        }
        for text in ["", "short", &"long ".repeat(40)] {
            let mut out = Vec::new();
            Stamp::new(text.to_owned()).append_to(&mut out);
            assert_eq!(out, text.as_bytes());
        }
    }
}
