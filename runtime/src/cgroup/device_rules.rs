//! Which devices a container may use: the configuration's rules in their order, then those every container has.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

/// Bits of access, with the kernel's values for v2 (`BPF_DEVCG_ACC_…`).
pub const MKNOD: u8 = 1;
/// See [`MKNOD`].
pub const READ: u8 = 2;
/// See [`MKNOD`].
pub const WRITE: u8 = 4;
/// All three.
pub const ALL: u8 = MKNOD | READ | WRITE;

/// Block or character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `BPF_DEVCG_DEV_BLOCK`
    Block = 1,
    /// `BPF_DEVCG_DEV_CHAR`
    Char = 2,
}

/// One rule; `None` stands for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Whether it allows or refuses.
    pub allow: bool,
    /// Of what kind.
    pub kind: Option<Kind>,
    /// Major number.
    pub major: Option<u32>,
    /// Minor number.
    pub minor: Option<u32>,
    /// What is allowed or refused.
    pub access: u8,
}

impl Rule {
    /// Whether it decides about every access to every device.
    pub fn is_total(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }

    fn read(rule: &LinuxDeviceCgroup) -> Result<Self> {
        let kind = match rule.typ().unwrap_or_default() {
            LinuxDeviceType::A => None,
            LinuxDeviceType::B => Some(Kind::Block),
            LinuxDeviceType::C | LinuxDeviceType::U => Some(Kind::Char),
            LinuxDeviceType::P => bail!("resources.devices \"{rule}\": a FIFO is no device"),
        };
        let mut access = 0;
        for char in rule.access().as_deref().unwrap_or("rwm").chars() {
            access |= match char {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                _ => bail!("resources.devices \"{rule}\": access is not made of r, w and m"),
            };
        }
        let access = if access == 0 { ALL } else { access };
        let number = |value: Option<i64>| match value {
            None | Some(-1) => Ok(None),
            Some(value) => u32::try_from(value).map(Some),
        };
        let numbers = || format!("resources.devices \"{rule}\"");
        let (major, minor) =
            (number(rule.major()).with_context(numbers)?, number(rule.minor()).with_context(numbers)?);
        // "a" speaks of all devices, whatever else is given: so do the kernel's v1 files.
        let (major, minor) = if kind.is_none() { (None, None) } else { (major, minor) };
        Ok(Self { allow: rule.allow(), kind, major, minor, access })
    }
}

/// As the v1 files take it.
impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<u32>| value.map_or("*".to_owned(), |value| value.to_string());
        let kind = match self.kind {
            None => 'a',
            Some(Kind::Block) => 'b',
            Some(Kind::Char) => 'c',
        };
        write!(out, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        for (bit, char) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
            if self.access & bit != 0 {
                write!(out, "{char}")?;
            }
        }
        Ok(())
    }
}

/// What every container may use: making nodes, and null, zero, full, tty, random, urandom, ptmx and terminals.
fn standard() -> impl Iterator<Item = Rule> {
    let char = |major, minor, access| Rule { allow: true, kind: Some(Kind::Char), major, minor, access };
    let nodes = [char(None, None, MKNOD), Rule { kind: Some(Kind::Block), ..char(None, None, MKNOD) }];
    let usual = [(1, 3), (1, 5), (1, 7), (5, 0), (1, 8), (1, 9), (5, 2)];
    let usual = usual.map(|(major, minor)| char(Some(major), Some(minor), ALL));
    nodes.into_iter().chain(usual).chain([char(Some(136), None, ALL)])
}

/// All rules for a container in order: none but the allowed, then the configuration's, then the standard ones.
///
/// # Errors
/// A rule of the configuration makes no sense.
pub fn rules(resources: Option<&LinuxResources>) -> Result<Vec<Rule>> {
    let mut rules = vec![Rule { allow: false, kind: None, major: None, minor: None, access: ALL }];
    for rule in resources.and_then(|resources| resources.devices().as_ref()).into_iter().flatten() {
        let rule = Rule::read(rule)?;
        if rule.is_total() {
            rules.clear(); // nothing before it has a say
        }
        rules.push(rule);
    }
    // Where the last word was "all", the standard devices are among them.
    if !(rules.len() == 1 && rules[0].allow) {
        rules.extend(standard());
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nonsense_is_named() {
        for rule in [json!({"allow": true, "access": "x"}), json!({"allow": true, "type": "c", "major": -7})]
        {
            let resources: LinuxResources = serde_json::from_value(json!({"devices": [rule]})).unwrap();
            assert!(rules(Some(&resources)).is_err());
        }
    }
}
