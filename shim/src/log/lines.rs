//! Bytes of a stream become lines. A line of more than 16 KiB comes in parts, as docker's do; an unfinished one waits.

/// The longest part of a line.
pub const LONGEST: usize = 16 << 10;

/// The unfinished line of one stream.
#[derive(Debug, Default, Clone)]
pub struct Splitter {
    rest: Vec<u8>,
}

impl Splitter {
    /// Calls `each` with every line or part that `bytes` completes; a whole line ends in a newline.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = LONGEST - self.rest.len();
            let look = &bytes[..bytes.len().min(room)];
            let end = memchr::memchr(b'\n', look).map(|at| at + 1);
            let Some(end) = end.or((look.len() == room).then_some(room)) else {
                self.rest.extend_from_slice(bytes);
                return;
            };
            if self.rest.is_empty() {
                each(&bytes[..end]);
            } else {
                self.rest.extend_from_slice(&bytes[..end]);
                each(&self.rest);
                self.rest.clear();
            }
            bytes = &bytes[end..];
        }
    }

    /// Calls `each` with the unfinished line, if there is one.
    pub fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            each(&self.rest);
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
            splitter.feed(chunk, |line| lines.push(line.to_vec()));
        }
        splitter.finish(|line| lines.push(line.to_vec()));
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
