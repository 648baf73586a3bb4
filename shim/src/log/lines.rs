//! Bytes of a stream become lines. A line of more than 16 KiB comes in parts, as docker's do; an unfinished one waits.

use std::ops::Range;

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
        while at < bytes.len() {
            let room = LONGEST - self.rest.len();
            let look = &bytes[at..bytes.len().min(at + room)];
            let length = memchr::memchr(b'\n', look).map(|at| at + 1);
            let Some(length) = length.or((look.len() == room).then_some(room)) else {
                self.rest.extend_from_slice(look);
                return;
            };
            if self.rest.is_empty() {
                each(bytes, at..at + length);
            } else {
                self.rest.extend_from_slice(&look[..length]);
                each(&self.rest, 0..self.rest.len());
                self.rest.clear();
            }
            at += length;
        }
    }

    /// Calls `each` with the unfinished line, if there is one.
    pub fn finish(&mut self, mut each: impl FnMut(&[u8], Range<usize>)) {
        if !self.rest.is_empty() {
            each(&self.rest, 0..self.rest.len());
            self.rest = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn long_lines_come_in_parts() {
        let long = vec![b'x'; LONGEST + 10];
        let parts: Vec<usize> = lines(&[&long[..100], &long[100..], b"\n"]).iter().map(Vec::len).collect();
        assert_eq!(parts, [LONGEST, 11]);
        let exact = lines(&[&long[..LONGEST - 1], b"\n"]);
        assert_eq!(exact.iter().map(Vec::len).collect::<Vec<_>>(), [LONGEST]);
    }
}
