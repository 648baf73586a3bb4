//! As much of MessagePack as the Fluentd forward protocol needs.

/// A string.
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    #[allow(clippy::cast_possible_truncation)] // each arm's range fits
    match text.len() {
        length @ 0..32 => out.push(0xa0 | length as u8),
        length @ 32..256 => out.extend_from_slice(&[0xd9, length as u8]),
        length @ 256..65536 => {
            out.push(0xda);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0xdb);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

/// The head of an array of up to 15.
pub fn array(out: &mut Vec<u8>, length: u8) {
    out.push(0x90 | length & 15);
}

/// The head of a map.
pub fn map(out: &mut Vec<u8>, length: u16) {
    out.push(0xde);
    out.extend_from_slice(&length.to_be_bytes());
}

/// An unsigned number.
pub fn unsigned(out: &mut Vec<u8>, value: u64) {
    out.push(0xcf);
    out.extend_from_slice(&value.to_be_bytes());
}

/// Fluentd's EventTime: seconds and nanoseconds in the extension type 0.
pub fn event_time(out: &mut Vec<u8>, seconds: u32, nanos: u32) {
    out.extend_from_slice(&[0xd7, 0]);
    out.extend_from_slice(&seconds.to_be_bytes());
    out.extend_from_slice(&nanos.to_be_bytes());
}

/// A string at the beginning of `bytes`, and the bytes it took; `None` where it is none or not there yet.
fn read_string(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (&kind, rest) = bytes.split_first()?;
    let (length, head) = match kind {
        0xa0..=0xbf => (usize::from(kind & 31), 1),
        0xd9 => (usize::from(*rest.first()?), 2),
        0xda => (usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?)), 3),
        _ => return None,
    };
    Some((bytes.get(head..head + length)?, head + length))
}

/// The chunks of whole answers `{"ack": chunk}` at the beginning of `bytes`, and the bytes that were read.
pub fn answers(bytes: &[u8]) -> (Vec<String>, usize) {
    let (mut chunks, mut at) = (Vec::new(), 0);
    while let Some(&kind) = bytes.get(at) {
        // Any answer is a small map; what is none is left out byte by byte.
        if kind & 0xf0 != 0x80 {
            at += 1;
            continue;
        }
        let mut inner = at + 1;
        for _ in 0..kind & 15 {
            let Some((key, length)) = read_string(&bytes[inner..]) else { return (chunks, at) };
            inner += length;
            let Some((value, length)) = read_string(&bytes[inner..]) else { return (chunks, at) };
            inner += length;
            if key == b"ack" {
                chunks.push(String::from_utf8_lossy(value).into_owned());
            }
        }
        at = inner;
    }
    (chunks, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_every_length() {
        for (length, head) in [(3, vec![0xa3]), (40, vec![0xd9, 40]), (300, vec![0xda, 1, 44])] {
            let (mut out, text) = (Vec::new(), vec![b'x'; length]);
            string(&mut out, &text);
            assert_eq!(out[..head.len()], head[..]);
            assert_eq!(read_string(&out), Some((&text[..], out.len())));
        }
    }

    #[test]
    fn answers_come_whole_or_wait() {
        let mut bytes = vec![0x81];
        string(&mut bytes, b"ack");
        string(&mut bytes, b"one");
        let whole = bytes.len();
        bytes.extend_from_slice(&[0x81, 0xa3, b'a']);
        assert_eq!(answers(&bytes), (vec!["one".to_owned()], whole));
        assert_eq!(answers(b""), (vec![], 0));
        assert_eq!(answers(&[0, 1, 2]).1, 3);
    }
}
