//! Protocol buffers (proto2), as far as CRIU's `rpc.proto` uses them.

/// A message being written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    /// Adds a number (`int32`, `uint32`, an enumeration). Negative ones take ten bytes, as the format has it.
    pub fn number(&mut self, field: u32, value: i64) -> &mut Self {
        self.varint(u64::from(field) << 3);
        self.varint(value.cast_unsigned());
        self
    }

    /// Adds a `bool`, if it is true: false is what CRIU assumes.
    pub fn flag(&mut self, field: u32, value: bool) -> &mut Self {
        if value {
            self.number(field, 1);
        }
        self
    }

    /// Adds a `string`.
    pub fn text(&mut self, field: u32, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// Adds a message within this one.
    pub fn nest(&mut self, field: u32, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        fill(&mut inner);
        self.text(field, &inner.0)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }
}

/// A field's value as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// `int32`, `bool`, an enumeration.
    Number(u64),
    /// `string` or a message.
    Bytes(&'a [u8]),
}

impl Value<'_> {
    /// As a signed number.
    #[must_use]
    pub fn int(self) -> i32 {
        match self {
            // `int32` is sent sign-extended to 64 bits.
            #[allow(clippy::cast_possible_truncation)]
            Value::Number(number) => number as i32,
            Value::Bytes(_) => 0,
        }
    }

    /// As text.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::Number(number) => number.to_string(),
        }
    }
}

/// The fields of a message, in its order; ends at the first that makes no sense.
pub fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u32, Value<'_>)> {
    std::iter::from_fn(move || {
        let tag = take_varint(&mut bytes)?;
        let field = u32::try_from(tag >> 3).ok()?;
        let value = match tag & 7 {
            0 => Value::Number(take_varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(take_varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Value::Bytes(value)
            }
            _ => return None,
        };
        Some((field, value))
    })
}

/// The last value of a field, which is the one that counts.
#[must_use]
pub fn field(bytes: &[u8], wanted: u32) -> Option<Value<'_>> {
    fields(bytes).filter(|(field, _)| *field == wanted).last().map(|(_, value)| value)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_as_protobuf_has_them() {
        let mut message = Message::default();
        message.number(1, 150).text(2, "testing").flag(3, false).flag(4, true).number(5, -1);
        message.nest(16, |inner| {
            inner.number(1, 2);
        });
        let wanted = [
            &[0x08, 0x96, 0x01, 0x12, 0x07][..],
            b"testing",
            &[0x20, 0x01, 0x28],
            &[0xff; 9],
            &[0x01, 0x82, 0x01, 0x02, 0x08, 0x02],
        ]
        .concat();
        assert_eq!(message.bytes(), wanted);
        assert_eq!(field(message.bytes(), 5).map(Value::int), Some(-1));
        assert_eq!(field(message.bytes(), 2).map(Value::text).as_deref(), Some("testing"));
        assert_eq!(field(message.bytes(), 3), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number in any::<i32>(), text in any::<Vec<u8>>(), tag in 1u32..1000) {
            let mut message = Message::default();
            message.number(tag, number.into()).text(tag + 1, &text);
            prop_assert_eq!(field(message.bytes(), tag).map(Value::int), Some(number));
            prop_assert_eq!(field(message.bytes(), tag + 1), Some(Value::Bytes(&text)));
        }

        #[test]
        fn nothing_panics(bytes in any::<Vec<u8>>()) {
            for (_, value) in fields(&bytes) {
                let _ = (value.int(), value.text());
            }
        }
    }
}
