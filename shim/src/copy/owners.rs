//! Whose are the files of a copy.

use anyhow::{Context as _, Result};
use contracts::ids::Maps;
use nix::sys::stat::FileStat;
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

/// How the owners of a copy follow from those of the source.
#[derive(Debug, Clone, Copy)]
pub enum Owners<'a> {
    /// Whoever copies.
    Ours,
    /// The source's.
    Kept,
    /// Those inside a container whom the source's owners on the host stand for.
    Inside(&'a Maps),
    /// Those on the host who stand for the source's owners inside a container.
    Outside(&'a Maps),
}

impl Owners<'_> {
    /// The owner of the copy of a file; `None` for whoever copies.
    pub fn of(self, stat: &FileStat) -> Result<Option<(Uid, Gid)>> {
        match self {
            Self::Ours => Ok(None),
            _ => self
                .id(stat.st_uid, stat.st_gid)
                .map(|(uid, gid)| Some((Uid::from_raw(uid), Gid::from_raw(gid)))),
        }
    }

    /// The ids of the copy of what `uid` and `gid` own.
    pub fn id(self, uid: u32, gid: u32) -> Result<(u32, u32)> {
        match self {
            Self::Ours | Self::Kept => Ok((uid, gid)),
            Self::Inside(maps) => maps.inside(uid, gid),
            Self::Outside(maps) => Ok((maps.outside_user(uid)?, maps.outside_group(gid)?)),
        }
    }
}

/// What this process makes from here on belongs to the root of a container with these maps, which is the only one who may make
/// files in its mounts. All rights stay.
pub fn become_root_of(maps: &Maps) -> Result<()> {
    let rights = sys::capability::get().context("read our capabilities")?;
    let (uid, gid) = maps.outside(0, 0);
    setfsgid(Gid::from_raw(gid));
    setfsuid(Uid::from_raw(uid));
    // With the user the kernel took those away that are about files.
    sys::capability::set(rights).context("keep our capabilities")
}
