//! The DNS message format (RFC 1035 §4) as far as a container network needs it: one question in, address and pointer
//! records out. Messages about other names are passed on unread.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Record types that are answered here.
pub const A: u16 = 1;
/// See [`A`].
pub const PTR: u16 = 12;
/// See [`A`].
pub const AAAA: u16 = 28;
const OPT: u16 = 41;
const INTERNET: u16 = 1;

/// Length of a message header.
pub const HEADER: usize = 12;
/// What fits in a datagram for a client that does not say otherwise (RFC 1035 §4.2.1).
const PLAIN_DATAGRAM: usize = 512;
/// What we promise to take (RFC 6891), without fragmentation on any path.
const OWN_DATAGRAM: u16 = 1232;

/// Answers without records (RFC 1035 §4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The name exists.
    Ok = 0,
    /// The question cannot be read.
    FormatError = 1,
    /// Nobody could be asked.
    ServerFailure = 2,
    /// No such name.
    NoSuchName = 3,
    /// Not a kind of message that we answer.
    NotImplemented = 4,
}

/// A question that could be read.
#[derive(Debug)]
pub struct Query<'a> {
    message: &'a [u8],
    /// In lower case, without the final dot.
    pub name: String,
    /// Record type.
    pub kind: u16,
    class: u16,
    /// Where the question ends in the message.
    end: usize,
    /// The client's own limit for a datagram; `None` without EDNS.
    datagram: Option<u16>,
}

impl<'a> Query<'a> {
    /// Reads a query.
    ///
    /// # Errors
    /// What to answer: nothing at all (`None`) to what is no query, else a code.
    pub fn parse(message: &'a [u8]) -> Result<Self, Option<Code>> {
        if message.len() < HEADER || message[2] & 0x80 != 0 {
            return Err(None);
        }
        if message[2] & 0x78 != 0 {
            return Err(Some(Code::NotImplemented));
        }
        if word(message, 4) != Some(1) {
            return Err(Some(Code::FormatError));
        }
        let (name, after) = read_name(message).ok_or(Some(Code::FormatError))?;
        let kind = word(message, after).ok_or(Some(Code::FormatError))?;
        let class = word(message, after + 2).ok_or(Some(Code::FormatError))?;
        let end = after + 4;
        Ok(Self { message, name, kind, class, end, datagram: edns_datagram(message, end) })
    }

    /// Whether it is about the Internet class; nothing else is known here.
    pub fn is_internet(&self) -> bool {
        self.class == INTERNET
    }

    /// Whether `reply` is about the same question (letter case may differ).
    pub fn is_repeated_in(&self, reply: &[u8]) -> bool {
        let asked = &self.message[HEADER..self.end];
        word(reply, 4) == Some(1)
            && reply.get(HEADER..self.end).is_some_and(|question| question.eq_ignore_ascii_case(asked))
    }

    /// The address that a pointer query asks about (`4.3.2.1.in-addr.arpa`, RFC 1035 §3.5; `….ip6.arpa`, RFC 3596).
    pub fn reverse_address(&self) -> Option<IpAddr> {
        if let Some(reversed) = self.name.strip_suffix(".in-addr.arpa") {
            let mut octets: Vec<u8> =
                reversed.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
            octets.reverse();
            return Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into());
        }
        let reversed = self.name.strip_suffix(".ip6.arpa")?;
        let digits: Vec<u8> =
            reversed.split('.').map(|part| nibble(part.as_bytes())).collect::<Option<_>>()?;
        let digits = <[u8; 32]>::try_from(digits).ok()?;
        let mut octets = [0; 16];
        for (position, digit) in digits.iter().rev().enumerate() {
            octets[position / 2] |= digit << (4 * (1 - position % 2));
        }
        Some(Ipv6Addr::from(octets).into())
    }

    /// How long an answer by datagram may be.
    pub fn datagram_limit(&self) -> usize {
        self.datagram.map_or(PLAIN_DATAGRAM, |size| usize::from(size.clamp(512, OWN_DATAGRAM)))
    }

    /// An answer with the addresses of the asked type, cut (and marked so) at `limit` bytes.
    pub fn answer_addresses(&self, addresses: &[IpAddr], limit: usize) -> Vec<u8> {
        let records = addresses.iter().filter_map(|address| match (address, self.kind) {
            (IpAddr::V4(v4), A) => Some(v4.octets().to_vec()),
            (IpAddr::V6(v6), AAAA) => Some(v6.octets().to_vec()),
            _ => None,
        });
        self.answer(records, limit)
    }

    /// An answer to a pointer query.
    pub fn answer_name(&self, name: &str, limit: usize) -> Vec<u8> {
        let mut data = Vec::with_capacity(name.len() + 2);
        for label in name.split('.').filter(|label| !label.is_empty() && label.len() < 64) {
            data.extend(u8::try_from(label.len()));
            data.extend(label.as_bytes());
        }
        data.push(0);
        self.answer(std::iter::once(data), limit)
    }

    /// An answer without records.
    pub fn answer_code(&self, code: Code) -> Vec<u8> {
        let mut reply = self.start(code);
        self.finish(&mut reply);
        reply
    }

    fn answer(&self, records: impl Iterator<Item = Vec<u8>>, limit: usize) -> Vec<u8> {
        let mut reply = self.start(Code::Ok);
        let room = limit - if self.datagram.is_some() { 11 } else { 0 };
        let mut count: u16 = 0;
        for data in records {
            if reply.len() + 12 + data.len() > room {
                reply[2] |= 0x02; // truncated: the client asks again by TCP
                break;
            }
            // The owner's name is the question's (a pointer to offset 12). A restarted container has another address,
            // so nobody may keep this one: time to live 0.
            reply.extend([0xc0, 12]);
            reply.extend(self.kind.to_be_bytes());
            reply.extend(INTERNET.to_be_bytes());
            reply.extend([0; 4]);
            reply.extend(u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
            reply.extend(data);
            count += 1;
        }
        reply[6..8].copy_from_slice(&count.to_be_bytes());
        self.finish(&mut reply);
        reply
    }

    fn start(&self, code: Code) -> Vec<u8> {
        let mut reply = self.message[..self.end].to_vec();
        mark_as_reply(&mut reply, code);
        reply[2] |= 0x04; // authoritative
        reply
    }

    /// A client that spoke EDNS is answered so (RFC 6891 §6.1.1).
    fn finish(&self, reply: &mut Vec<u8>) {
        if self.datagram.is_some() {
            reply[10..12].copy_from_slice(&[0, 1]);
            reply.push(0);
            reply.extend(OPT.to_be_bytes());
            reply.extend(OWN_DATAGRAM.to_be_bytes());
            reply.extend([0; 6]);
        }
    }
}

/// The answer to what could not be read as a query: its header alone.
pub fn refuse(message: &[u8], code: Code) -> Vec<u8> {
    let mut reply = message[..HEADER].to_vec();
    mark_as_reply(&mut reply, code);
    reply[4..6].fill(0);
    reply
}

/// The 16 bits at `at`.
pub fn word(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

/// Keeps id, opcode and "recursion desired"; clears all counts but the question's.
fn mark_as_reply(reply: &mut [u8], code: Code) {
    reply[2] = 0x80 | (reply[2] & 0x79);
    reply[3] = 0x80 | code as u8;
    reply[6..HEADER].fill(0);
}

/// A question's name: plain labels (a compressed one has nothing to point back to), at most 255 bytes (RFC 1035 §2.3.4).
fn read_name(message: &[u8]) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        if length > 63 || name.len() + length > 254 {
            return None;
        }
        let label = message.get(at..at + length)?;
        if !name.is_empty() {
            name.push('.');
        }
        // Bytes outside ASCII never match one of our names; they only must not merge two into one.
        name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        at += length;
    }
}

/// The client's datagram size, where the first record after the question is an OPT record (as clients send it).
fn edns_datagram(message: &[u8], question_end: usize) -> Option<u16> {
    let no_other_records = message[6..10] == [0; 4] && message[10..12] != [0; 2];
    let root_name = message.get(question_end) == Some(&0);
    let is_opt = no_other_records && root_name && word(message, question_end + 1) == Some(OPT);
    if is_opt { word(message, question_end + 3) } else { None }
}

fn nibble(digit: &[u8]) -> Option<u8> {
    let [digit] = digit else { return None };
    u8::try_from(char::from(*digit).to_digit(16)?).ok()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn an_address_is_answered_as_asked() {
        let message = question("WeB", A);
        let query = Query::parse(&message).unwrap();
        assert_eq!((query.name.as_str(), query.kind), ("web", A));
        let reply = query.answer_addresses(&["10.90.0.2".parse().unwrap(), "fd00::2".parse().unwrap()], 512);
        assert_eq!(&reply[..8], &[0xab, 0xcd, 0x85, 0x80, 0, 1, 0, 1]);
        assert_eq!(&reply[12..message.len()], &message[12..], "the question comes back as it was spelt");
        assert_eq!(&reply[reply.len() - 4..], &[10, 90, 0, 2]);
    }

    #[test]
    fn too_many_addresses_are_marked_as_cut() {
        let message = question("web", A);
        let query = Query::parse(&message).unwrap();
        let many: Vec<IpAddr> = (0..200).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        let reply = query.answer_addresses(&many, query.datagram_limit());
        assert!(reply.len() <= 512 && reply[2] & 2 != 0);
        let whole = query.answer_addresses(&many, usize::from(u16::MAX));
        assert!(whole[2] & 2 == 0 && word(&whole, 6) == Some(200));
    }

    #[test]
    fn edns_is_answered_by_edns() {
        let mut message = question("web", A);
        message[11] = 1;
        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        let query = Query::parse(&message).unwrap();
        assert_eq!(query.datagram_limit(), 1232);
        let reply = query.answer_code(Code::Ok);
        assert_eq!((reply[11], word(&reply, reply.len() - 10)), (1, Some(OPT)));
    }

    #[test]
    fn pointers_name_their_address() {
        let reverse = |name: &str| Query::parse(&question(name, PTR)).unwrap().reverse_address();
        assert_eq!(reverse("2.0.90.10.in-addr.arpa"), Some("10.90.0.2".parse().unwrap()));
        let v6 = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(reverse(v6), Some("fd00::2".parse().unwrap()));
        assert_eq!(reverse("2.0.300.10.in-addr.arpa"), None);
        assert_eq!(reverse("web"), None);
    }

    #[test]
    fn nonsense_is_refused_or_ignored() {
        assert_eq!(Query::parse(&[0; 5]).unwrap_err(), None);
        let mut response = question("web", A);
        response[2] |= 0x80;
        assert_eq!(Query::parse(&response).unwrap_err(), None);
        let mut update = question("web", A);
        update[2] |= 5 << 3;
        assert_eq!(Query::parse(&update).unwrap_err(), Some(Code::NotImplemented));
        let mut pointer = question("web", A);
        pointer[12] = 0xc0;
        assert_eq!(Query::parse(&pointer).unwrap_err(), Some(Code::FormatError));
        let short = &question("web", A)[..16];
        assert_eq!(Query::parse(short).unwrap_err(), Some(Code::FormatError));
    }
}
