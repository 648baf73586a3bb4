//! DHCP messages (RFC 2131, 2132, 3442) in their IPv4 and UDP headers, as they are on the wire. What comes in is
//! anybody's on the network: nothing of it is trusted beyond its place.

use std::net::Ipv4Addr;

use crate::cidr::Cidr;

/// The client's port.
pub const CLIENT: u16 = 68;
const SERVER: u16 = 67;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const IP: usize = 20;
const UDP: usize = 8;
/// Of the fixed part, with the cookie.
const FIXED: usize = 240;
/// Relays and servers of old drop shorter ones (RFC 1542 2.1).
const SHORTEST: usize = 300;
/// So long a lease is for ever.
const FOR_EVER: u32 = u32::MAX;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Who gives addresses?
    Discover = 1,
    /// I do, this one.
    Offer = 2,
    /// Then give it to me; or: may I keep it?
    Request = 3,
    /// It is yours.
    Ack = 5,
    /// It is not.
    Nak = 6,
    /// I need it no longer.
    Release = 7,
}

/// One message of ours.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What it is.
    pub kind: Kind,
    /// Marks the answers to it.
    pub transaction: u32,
    /// Seconds since the first one.
    pub seconds: u16,
    /// Our MAC address.
    pub mac: [u8; 6],
    /// Who we are, whatever MAC address we have.
    pub client: &'a str,
    /// Our host name; empty for none.
    pub hostname: &'a str,
    /// The address that we have.
    pub own: Option<Ipv4Addr>,
    /// The address that we want.
    pub wanted: Option<Ipv4Addr>,
    /// The server that it is for.
    pub server: Option<Ipv4Addr>,
    /// Whether it goes to that server alone, and not to all.
    pub alone: bool,
}

/// One message of a server's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its number, by [`Kind`].
    pub kind: u8,
    /// The address for us.
    pub address: Option<Ipv4Addr>,
    /// Its prefix length.
    pub prefix: u8,
    /// Who says so.
    pub server: Option<Ipv4Addr>,
    /// Ways out, in order.
    pub routers: Vec<Ipv4Addr>,
    /// Routes; with them, no router counts (RFC 3442).
    pub routes: Vec<(Cidr, Ipv4Addr)>,
    /// Name servers.
    pub names: Vec<Ipv4Addr>,
    /// The domain.
    pub domain: String,
    /// How long the address is ours, in seconds; `None` for ever.
    pub lifetime: Option<u32>,
    /// When to ask that server again, in seconds.
    pub renewal: Option<u32>,
    /// When to ask all servers, in seconds.
    pub rebinding: Option<u32>,
}

impl Question<'_> {
    /// The packet.
    pub fn packet(&self) -> Vec<u8> {
        let mut body = vec![0; FIXED];
        body[..4].copy_from_slice(&[1, 1, 6, 0]);
        body[4..8].copy_from_slice(&self.transaction.to_be_bytes());
        body[8..10].copy_from_slice(&self.seconds.to_be_bytes());
        body[12..16].copy_from_slice(&self.own.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        body[28..34].copy_from_slice(&self.mac);
        body[FIXED - 4..].copy_from_slice(&COOKIE);
        let mut option = |code: u8, value: &[u8]| {
            let value = &value[..value.len().min(255)];
            body.extend_from_slice(&[code, u8::try_from(value.len()).unwrap_or(0)]);
            body.extend_from_slice(value);
        };
        option(53, &[self.kind as u8]);
        // Type 0: no hardware address. The container keeps its address when its MAC address changes.
        option(61, &[&[0], self.client.as_bytes()].concat());
        if let Some(wanted) = self.wanted {
            option(50, &wanted.octets());
        }
        if let Some(server) = self.server.filter(|_| !self.alone || self.kind == Kind::Release) {
            option(54, &server.octets());
        }
        if self.kind != Kind::Release {
            if !self.hostname.is_empty() {
                option(12, self.hostname.as_bytes());
            }
            // Routes before the router, so that a server that is short of room keeps the better answer.
            option(55, &[121, 1, 3, 6, 15, 28, 51, 54, 58, 59]);
            option(57, &1472u16.to_be_bytes());
        }
        body.push(255);
        if body.len() < SHORTEST {
            body.resize(SHORTEST, 0);
        }
        let to = self.server.filter(|_| self.alone).unwrap_or(Ipv4Addr::BROADCAST);
        packet(self.own.unwrap_or(Ipv4Addr::UNSPECIFIED), to, &body)
    }
}

fn packet(from: Ipv4Addr, to: Ipv4Addr, body: &[u8]) -> Vec<u8> {
    let length = |more: usize| u16::try_from(body.len() + more).unwrap_or(u16::MAX).to_be_bytes();
    let mut ip = [0; IP];
    // Version 4, five words of header; low delay, as DHCP clients ask for; sixty-four hops; UDP.
    (ip[0], ip[1], ip[8], ip[9]) = (0x45, 0x10, 64, 17);
    ip[2..4].copy_from_slice(&length(IP + UDP));
    ip[12..16].copy_from_slice(&from.octets());
    ip[16..20].copy_from_slice(&to.octets());
    let checksum = sum(&ip, 0).to_be_bytes();
    ip[10..12].copy_from_slice(&checksum);
    let mut udp = [0; UDP];
    udp[..2].copy_from_slice(&CLIENT.to_be_bytes());
    udp[2..4].copy_from_slice(&SERVER.to_be_bytes());
    udp[4..6].copy_from_slice(&length(UDP));
    let data = [&udp, body].concat();
    // Over a header that is not sent: the addresses, the protocol, the length.
    let pseudo = [&ip[12..20], &[0, 17], &length(UDP)].concat();
    let checksum = match sum(&data, u32::from(!sum(&pseudo, 0))) {
        // None, on the wire.
        0 => 0xffff,
        other => other,
    };
    let mut packet = [&ip[..], &data].concat();
    packet[IP + 6..IP + 8].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// The Internet checksum (RFC 1071).
fn sum(bytes: &[u8], start: u32) -> u16 {
    let words = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    let mut total = words.fold(start, |total, word| total + u32::from(word));
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !u16::try_from(total).unwrap_or(0)
}

/// The answer to our `transaction` in a packet; `None` where it is something else. Its UDP checksum is not looked at: a
/// server on this host has left it to a card that the packet never meets.
pub fn read(packet: &[u8], transaction: u32, mac: [u8; 6]) -> Option<Answer> {
    let header = usize::from(*packet.first()? & 0xf) * 4;
    let is_whole = packet[0] >> 4 == 4 && header >= IP && u16_at(packet, 6)? & 0x3fff == 0;
    let udp = packet.get(header..)?;
    if !is_whole || packet.get(9) != Some(&17) || u16_at(udp, 0)? != SERVER || u16_at(udp, 2)? != CLIENT {
        return None;
    }
    let body = udp.get(UDP..usize::from(u16_at(udp, 4)?))?;
    let is_ours = body.first() == Some(&2)
        && body.get(4..8)? == transaction.to_be_bytes()
        && body.get(28..34)? == mac
        && body.get(FIXED - 4..FIXED)? == COOKIE;
    if !is_ours {
        return None;
    }
    let mut answer = Answer { address: address(body.get(16..20)?), ..Answer::default() };
    let mut options: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut rest = &body[FIXED..];
    while let Some((&code, after)) = rest.split_first() {
        match code {
            0 => rest = after,
            255 => break,
            _ => {
                let (&length, after) = after.split_first()?;
                let value = after.get(..usize::from(length))?;
                rest = &after[usize::from(length)..];
                // A long one comes in pieces (RFC 3396).
                match options.iter_mut().find(|(known, _)| *known == code) {
                    Some((_, known)) => known.extend_from_slice(value),
                    None => options.push((code, value.to_vec())),
                }
            }
        }
    }
    let mask = options.iter().find(|(code, _)| *code == 1).and_then(|(_, value)| address(value));
    answer.prefix = prefix(mask, answer.address)?;
    for (code, value) in &options {
        take(&mut answer, *code, value);
    }
    Some(answer)
}

fn take(answer: &mut Answer, code: u8, value: &[u8]) {
    let all = || value.chunks_exact(4).filter_map(address).collect();
    let seconds = || value.try_into().ok().map(u32::from_be_bytes);
    match code {
        3 => answer.routers = all(),
        6 => answer.names = all(),
        15 => answer.domain = domain(value),
        51 => answer.lifetime = seconds().filter(|seconds| *seconds != FOR_EVER),
        53 => answer.kind = value.first().copied().unwrap_or(0),
        54 => answer.server = address(value),
        58 => answer.renewal = seconds(),
        59 => answer.rebinding = seconds(),
        121 => answer.routes = routes(value),
        _ => {}
    }
}

/// Only what resolv.conf can hold: it is written there.
fn domain(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let text = text.trim_end_matches(['\0', '.']);
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if is_name && text.len() <= 253 { text.to_owned() } else { String::new() }
}

fn routes(mut value: &[u8]) -> Vec<(Cidr, Ipv4Addr)> {
    let mut found = Vec::new();
    while let Some((&prefix, rest)) = value.split_first().filter(|(prefix, _)| **prefix <= 32) {
        let given = usize::from(prefix).div_ceil(8);
        let (Some(some), Some(router)) = (rest.get(..given), rest.get(given..given + 4)) else { break };
        let mut octets = [0; 4];
        octets[..given].copy_from_slice(some);
        let destination = Cidr { address: octets.into(), prefix }.subnet();
        found.push((destination, Ipv4Addr::new(router[0], router[1], router[2], router[3])));
        value = &rest[given + 4..];
    }
    found
}

/// Without a mask, that of the address's class, as long ago; `None` for one with holes.
fn prefix(mask: Option<Ipv4Addr>, address: Option<Ipv4Addr>) -> Option<u8> {
    let Some(mask) = mask.map(u32::from) else {
        return Some(match address.map_or(0, |address| address.octets()[0]) {
            0..128 => 8,
            128..192 => 16,
            _ => 24,
        });
    };
    (mask.leading_ones() + mask.trailing_zeros() >= 32)
        .then(|| u8::try_from(mask.leading_ones()).unwrap_or(32))
}

fn address(value: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = value.get(..4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets)).filter(|address| !address.is_unspecified())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn answer(options: &[u8]) -> Vec<u8> {
        let mut body = vec![0; FIXED];
        body[0] = 2;
        body[4..8].copy_from_slice(&7u32.to_be_bytes());
        body[16..20].copy_from_slice(&[10, 0, 0, 5]);
        body[28..34].copy_from_slice(&MAC);
        body[FIXED - 4..].copy_from_slice(&COOKIE);
        body.extend_from_slice(options);
        let mut packet = packet([10, 0, 0, 1].into(), [10, 0, 0, 5].into(), &body);
        packet.swap(IP, IP + 2);
        packet.swap(IP + 1, IP + 3);
        packet
    }

    #[test]
    fn a_question_is_whole() {
        let question = Question {
            kind: Kind::Discover,
            transaction: 7,
            seconds: 0,
            mac: MAC,
            client: "c1",
            hostname: "web",
            own: None,
            wanted: Some([10, 0, 0, 5].into()),
            server: None,
            alone: false,
        };
        let packet = question.packet();
        assert_eq!(sum(&packet[..IP], 0), 0, "header's checksum");
        let length = u16_at(&packet, IP + 4).unwrap();
        let pseudo = [&packet[12..20], &[0, 17], &length.to_be_bytes()].concat();
        assert_eq!(sum(&packet[IP..], u32::from(!sum(&pseudo, 0))), 0, "datagram's checksum");
        assert_eq!(packet.len(), IP + UDP + SHORTEST);
        let options = &packet[IP + UDP + FIXED..];
        assert!(options.starts_with(&[53, 1, 1, 61, 3, 0, b'c', b'1', 50, 4, 10, 0, 0, 5, 12, 3]));
        assert!(read(&packet, 7, MAC).is_none(), "no answer");
    }

    #[test]
    fn an_answer_is_read() {
        let options = [
            &[0, 53, 1, 5, 1, 4, 255, 255, 254, 0, 3, 8, 10, 0, 0, 1, 10, 0, 0, 2, 54, 4, 10, 0, 0, 1][..],
            &[51, 4, 0, 0, 1, 44, 15, 4, b'l', b'a', b'n', 0, 6, 4, 10, 0, 0, 3],
            &[121, 13, 0, 10, 0, 0, 4, 20, 172, 16, 32, 10, 0, 0, 6, 255, 1],
        ]
        .concat();
        let read = read(&answer(&options), 7, MAC).unwrap();
        assert_eq!((read.kind, read.prefix, read.lifetime), (5, 23, Some(300)));
        assert_eq!(read.address, Some([10, 0, 0, 5].into()));
        assert_eq!(read.routers.len(), 2);
        assert_eq!((read.domain.as_str(), read.names.len()), ("lan", 1));
        let routes: Vec<String> = read.routes.iter().map(|(to, by)| format!("{to} {by}")).collect();
        assert_eq!(routes, ["0.0.0.0/0 10.0.0.4", "172.16.32.0/20 10.0.0.6"]);
    }

    #[test]
    fn strangers_and_rubbish_are_no_answers() {
        let good = answer(&[53, 1, 5, 255]);
        assert_eq!(read(&good, 7, MAC).unwrap().prefix, 8, "of its class");
        assert!(read(&good, 8, MAC).is_none() && read(&good, 7, [0; 6]).is_none());
        for end in 0..good.len() {
            assert!(read(&good[..end], 7, MAC).is_none_or(|answer| answer.kind <= 5), "cut at {end}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            let _ = read(&bad, 7, MAC);
        }
        assert!(read(&answer(&[1, 4, 255, 0, 255, 0]), 7, MAC).is_none(), "a mask with holes");
        assert_eq!(read(&answer(&[15, 3, b'a', b'\n', b'b', 255]), 7, MAC).unwrap().domain, "");
    }
}
