//! One checked sentence of the specification, and the list of all of them.

use anyhow::Result;

use crate::cases;
use crate::rig::Rig;

/// What a case cannot do without.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// cgroup version 1 (also in a hybrid).
    CgroupV1,
    /// cgroup version 2 alone.
    CgroupV2,
    /// This cgroup controller.
    Controller(&'static str),
    /// A namespace kind as in /proc/self/ns.
    Namespace(&'static str),
    /// `CAP_SYS_RESOURCE`.
    SysResource,
    /// A file of the machine.
    File(&'static str),
}

/// A check of one behaviour.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// `feature/what`: unique.
    pub name: &'static str,
    /// The document and section of OCI runtime-spec 1.3 (or the tool's own contract) it rests on.
    pub section: &'static str,
    /// Skipped where one is not met.
    pub needs: &'static [Need],
    /// The check itself: an error is a failure.
    pub run: fn(&mut Rig<'_>) -> Result<()>,
}

impl Case {
    /// A case without needs.
    pub const fn new(name: &'static str, section: &'static str, run: fn(&mut Rig<'_>) -> Result<()>) -> Self {
        Self { name, section, needs: &[], run }
    }

    /// The same with needs.
    #[must_use]
    pub const fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }
}

/// Every case in the order of the documents.
pub fn all() -> impl Iterator<Item = &'static Case> {
    cases::ALL.iter().copied().flatten()
}
