//! The cases, one file per feature.

mod capabilities;
mod cgroups;
mod devices;
mod evil;
mod exec;
mod expect;
mod hooks;
mod interface;
mod lifecycle;
mod mounts;
mod namespaces;
mod options;
mod process;
mod race;
mod refusals;
mod seccomp;
mod state;
mod terminal;

use crate::case::Case;

const ALL: &[&[Case]] = &[
    process::CASES,
    capabilities::CASES,
    mounts::CASES,
    options::CASES,
    namespaces::CASES,
    devices::CASES,
    cgroups::CASES,
    seccomp::CASES,
    hooks::CASES,
    terminal::CASES,
    state::CASES,
    lifecycle::CASES,
    exec::CASES,
    interface::CASES,
    refusals::CASES,
    evil::CASES,
    race::CASES,
];

/// Every case in the order of the documents.
pub fn all() -> impl Iterator<Item = &'static Case> {
    ALL.iter().copied().flatten()
}
