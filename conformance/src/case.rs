//! One checked sentence of the specification.

use anyhow::Result;

use crate::machine::Need;
use crate::rig::Rig;

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
