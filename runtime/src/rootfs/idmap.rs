//! Mounts whose ids are shifted. Only the runtime, with its rights over the host's file systems, can do that, so
//! these sources are opened and shifted before the container's processes exist.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};
use contracts::fault;
use sys::mount::{Attributes, attr};

use super::options::{Idmap, Options};
use crate::namespace::user;
use crate::spec::document::Mount;
use crate::spec::linux::IdMapping;

/// User namespaces by their maps: mounts with equal maps share one.
#[derive(Debug, Default)]
pub struct Maps {
    made: Vec<(Vec<IdMapping>, Vec<IdMapping>, OwnedFd)>,
}

/// The container's user namespace.
#[derive(Debug, Default, Clone, Copy)]
pub struct Container<'a> {
    /// `uidMappings` and `gidMappings` of its own.
    pub maps: (&'a [IdMapping], &'a [IdMapping]),
    /// One that it joins.
    pub joined: Option<BorrowedFd<'a>>,
}

/// What the mount asks for: its options, or maps without one.
#[must_use]
pub fn wanted(mount: &Mount, options: &Options) -> Option<Idmap> {
    options.idmap.or((!mount.uid_mappings.is_empty()).then_some(Idmap::Top))
}

/// How a mount's ids are to be shifted.
#[derive(Debug)]
pub struct Shift {
    namespace: OwnedFd,
    how: Idmap,
}

impl Maps {
    /// How the ids of a mount are shifted: by its own maps or, where it has none, by the container's.
    ///
    /// # Errors
    /// No maps at all.
    pub fn shift(&mut self, mount: &Mount, how: Idmap, container: Container<'_>) -> Result<Shift> {
        if let Some(namespace) = container.joined.filter(|_| mount.uid_mappings.is_empty()) {
            return Ok(Shift { namespace: namespace.try_clone_to_owned()?, how });
        }
        let (uids, gids) = if mount.uid_mappings.is_empty() {
            container.maps
        } else {
            (mount.uid_mappings.as_slice(), mount.gid_mappings.as_slice())
        };
        if uids.is_empty() || gids.is_empty() {
            fault!(Usage, "idmap without id mappings and without a user namespace");
        }
        let known = self.made.iter().position(|(u, g, _)| u == uids && g == gids);
        let index = match known {
            Some(index) => index,
            None => {
                self.made.push((uids.to_vec(), gids.to_vec(), user::with_maps(uids, gids)?));
                self.made.len() - 1
            }
        };
        Ok(Shift { namespace: self.made[index].2.try_clone()?, how })
    }
}

impl Shift {
    /// Shifts the ids of the detached mount `tree`.
    ///
    /// # Errors
    /// A file system that cannot be shifted; no rights over it.
    pub fn apply(&self, tree: &OwnedFd) -> Result<()> {
        let attributes = Attributes {
            set: attr::IDMAP,
            userns_fd: u64::from(self.namespace.as_raw_fd().cast_unsigned()),
            ..Attributes::default()
        };
        sys::mount::set_attributes(tree.as_fd(), attributes, self.how == Idmap::Recursive)
            .context("shift the ids of the mount")
    }
}
