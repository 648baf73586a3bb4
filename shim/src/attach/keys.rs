//! Detach keys: `ctrl-p,ctrl-q`, found in what is typed.

use anyhow::Result;
use contracts::fault;

/// Watches typed bytes for the sequence.
#[derive(Debug, Clone)]
pub struct Keys {
    sequence: Vec<u8>,
    /// How much of the sequence has been typed and held back.
    matched: usize,
}

impl Keys {
    /// Reads `ctrl-p,ctrl-q`, `a`, `ctrl-\`; an empty text is no sequence.
    pub fn parse(text: &str) -> Result<Self> {
        let mut sequence = Vec::new();
        for key in text.split(',').filter(|_| !text.is_empty()) {
            let byte = match key.as_bytes() {
                [byte] => Some(*byte),
                _ => key.strip_prefix("ctrl-").and_then(|rest| match rest.as_bytes() {
                    [letter @ (b'a'..=b'z' | b'A'..=b'Z')] => Some(letter.to_ascii_lowercase() - b'a' + 1),
                    [symbol @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(symbol - b'@'),
                    _ => None,
                }),
            };
            match byte {
                Some(byte) => sequence.push(byte),
                None => fault!(Usage, "invalid detach keys ({text}): Unknown character: '{key}'"),
            }
        }
        Ok(Self { sequence, matched: 0 })
    }

    /// What of `bytes` to pass on, and whether the sequence is complete.
    pub fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut pass = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.sequence.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    self.matched = 0;
                    return (pass, true);
                }
                continue;
            }
            pass.extend_from_slice(&self.sequence[..self.matched]);
            self.matched = 0;
            if self.sequence.first() == Some(&byte) {
                self.matched = 1;
                if self.sequence.len() == 1 {
                    self.matched = 0;
                    return (pass, true);
                }
            } else {
                pass.push(byte);
            }
        }
        (pass, false)
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;

    #[test]
    fn sequences() {
        let mut keys = Keys::parse("ctrl-p,ctrl-q").unwrap();
        assert_eq!(keys.filter(b"ab\x10c"), (b"ab\x10c".to_vec(), false));
        assert_eq!(keys.filter(b"x\x10"), (b"x".to_vec(), false));
        assert_eq!(keys.filter(b"\x10\x11y"), (b"\x10".to_vec(), true));
        assert_eq!(Keys::parse("").unwrap().filter(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
        assert!(Keys::parse("ctrl-a").unwrap().filter(b"q\x01").1);
        assert!(Keys::parse("ctrl-1").is_err() && Keys::parse("ab").is_err());
    }
}
