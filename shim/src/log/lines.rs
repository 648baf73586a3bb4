//! Bytes of a stream become lines. A line of more than 16 KiB comes in parts, as docker's do; an unfinished one waits.

use std::ops::Range;

use sys::vector::{self, BLOCK};

/// The longest part of a line.
pub const LONGEST: usize = 16 << 10;

/// The unfinished line of one stream.
#[derive(Debug, Default, Clone)]
pub struct Splitter {
    rest: Vec<u8>,
}

impl Splitter {
    /// Calls `each` with every line or part that `bytes` completes, and with where it stands in what; a whole line ends
    /// in a newline.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8], Range<usize>)) {
        let mut at = 0;
        while !self.rest.is_empty() && at < bytes.len() {
            let room = LONGEST - self.rest.len();
            let look = &bytes[at..bytes.len().min(at + room)];
            let length = memchr::memchr(b'\n', look).map(|at| at + 1);
            let is_done = length.is_some() || look.len() == room;
            self.rest.extend_from_slice(&look[..length.unwrap_or(look.len())]);
            at += length.unwrap_or(look.len());
            if is_done {
                each(&self.rest, 0..self.rest.len());
                self.rest.clear();
            }
        }
        let after = split(bytes, at, LONGEST, &mut each);
        self.rest.extend_from_slice(&bytes[after..]);
    }

    /// Calls `each` with the unfinished line, if there is one.
    pub fn finish(&mut self, mut each: impl FnMut(&[u8], Range<usize>)) {
        if !self.rest.is_empty() {
            each(&self.rest, 0..self.rest.len());
            self.rest = Vec::new();
        }
    }
}

/// Calls `each` with every line of `bytes` from `at` on, in parts where it is longer than `longest`; where an unfinished
/// one begins.
#[inline]
pub fn split(
    bytes: &[u8],
    mut at: usize,
    longest: usize,
    mut each: impl FnMut(&[u8], Range<usize>),
) -> usize {
    let mut base = at;
    while base < bytes.len() {
        let mut newlines = vector::find(&vector::block(bytes, base), b'\n');
        while newlines != 0 {
            let end = base + newlines.trailing_zeros() as usize + 1;
            let part = end.min(at + longest);
            each(bytes, at..part);
            at = part;
            if part == end {
                newlines &= newlines - 1;
            }
        }
        base += BLOCK;
    }
    while bytes.len() - at >= longest {
        each(bytes, at..at + longest);
        at += longest;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
        for chunk in chunks {
            splitter.feed(chunk, |bytes, line| lines.push(bytes[line].to_vec()));
        }
        splitter.finish(|bytes, line| lines.push(bytes[line].to_vec()));
        lines
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(lines(&[b"a\nb", b"c\n", b"d"]), [&b"a\n"[..], b"bc\n", b"d"]);
        assert_eq!(lines(&[b"\n\n"]).len(), 2);
    }

    proptest! {
        #[test]
        fn a_line_is_the_same_however_its_bytes_come(
            lengths in prop::collection::vec(prop_oneof![0_usize..200, LONGEST - 3..LONGEST + 3, 30_000_usize..40_000], 1..6),
            piece in prop_oneof![1_usize..300, 10_000_usize..70_000],
        ) {
            let bytes: Vec<u8> = lengths.iter().flat_map(|&length| [&vec![b'x'; length][..], b"\n"].concat()).collect();
            let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
            let expected: Vec<Vec<u8>> = bytes
                .split_inclusive(|&byte| byte == b'\n')
                .flat_map(|line| line.chunks(LONGEST).map(<[u8]>::to_vec))
                .collect();
            prop_assert_eq!(lines(&pieces), expected);
        }
    }

    #[test]
    fn long_lines_come_in_parts() {
        let long = vec![b'x'; LONGEST + 10];
        let parts: Vec<usize> = lines(&[&long[..100], &long[100..], b"\n"]).iter().map(Vec::len).collect();
        assert_eq!(parts, [LONGEST, 11]);
        let exact = lines(&[&long[..LONGEST - 1], b"\n"]);
        assert_eq!(exact.iter().map(Vec::len).collect::<Vec<_>>(), [LONGEST]);
    }
}
