//! D-Bus messages as bytes (D-Bus specification, "Message Protocol"), little-endian, as far as systemd needs it.

use anyhow::{Context as _, Result, bail, ensure};

/// Longest message that we read.
const LONGEST: usize = 16 << 20;

/// A value of a property.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `s`
    Text(String),
    /// `b`
    Bool(bool),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    F64(f64),
    /// `as`
    Texts(Vec<String>),
    /// `au`
    U32s(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
}

impl Value {
    /// Its type's signature.
    pub fn signature(&self) -> &'static str {
        match self {
            Self::Text(_) => "s",
            Self::Bool(_) => "b",
            Self::I32(_) => "i",
            Self::U32(_) => "u",
            Self::I64(_) => "x",
            Self::U64(_) => "t",
            Self::F64(_) => "d",
            Self::Texts(_) => "as",
            Self::U32s(_) => "au",
            Self::Bytes(_) => "ay",
            Self::Pairs(_) => "a(ss)",
        }
    }
}

/// Bytes of a message's body, each value at its own alignment.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    /// `u`
    pub fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    /// `s` or `o`
    pub fn text(&mut self, text: &str) {
        self.u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// `b`
    pub fn bool(&mut self, value: bool) {
        self.u32(value.into());
    }

    fn signature(&mut self, signature: &str) {
        self.0.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.0.extend(signature.as_bytes());
        self.0.push(0);
    }

    fn u64(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_le_bytes());
    }

    /// An array: its length in bytes (without the padding before its first element), then its elements.
    pub fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length_at = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        fill(self);
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// `a(sv)`
    pub fn properties(&mut self, properties: &[(String, Value)]) {
        self.array(8, |out| {
            for (name, value) in properties {
                out.align(8);
                out.text(name);
                out.variant(value);
            }
        });
    }

    fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Text(text) => self.text(text),
            Value::Bool(value) => self.bool(*value),
            Value::I32(value) => self.u32(value.cast_unsigned()),
            Value::U32(value) => self.u32(*value),
            Value::I64(value) => self.u64(value.cast_unsigned()),
            Value::U64(value) => self.u64(*value),
            Value::F64(value) => self.u64(value.to_bits()),
            Value::Texts(list) => self.array(4, |out| list.iter().for_each(|text| out.text(text))),
            Value::U32s(list) => self.array(4, |out| list.iter().for_each(|value| out.u32(*value))),
            Value::Bytes(bytes) => self.array(1, |out| out.0.extend(bytes)),
            Value::Pairs(list) => self.array(8, |out| {
                for (first, second) in list {
                    out.align(8);
                    out.text(first);
                    out.text(second);
                }
            }),
        }
    }
}

/// Where a call goes.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Bus name.
    pub destination: &'a str,
    /// Object.
    pub path: &'a str,
    /// Interface.
    pub interface: &'a str,
    /// Method.
    pub member: &'a str,
    /// Types of the body.
    pub signature: &'a str,
}

impl Call<'_> {
    /// The whole message.
    pub fn encode(&self, serial: u32, body: &[u8]) -> Vec<u8> {
        let mut out = Writer::default();
        // little-endian, method call, no flags, protocol 1
        out.0.extend([b'l', 1, 0, 1]);
        out.u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
        out.u32(serial);
        let texts = [
            (1, "o", self.path),
            (2, "s", self.interface),
            (3, "s", self.member),
            (6, "s", self.destination),
        ];
        out.array(8, |out| {
            for (field, kind, text) in texts {
                out.align(8);
                out.0.push(field);
                out.signature(kind);
                out.text(text);
            }
            if !self.signature.is_empty() {
                out.align(8);
                out.0.push(8);
                out.signature("g");
                out.signature(self.signature);
            }
        });
        out.align(8);
        out.0.extend(body);
        out.0
    }
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The answer to the call with this serial number.
    Reply(u32),
    /// A refusal of that call.
    Error(u32),
    /// A signal, or anything else.
    Other,
}

/// A received message.
#[derive(Debug)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Method or signal.
    pub member: String,
    /// `org.….Error.…`.
    pub error: String,
    body: Vec<u8>,
}

/// How many bytes a message has in all, told by its first 16.
///
/// # Errors
/// Not the start of a little-endian message of a sensible length.
pub fn length(start: &[u8; 16]) -> Result<usize> {
    ensure!(start[0] == b'l' && start[3] == 1, "D-Bus: not a little-endian message of protocol 1");
    let word =
        |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]) as usize;
    let total = (16 + word(12)).next_multiple_of(8).saturating_add(word(4));
    ensure!(total <= LONGEST, "D-Bus: a message of {total} bytes");
    Ok(total)
}

impl Message {
    /// Reads a whole message.
    ///
    /// # Errors
    /// It is cut short or malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let kind = *bytes.get(1).context("D-Bus: empty message")?;
        let mut header = Reader { bytes, at: 4 };
        let body_length = header.u32()? as usize;
        header.u32()?;
        let end = header.u32()? as usize + 16;
        let (mut reply, mut member, mut error) = (0, String::new(), String::new());
        while header.at < end {
            header.align(8);
            let field = header.byte()?;
            match (field, header.signature()?.as_str()) {
                (3, "s") => member = header.text()?,
                (4, "s") => error = header.text()?,
                (_, "s" | "o") => drop(header.text()?),
                (5, "u") => reply = header.u32()?,
                (_, "u") => drop(header.u32()?),
                (_, "g") => drop(header.signature()?),
                (field, kind) => bail!("D-Bus: header field {field} of type {kind}"),
            }
        }
        let start = end.next_multiple_of(8);
        let body = bytes.get(start..start + body_length).context("D-Bus: message cut short")?.to_vec();
        let kind = match kind {
            2 => Kind::Reply(reply),
            3 => Kind::Error(reply),
            _ => Kind::Other,
        };
        Ok(Self { kind, member, error, body })
    }

    /// Its body, to be read value by value.
    pub fn body(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0 }
    }
}

/// Reads values in their order.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let taken = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.context("D-Bus: message cut short")?;
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// `u`
    pub fn u32(&mut self) -> Result<u32> {
        self.align(4);
        let word = self.take(4)?;
        Ok(u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
    }

    /// `s` or `o`
    pub fn text(&mut self) -> Result<String> {
        let length = self.u32()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.byte()?;
        Ok(text)
    }

    /// `g`, also before the value of a variant.
    pub fn signature(&mut self) -> Result<String> {
        let length = self.byte()?.into();
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.byte()?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_byte_by_byte() {
        let call = Call { destination: "d.e", path: "/p", interface: "i.f", member: "M", signature: "u" };
        let mut body = Writer::default();
        body.u32(7);
        let bytes = call.encode(3, &body.0);
        let mut wanted: Vec<u8> = b"l\x01\x00\x01\x04\0\0\0\x03\0\0\0\x47\0\0\0".to_vec();
        wanted.extend(b"\x01\x01o\0\x02\0\0\0/p\0\0\0\0\0\0");
        wanted.extend(b"\x02\x01s\0\x03\0\0\0i.f\0\0\0\0\0");
        wanted.extend(b"\x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0");
        wanted.extend(b"\x06\x01s\0\x03\0\0\0d.e\0\0\0\0\0");
        wanted.extend(b"\x08\x01g\0\x01u\0\0\x07\0\0\0");
        assert_eq!(bytes, wanted);
        assert_eq!(length(bytes[..16].try_into().unwrap()).unwrap(), bytes.len());
        let read = Message::decode(&bytes).unwrap();
        assert_eq!((read.kind, read.member.as_str()), (Kind::Other, "M"));
        assert_eq!(read.body().u32().unwrap(), 7);
    }

    #[test]
    fn properties_are_aligned() {
        let mut out = Writer::default();
        out.properties(&[
            ("A".into(), Value::Bool(true)),
            ("B".into(), Value::Pairs(vec![("x".into(), "y".into())])),
        ]);
        assert_eq!(out.0[..4], 0x36_u32.to_le_bytes());
        assert_eq!(out.0.len(), 8 + 0x36);
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let call = Call { destination: "d", path: "/p", interface: "i", member: "M", signature: "" };
        let bytes = call.encode(1, &[]);
        assert!((0..bytes.len() - 8).all(|end| Message::decode(&bytes[..end]).is_err()));
        assert!(length(&[0xff; 16]).is_err());
        assert!(length(b"l\x02\0\x01\xff\xff\xff\x7f\0\0\0\0\0\0\0\0").is_err());
    }
}
