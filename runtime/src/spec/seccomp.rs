//! `linux.seccomp` (config-linux.md): a profile of system calls.
//!
//! Types of our own, because a profile names some 400 calls and all of them would be strings: each is looked up while
//! it is read.

use std::fmt;
use std::path::PathBuf;

use oci_spec::runtime::{
    Arch, LinuxSeccompAction as Action, LinuxSeccompArg as Arg, LinuxSeccompFilterFlag as Flag,
};
use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::or_default;
use crate::seccomp::Call;

/// `seccomp`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// What happens to calls that no rule matches.
    pub default_action: Action,
    /// Its errno.
    #[serde(default)]
    pub default_errno_ret: Option<u32>,
    /// The ways of making system calls that the profile is about, besides the native one.
    #[serde(default, deserialize_with = "or_default")]
    pub architectures: Vec<Arch>,
    /// Flags of `seccomp(2)`; `None` is not the same as none.
    #[serde(default)]
    pub flags: Option<Vec<Flag>>,
    /// The UNIX socket of the agent that answers notifications.
    #[serde(default, deserialize_with = "or_default")]
    pub listener_path: PathBuf,
    /// Passed on to the agent.
    #[serde(default, deserialize_with = "or_default")]
    pub listener_metadata: String,
    /// The rules.
    #[serde(default, deserialize_with = "or_default")]
    pub syscalls: Vec<Rule>,
    /// A program in place of rules and actions (`run.oci.seccomp_bpf_data`).
    #[serde(skip)]
    pub program: Option<Vec<u8>>,
}

impl Seccomp {
    /// A profile that says nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            default_action: Action::ScmpActAllow,
            default_errno_ret: None,
            architectures: Vec::new(),
            flags: None,
            listener_path: PathBuf::new(),
            listener_metadata: String::new(),
            syscalls: Vec::new(),
            program: None,
        }
    }
}

/// One of `syscalls`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The calls that it is about.
    pub names: Names,
    /// What happens to them.
    pub action: Action,
    /// Its errno.
    #[serde(default)]
    pub errno_ret: Option<u32>,
    /// What must be true of their arguments.
    #[serde(default, deserialize_with = "or_default")]
    pub args: Vec<Arg>,
}

/// `names`, looked up.
#[derive(Debug, Default)]
pub struct Names {
    /// The calls that some architecture has.
    pub calls: Vec<Call>,
    /// The first name, for messages.
    pub first: String,
    /// The first that no architecture has.
    pub unknown: Option<String>,
    /// Whether one of them was empty.
    pub has_empty: bool,
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List)
    }
}

struct List;

impl<'de> Visitor<'de> for List {
    type Value = Names;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list of system calls")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
        let mut names = Names { calls: Vec::with_capacity(64), ..Names::default() };
        while list.next_element_seed(Name(&mut names))?.is_some() {}
        Ok(names)
    }
}

/// One name, on its way into the list.
struct Name<'a>(&'a mut Names);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the name of a system call")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        let names = self.0;
        match Call::find(text) {
            Some(call) => names.calls.push(call),
            None if names.unknown.is_none() => names.unknown = Some(text.to_owned()),
            None => {}
        }
        if names.first.is_empty() {
            text.clone_into(&mut names.first);
        }
        names.has_empty |= text.is_empty();
        Ok(())
    }
}
