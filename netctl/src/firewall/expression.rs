//! Rules as lists of nf_tables expressions: each loads, compares or acts.

use std::net::IpAddr;

use crate::cidr::Cidr;
use crate::netlink::message::Batch;

/// The first four-byte register; the next are 9, 10, ….
pub const REGISTER: u32 = 8;
/// `meta` key: input interface's name.
pub const IIFNAME: u32 = 6;
/// `meta` key: output interface's name.
pub const OIFNAME: u32 = 7;
const L4PROTO: u32 = 16;

/// What a rule does with a packet that matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Out of the base chain, let through.
    Accept,
    /// Gone.
    Drop,
    /// On with that chain, then back.
    Jump(&'static str),
}

/// A rule under construction.
#[derive(Debug, Default, Clone)]
pub struct Rule {
    expressions: Vec<(&'static str, Batch)>,
}

impl Rule {
    /// A rule that matches everything and does nothing.
    pub fn new() -> Self {
        Self::default()
    }

    fn expression(mut self, name: &'static str, fill: impl FnOnce(&mut Batch)) -> Self {
        let mut data = Batch::new();
        // A message of its own, so that the builder's length keeping has something to write to; its header is cut.
        data.message(0, 0, &[], name);
        fill(&mut data);
        self.expressions.push((name, data));
        self
    }

    /// Appends the expressions to a rule's message.
    pub fn write(&self, list: &mut Batch) {
        for (name, data) in &self.expressions {
            list.nest(1, |element| {
                element.text(1, name).nest(2, |inner| {
                    inner.raw(&data.bytes()[16..]);
                });
            });
        }
    }

    /// Loads packet metadata into a register.
    pub fn meta(self, key: u32, register: u32) -> Self {
        self.expression("meta", |data| {
            data.number_be(1, register).number_be(2, key);
        })
    }

    /// Loads bytes of the link's (0), the network's (1) or the transport's (2) header.
    pub fn payload(self, base: u32, offset: u32, length: u32, register: u32) -> Self {
        self.expression("payload", |data| {
            data.number_be(1, register).number_be(2, base).number_be(3, offset).number_be(4, length);
        })
    }

    /// Goes on only where the first register equals (or differs from) `value`.
    pub fn compare(self, equal: bool, value: &[u8]) -> Self {
        self.expression("cmp", |data| {
            data.number_be(1, REGISTER).number_be(2, u32::from(!equal)).nest(3, |nest| {
                nest.attribute(1, value);
            });
        })
    }

    /// Keeps only the bits of `mask` in the first register.
    pub fn mask(self, mask: &[u8]) -> Self {
        self.expression("bitwise", |data| {
            let length = u32::try_from(mask.len()).unwrap_or(0);
            data.number_be(1, REGISTER).number_be(2, REGISTER).number_be(3, length);
            data.nest(4, |nest| {
                nest.attribute(1, mask);
            });
            data.nest(5, |nest| {
                nest.attribute(1, &vec![0; mask.len()]);
            });
        })
    }

    /// Goes on only for the interface of that name.
    pub fn interface(self, key: u32, equal: bool, name: &str) -> Self {
        let mut padded = [0; 16];
        let length = name.len().min(15);
        padded[..length].copy_from_slice(&name.as_bytes()[..length]);
        self.meta(key, REGISTER).compare(equal, &padded)
    }

    /// Goes on where the source (or the destination) is in (or outside of) the subnet.
    pub fn address(self, source: bool, inside: bool, subnet: Cidr) -> Self {
        let bytes = |address: std::net::IpAddr| match address {
            std::net::IpAddr::V4(address) => address.octets().to_vec(),
            std::net::IpAddr::V6(address) => address.octets().to_vec(),
        };
        let (source_at, destination_at) = if subnet.address.is_ipv4() { (12, 16) } else { (8, 24) };
        let at = if source { source_at } else { destination_at };
        let value = bytes(subnet.first());
        let length = u32::try_from(value.len()).unwrap_or(0);
        let rule = self.payload(1, at, length, REGISTER);
        let full = usize::from(subnet.prefix) == value.len() * 8;
        let mask: Vec<u8> = (0..value.len())
            .map(|byte| {
                let bits = usize::from(subnet.prefix).saturating_sub(byte * 8).min(8);
                u8::try_from(0xff00_u16 >> bits & 0xff).unwrap_or(0)
            })
            .collect();
        let rule = if full { rule } else { rule.mask(&mask) };
        rule.compare(inside, &value)
    }

    /// Goes on where a bit of the connection's `state` (0) or `status` (2) is set.
    pub fn connection(self, key: u32, bits: u32) -> Self {
        self.expression("ct", |data| {
            data.number_be(1, REGISTER).number_be(2, key);
        })
        .mask(&bits.to_ne_bytes())
        .compare(false, &[0; 4])
    }

    /// Goes on where the destination is an address of this host.
    pub fn local_destination(self) -> Self {
        const RESULT_ADDRTYPE: u32 = 3;
        const FLAG_DADDR: u32 = 2;
        const LOCAL: u32 = 2;
        self.expression("fib", |data| {
            data.number_be(1, REGISTER).number_be(2, RESULT_ADDRTYPE).number_be(3, FLAG_DADDR);
        })
        .compare(true, &LOCAL.to_ne_bytes())
    }

    /// Loads protocol and destination port into two registers.
    pub fn destination_port(self, register: u32) -> Self {
        self.meta(L4PROTO, register).payload(2, 2, 2, register + 1)
    }

    /// Goes on where the map has the key in the first registers, and loads its value there.
    pub fn look_up(self, map: &'static str, id: u32) -> Self {
        self.expression("lookup", |data| {
            data.text(1, map).number_be(2, REGISTER).number_be(3, REGISTER).number_be(4, id);
        })
    }

    /// Goes on where the set has (or has not) the key in the first registers.
    pub fn look_for(self, set: &'static str, id: u32, inside: bool) -> Self {
        self.expression("lookup", |data| {
            data.text(1, set).number_be(2, REGISTER).number_be(4, id).number_be(5, u32::from(!inside));
        })
    }

    /// Sends the connection to the address in the first register and the port in register `port`.
    pub fn destination_nat(self, family: u8, port: u32) -> Self {
        self.expression("nat", |data| {
            data.number_be(1, 1).number_be(2, family.into());
            data.number_be(3, REGISTER).number_be(4, REGISTER).number_be(5, port).number_be(6, port);
        })
    }

    /// Goes on for that protocol.
    pub fn protocol(self, number: u8) -> Self {
        self.meta(L4PROTO, REGISTER).compare(true, &[number])
    }

    /// Sends the connection to another port of the same address.
    pub fn port_nat(self, family: u8, port: u16) -> Self {
        let rule = self.expression("immediate", |data| {
            data.number_be(1, REGISTER).nest(2, |value| {
                value.attribute(1, &port.to_be_bytes());
            });
        });
        rule.expression("nat", |data| {
            data.number_be(1, 1).number_be(2, family.into()).number_be(5, REGISTER).number_be(6, REGISTER);
        })
    }

    /// Hides the source behind the address of the outgoing interface.
    pub fn masquerade(self) -> Self {
        self.expression("masq", |_| ())
    }

    /// Hides the source behind that address.
    pub fn source_nat(self, family: u8, address: IpAddr) -> Self {
        let rule = self.expression("immediate", |data| {
            data.number_be(1, REGISTER).nest(2, |value| {
                match address {
                    IpAddr::V4(address) => value.attribute(1, &address.octets()),
                    IpAddr::V6(address) => value.attribute(1, &address.octets()),
                };
            });
        });
        rule.expression("nat", |data| {
            data.number_be(1, 0).number_be(2, family.into()).number_be(3, REGISTER).number_be(4, REGISTER);
        })
    }

    /// Ends the rule.
    pub fn verdict(self, verdict: Verdict) -> Self {
        let (code, chain) = match verdict {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
        };
        self.expression("immediate", |data| {
            data.number_be(1, 0).nest(2, |value| {
                value.nest(2, |verdict| {
                    verdict.attribute(1, &i32::to_be_bytes(code));
                    if let Some(chain) = chain {
                        verdict.text(2, chain);
                    }
                });
            });
        })
    }
}
