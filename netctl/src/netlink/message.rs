//! The netlink message format (netlink(7)): a header, a fixed part, attributes that nest.

/// `NLM_F_REQUEST`. Without `NLM_F_ACK`: the kernel works before send(2) returns, and says what it refuses unasked.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_EXCL`.
pub const EXCL: u16 = 0x200;
/// `NLM_F_APPEND`.
pub const APPEND: u16 = 0x800;
/// `NLM_F_DUMP`.
pub const DUMP: u16 = 0x300;
const NESTED: u16 = 0x8000;

/// Several messages that go to the kernel in one system call.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    bytes: Vec<u8>,
    start: usize,
    nests: Vec<usize>,
    /// What each message is about, by sequence number, for the error line.
    labels: Vec<String>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a message of kind `kind`; `fixed` is its family header, `label` says what it does (`add link x`).
    pub fn message(&mut self, kind: u16, flags: u16, fixed: &[u8], label: impl Into<String>) -> &mut Self {
        self.start = self.bytes.len();
        self.labels.push(label.into());
        let sequence = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.raw(fixed)
    }

    /// Appends bytes inside the message as they are (a family header within an attribute).
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.close()
    }

    /// Appends one attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value)
    }

    /// An attribute that holds a C string.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// An attribute that holds a number in host order (rtnetlink).
    pub fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// An attribute that holds a number in network order (nfnetlink).
    pub fn number_be(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Everything that `fill` appends becomes the value of one nested attribute.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.nests.push(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        if let Some(at) = self.nests.pop() {
            let length = u16::try_from(self.bytes.len() - at).unwrap_or(u16::MAX);
            self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        }
        self.close()
    }

    /// What message `sequence` (from 1) does.
    pub fn label(&self, sequence: u32) -> &str {
        let index = usize::try_from(sequence).unwrap_or(0).wrapping_sub(1);
        self.labels.get(index).map_or("netlink", String::as_str)
    }

    /// Each message on a line: what it does, and its bytes in hex. For comparing with what was right before.
    #[cfg(test)]
    pub fn describe(&self) -> String {
        let (mut text, mut bytes) = (String::new(), self.bytes());
        for label in &self.labels {
            let length = u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
            let hex: String = bytes[..length].iter().map(|byte| format!("{byte:02x}")).collect();
            text += &format!("{label}: {hex}\n");
            bytes = &bytes[length..];
        }
        text
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// The bytes to send.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Pads to four bytes and writes the message's length, so that the batch is well formed after every call.
    fn close(&mut self) -> &mut Self {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
        let length = u32::try_from(self.bytes.len() - self.start).unwrap_or(u32::MAX);
        self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

/// The attributes in `bytes`: kind (without flags) and value. Stops at the first malformed one.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind & 0x3fff, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_cover_padding_and_nests() {
        let mut batch = Batch::new();
        batch.message(16, REQUEST, &[0; 16], "x").nest(5, |inner| {
            inner.text(1, "ab").number(2, 7);
        });
        let bytes = batch.bytes();
        assert_eq!(bytes.len(), 16 + 16 + 4 + 8 + 8);
        assert_eq!(u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len());
        let (kind, value) = attributes(&bytes[32..]).next().unwrap();
        assert_eq!((kind, value.len()), (5, 16));
        let inner: Vec<_> = attributes(value).collect();
        assert_eq!(inner, [(1, &b"ab\0"[..]), (2, &7u32.to_ne_bytes()[..])]);
    }

    #[test]
    fn malformed_attributes_end_the_walk() {
        for bytes in [&[][..], &[3, 0, 1, 0], &[9, 0, 1, 0, 1], &[8, 0, 1]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }
}
