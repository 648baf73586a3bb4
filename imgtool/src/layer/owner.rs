//! Whose files are, on disk and in a layer.

use anyhow::Result;
pub use contracts::ids::{Maps, Range};

/// Who owns the files of a tree in the layer that is made of it.
#[derive(Debug, Clone, Copy, Default)]
pub enum Owners<'a> {
    /// Who owns them on disk.
    #[default]
    Kept,
    /// Root.
    Root,
    /// Those inside whom the owners on disk stand for.
    Inside(&'a Maps),
}

impl Owners<'_> {
    /// The owner in the layer of a file that `uid` and `gid` own on disk.
    ///
    /// # Errors
    /// No map has it.
    pub fn of(self, uid: u32, gid: u32) -> Result<(u32, u32)> {
        Ok(match self {
            Self::Kept => (uid, gid),
            Self::Root => (0, 0),
            Self::Inside(maps) => maps.inside(uid, gid)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_mapped_back() {
        let uids: Vec<Range> = ["0:1000:1", "1:100000:65536"].map(|text| text.parse().unwrap()).into();
        let both = Maps::from_flags(&uids, &[]).unwrap().unwrap();
        let owners = Owners::Inside(&both);
        assert_eq!(owners.of(1000, 100_041).unwrap(), (0, 42));
        assert!(owners.of(0, 1000).is_err());
        assert_eq!(Owners::Root.of(5, 6).unwrap(), (0, 0));
        assert_eq!(Owners::Kept.of(5, 6).unwrap(), (5, 6));
    }
}
