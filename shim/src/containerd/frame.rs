//! ttrpc's frames: ten bytes of header, then a message.
//!
//! Length (u32), stream (u32), both big endian, type and flags. Read from bytes as they come, in whatever pieces.

/// Bytes of a header.
pub const HEADER: usize = 10;
/// Bytes of the longest message, as to containerd's own implementation.
pub const LONGEST: usize = 4 << 20;

pub const REQUEST: u8 = 1;
pub const RESPONSE: u8 = 2;

/// One whole frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub stream: u32,
    pub kind: u8,
    pub body: Vec<u8>,
}

/// What the bytes at hand hold.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Frame(Frame),
    /// A message that is too long for anybody: it is passed over.
    TooLong {
        stream: u32,
        length: usize,
    },
    /// Nothing whole yet.
    Nothing,
}

/// The frames of one connection.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    /// Bytes of a message being passed over that have not come yet.
    skip: usize,
}

impl Reader {
    /// More bytes came.
    pub fn push(&mut self, mut bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        bytes = &bytes[skipped..];
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame. Once there is nothing left, the memory of the longest one goes.
    pub fn next(&mut self) -> Next {
        let Some((header, rest)) = self.bytes.split_first_chunk::<HEADER>() else {
            if self.bytes.is_empty() {
                self.bytes = Vec::new();
            }
            return Next::Nothing;
        };
        let [a, b, c, d, e, f, g, h, kind, _flags] = *header;
        let (length, stream) = (u32::from_be_bytes([a, b, c, d]) as usize, u32::from_be_bytes([e, f, g, h]));
        if length > LONGEST {
            let here = rest.len().min(length);
            self.skip = length - here;
            self.bytes.drain(..HEADER + here);
            return Next::TooLong { stream, length };
        }
        if rest.len() < length {
            return Next::Nothing;
        }
        let body = rest[..length].to_vec();
        self.bytes.drain(..HEADER + length);
        Next::Frame(Frame { stream, kind, body })
    }
}

/// Appends a frame to `out`. Our own messages are far below any limit.
pub fn write(out: &mut Vec<u8>, stream: u32, kind: u8, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(&[kind, 0]);
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_survive_being_cut_anywhere(
            frames in prop::collection::vec((any::<u32>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 0..8),
            piece in 1..64usize,
        ) {
            let mut bytes = Vec::new();
            for (stream, kind, body) in &frames {
                write(&mut bytes, *stream, *kind, body);
            }
            let mut reader = Reader::default();
            let mut read = Vec::new();
            for piece in bytes.chunks(piece) {
                reader.push(piece);
                while let Next::Frame(frame) = reader.next() {
                    read.push((frame.stream, frame.kind, frame.body));
                }
            }
            prop_assert_eq!(read, frames);
            prop_assert_eq!(reader.next(), Next::Nothing);
        }

        #[test]
        fn any_bytes_are_frames_or_wait_for_more(bytes in prop::collection::vec(any::<u8>(), 0..4096), piece in 1..512usize) {
            let mut reader = Reader::default();
            for piece in bytes.chunks(piece) {
                reader.push(piece);
                while reader.next() != Next::Nothing {}
                prop_assert!(reader.bytes.len() <= LONGEST + HEADER);
            }
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_passed_over() {
        let length = LONGEST + 5;
        let mut bytes = Vec::new();
        write(&mut bytes, 7, REQUEST, &vec![1; length]);
        write(&mut bytes, 9, REQUEST, b"next");
        let mut reader = Reader::default();
        reader.push(&bytes[..1000]);
        assert_eq!(reader.next(), Next::TooLong { stream: 7, length });
        reader.push(&bytes[1000..]);
        assert_eq!(reader.next(), Next::Frame(Frame { stream: 9, kind: REQUEST, body: b"next".to_vec() }));
        assert_eq!(reader.next(), Next::Nothing);
    }
}
