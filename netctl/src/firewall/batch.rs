//! nfnetlink's frame around a transaction, and the objects of nf_tables (linux/netfilter/nf_tables.h).

use super::Zone;
use super::expression::Rule;
use crate::netlink::message::{APPEND, Batch, CREATE, DUMP, REQUEST};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NEWTABLE: u16 = 0;
const GETTABLE: u16 = 1;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;

/// The address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `table ip bulkhead`.
    V4,
    /// `table ip6 bulkhead`.
    V6,
    /// `table bridge bulkhead`.
    Bridge,
}

impl Family {
    /// Both that have addresses.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The `NFPROTO_…` number.
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
            Self::Bridge => 7,
        }
    }

    /// Whether a network has a subnet of this family.
    pub fn is_used_by(self, zones: &[Zone]) -> bool {
        zones.iter().flat_map(|zone| &zone.subnets).any(|subnet| self.has(subnet.address))
    }

    /// Whether the address is of this family.
    pub const fn has(self, address: std::net::IpAddr) -> bool {
        matches!((self, address.is_ipv4()), (Self::V4, true) | (Self::V6, false))
    }
}

/// Where a base chain hooks in.
#[derive(Debug, Clone, Copy)]
pub struct Hook {
    /// `nat` or `filter`.
    pub kind: &'static str,
    /// `NF_INET_…`: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting.
    pub number: u32,
    /// Lower runs first.
    pub priority: i32,
}

/// A map from a concatenation to an address and a port.
#[derive(Debug, Clone, Copy)]
pub struct Map {
    /// Its name in the table.
    pub name: &'static str,
    /// nft's number for the key's type, so that `nft list` can print it.
    pub key_type: u32,
    /// Key length in bytes.
    pub key: u32,
    /// nft's number for the value's type.
    pub value_type: u32,
    /// Value length in bytes.
    pub value: u32,
    /// Numbers the set within the transaction.
    pub id: u32,
}

/// Asks for a chain of somebody else's table, with its policy.
pub fn get_chain(batch: &mut Batch, table: &str, chain: &str) {
    const GETCHAIN: u16 = 4;
    batch.message(
        SUBSYSTEM << 8 | GETCHAIN,
        1,
        &header(Family::V4.number(), 0),
        format!("look at chain {chain}"),
    );
    batch.text(1, table).text(3, chain);
}

/// All or nothing: what the kernel applies as one step.
#[derive(Debug)]
pub struct Transaction {
    batch: Batch,
    table: &'static str,
}

fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// The request for a table of that name; no part of a transaction.
pub fn look_for_table(family: Family, name: &str) -> Batch {
    let mut batch = Batch::new();
    let label = format!("look for table {family:?}");
    batch.message(SUBSYSTEM << 8 | GETTABLE, REQUEST, &header(family.number(), 0), label).text(1, name);
    batch
}

/// The request for a set's elements; no part of a transaction.
pub fn list_elements(family: Family, table: &str, set: &str) -> Batch {
    const GETSETELEM: u16 = 13;
    let mut batch = Batch::new();
    let label = format!("list the elements of {set}");
    batch.message(SUBSYSTEM << 8 | GETSETELEM, REQUEST | DUMP, &header(family.number(), 0), label);
    batch.text(1, table).text(2, set);
    batch
}

/// For `nft list`: keys are in the host's order of bytes, not in the network's.
const NAMES_AS_THEY_ARE: &[u8] = &[0, 4, 1, 0, 0, 0];

impl Transaction {
    /// Begins one about the tables of that name.
    pub fn new(table: &'static str) -> Self {
        let mut batch = Batch::new();
        batch.message(BATCH_BEGIN, 1, &header(0, SUBSYSTEM), "begin a transaction");
        Self { batch, table }
    }

    /// The finished batch.
    pub fn finish(mut self) -> Batch {
        self.batch.message(BATCH_END, 1, &header(0, SUBSYSTEM), "commit the transaction");
        self.batch
    }

    fn object(&mut self, kind: u16, flags: u16, family: Family, label: String) -> &mut Batch {
        self.batch.message(SUBSYSTEM << 8 | kind, REQUEST | flags, &header(family.number(), 0), label);
        self.batch.text(1, self.table)
    }

    /// Adds the table if it is missing.
    pub fn add_table(&mut self, family: Family) {
        self.object(NEWTABLE, CREATE, family, format!("add table {family:?}"));
    }

    /// Removes the table with all it holds.
    pub fn delete_table(&mut self, family: Family) {
        self.object(DELTABLE, 0, family, format!("remove table {family:?}"));
    }

    /// Adds a chain if it is missing.
    pub fn add_chain(&mut self, family: Family, name: &str, hook: Option<Hook>) {
        let message = self.object(NEWCHAIN, CREATE, family, format!("add chain {name}"));
        message.text(3, name);
        if let Some(hook) = hook {
            message.nest(4, |nest| {
                nest.number_be(1, hook.number).attribute(2, &hook.priority.to_be_bytes());
            });
            message.text(7, hook.kind);
        }
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, family: Family, name: &str) {
        self.object(DELRULE, 0, family, format!("flush chain {name}")).text(2, name);
    }

    /// Appends a rule.
    pub fn add_rule(&mut self, family: Family, chain: &str, rule: &Rule) {
        let message = self.object(NEWRULE, CREATE | APPEND, family, format!("add a rule to chain {chain}"));
        message.text(2, chain).nest(4, |list| rule.write(list));
    }

    /// Adds a map if it is missing.
    pub fn add_map(&mut self, family: Family, map: Map) {
        const FLAG_MAP: u32 = 8;
        let message = self.object(NEWSET, CREATE, family, format!("add map {}", map.name));
        message.text(2, map.name).number_be(3, FLAG_MAP).number_be(4, map.key_type).number_be(5, map.key);
        message.number_be(6, map.value_type).number_be(7, map.value).number_be(10, map.id);
    }

    /// Adds a set of keys of that type and length if it is missing.
    pub fn add_set(&mut self, family: Family, (name, id): (&str, u32), (key_type, key): (u32, u32)) {
        let message = self.object(NEWSET, CREATE, family, format!("add set {name}"));
        message.text(2, name).number_be(3, 0).number_be(4, key_type).number_be(5, key).number_be(10, id);
        message.attribute(13, NAMES_AS_THEY_ARE);
    }

    /// Adds elements, given as key and value (empty in a set).
    pub fn add_elements(&mut self, family: Family, map: &str, elements: &[(Vec<u8>, Vec<u8>)]) {
        self.elements(NEWSETELEM, family, map, elements);
    }

    /// Removes elements by key.
    pub fn delete_elements(&mut self, family: Family, map: &str, elements: &[(Vec<u8>, Vec<u8>)]) {
        self.elements(DELSETELEM, family, map, elements);
    }

    fn elements(&mut self, kind: u16, family: Family, map: &str, elements: &[(Vec<u8>, Vec<u8>)]) {
        let flags = if kind == NEWSETELEM { CREATE } else { 0 };
        // An attribute is at most 64 KiB long; an element needs less than 100 bytes.
        for some in elements.chunks(500) {
            let message = self.object(kind, flags, family, format!("change the elements of map {map}"));
            message.text(2, map).nest(3, |list| {
                for (key, value) in some {
                    list.nest(1, |element| {
                        element.nest(1, |data| {
                            data.attribute(1, key);
                        });
                        if kind == NEWSETELEM && !value.is_empty() {
                            element.nest(2, |data| {
                                data.attribute(1, value);
                            });
                        }
                    });
                }
            });
        }
    }
}
