//! Mount options as config.json has them, sorted by which system call takes them.

use anyhow::Result;
use contracts::fault;
use nix::libc;
use sys::mount::{Attributes, attr};

/// A propagation type, and whether it is for the whole tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// `MS_PRIVATE`, `MS_SHARED`, `MS_SLAVE` or `MS_UNBINDABLE`.
    pub kind: u64,
    /// Also what is mounted below.
    pub recursive: bool,
}

/// Ids shifted by a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idmap {
    /// This mount.
    Top,
    /// And those below it.
    Recursive,
}

/// The options of one mount.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Options {
    /// `bind` or `rbind`.
    pub bind: bool,
    /// `rbind`.
    pub recursive: bool,
    /// Of the mount itself.
    pub attributes: Attributes,
    /// Of the mount and all below it (`rro` and the like).
    pub recursive_attributes: Attributes,
    /// In their order.
    pub propagation: Vec<Propagation>,
    /// `sync` and other flags of the file system.
    pub flags: Vec<&'static str>,
    /// All that the file system itself is to understand.
    pub data: Vec<String>,
    /// `idmap`, `ridmap`.
    pub idmap: Option<Idmap>,
    /// `remount`: nothing new is mounted, the mount that is there changes its options.
    pub remount: bool,
    /// `tmpcopyup`.
    pub copy_up: bool,
    /// `src-nofollow`: a final symbolic link of the source is not followed.
    pub source_nofollow: bool,
    /// `dest-nofollow`: a destination that is a symbolic link is covered itself.
    pub destination_nofollow: bool,
    /// `copy-symlink`: a source that is a symbolic link is made anew instead of mounted.
    pub copy_symlink: bool,
}

enum Effect {
    Set(u64),
    Clear(u64),
    /// The access time mode, all of whose bits are replaced.
    Time(u64),
    Flag(&'static str),
    Nothing,
}

/// Attributes that also exist with a leading `r` for the whole tree.
const ATTRIBUTES: [(&str, Effect); 18] = [
    ("ro", Effect::Set(attr::RDONLY)),
    ("rw", Effect::Clear(attr::RDONLY)),
    ("nosuid", Effect::Set(attr::NOSUID)),
    ("suid", Effect::Clear(attr::NOSUID)),
    ("nodev", Effect::Set(attr::NODEV)),
    ("dev", Effect::Clear(attr::NODEV)),
    ("noexec", Effect::Set(attr::NOEXEC)),
    ("exec", Effect::Clear(attr::NOEXEC)),
    ("nosymfollow", Effect::Set(attr::NOSYMFOLLOW)),
    ("symfollow", Effect::Clear(attr::NOSYMFOLLOW)),
    ("nodiratime", Effect::Set(attr::NODIRATIME)),
    ("diratime", Effect::Clear(attr::NODIRATIME)),
    ("noatime", Effect::Time(attr::NOATIME)),
    ("atime", Effect::Time(0)),
    ("relatime", Effect::Time(0)),
    ("norelatime", Effect::Time(attr::STRICTATIME)),
    ("strictatime", Effect::Time(attr::STRICTATIME)),
    ("nostrictatime", Effect::Time(0)),
];

/// Flags of the file system, not of the mount.
const FLAGS: [(&str, Effect); 12] = [
    ("sync", Effect::Flag("sync")),
    ("async", Effect::Flag("async")),
    ("dirsync", Effect::Flag("dirsync")),
    ("lazytime", Effect::Flag("lazytime")),
    ("nolazytime", Effect::Flag("nolazytime")),
    ("mand", Effect::Flag("mand")),
    ("nomand", Effect::Nothing),
    ("iversion", Effect::Flag("iversion")),
    ("noiversion", Effect::Nothing),
    ("defaults", Effect::Nothing),
    ("silent", Effect::Nothing),
    ("loud", Effect::Nothing),
];

impl Options {
    /// Sorts the options; later ones win over earlier ones.
    ///
    /// # Errors
    /// A usage fault for file system data on a bind mount, which the kernel would ignore.
    pub fn parse(kind: &str, list: &[String]) -> Result<Self> {
        let mut options = Self { bind: kind == "bind", ..Self::default() };
        for option in list {
            options.take(option);
        }
        if options.bind && !options.data.is_empty() {
            fault!(
                Usage,
                "bind mounts cannot have any filesystem-specific options: {}",
                options.data.join(",")
            );
        }
        Ok(options)
    }

    fn take(&mut self, option: &str) {
        if let Some(propagation) = propagation(option) {
            self.propagation.push(propagation);
            return;
        }
        if let Some((_, effect)) = ATTRIBUTES.iter().chain(&FLAGS).find(|(name, _)| *name == option) {
            return self.apply(effect, false);
        }
        let recursive = option.strip_prefix('r');
        if let Some((_, effect)) =
            recursive.and_then(|name| ATTRIBUTES.iter().find(|(known, _)| *known == name))
        {
            return self.apply(effect, true);
        }
        match option {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "idmap" => self.idmap = Some(Idmap::Top),
            "ridmap" => self.idmap = Some(Idmap::Recursive),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "src-nofollow" => self.source_nofollow = true,
            "dest-nofollow" => self.destination_nofollow = true,
            "copy-symlink" => self.copy_symlink = true,
            "" => {}
            data => self.data.push(data.to_owned()),
        }
    }

    fn apply(&mut self, effect: &Effect, recursive: bool) {
        let attributes = if recursive { &mut self.recursive_attributes } else { &mut self.attributes };
        match *effect {
            Effect::Set(bits) => {
                attributes.set |= bits;
                attributes.clear &= !bits;
            }
            Effect::Clear(bits) => {
                attributes.clear |= bits;
                attributes.set &= !bits;
            }
            Effect::Time(bits) => {
                attributes.set = attributes.set & !attr::ATIME | bits;
                attributes.clear |= attr::ATIME;
            }
            Effect::Flag(name) => self.flags.push(name),
            Effect::Nothing => {}
        }
    }
}

/// Every option with a meaning of its own, sorted (for `features`); any other is handed to the file system.
#[must_use]
pub fn names() -> Vec<String> {
    let recursive = ATTRIBUTES.iter().map(|(name, _)| format!("r{name}"));
    let words = [
        "bind",
        "rbind",
        "idmap",
        "ridmap",
        "remount",
        "tmpcopyup",
        "src-nofollow",
        "dest-nofollow",
        "copy-symlink",
    ];
    let kinds = ["private", "shared", "slave", "unbindable"]
        .into_iter()
        .flat_map(|kind| ["", "r"].map(|r| format!("{r}{kind}")));
    let plain = ATTRIBUTES.iter().chain(&FLAGS).map(|(name, _)| *name).chain(words).map(str::to_owned);
    let mut all: Vec<String> = plain.chain(recursive).chain(kinds).collect();
    all.sort_unstable();
    all
}

/// The propagation that a word names.
#[must_use]
pub fn propagation(word: &str) -> Option<Propagation> {
    let (kind, recursive) = match word.strip_prefix('r') {
        Some(kind) if kind != "o" && kind != "w" => (kind, true),
        _ => (word, false),
    };
    let kind = match kind {
        "private" => libc::MS_PRIVATE,
        "shared" => libc::MS_SHARED,
        "slave" => libc::MS_SLAVE,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => return None,
    };
    Some(Propagation { kind, recursive })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &[&str]) -> Options {
        let list: Vec<String> = list.iter().map(|&word| word.to_owned()).collect();
        Options::parse("", &list).unwrap()
    }

    #[test]
    fn later_options_win() {
        assert_eq!(
            parse(&["ro", "rw"]).attributes,
            Attributes { clear: attr::RDONLY, ..Attributes::default() }
        );
        assert_eq!(parse(&["suid", "nosuid"]).attributes.set, attr::NOSUID);
        let times = parse(&["noatime", "strictatime"]).attributes;
        assert_eq!((times.set, times.clear), (attr::STRICTATIME, attr::ATIME));
    }

    #[test]
    fn words_with_r_are_not_confused() {
        let options = parse(&["rbind", "rro", "relatime", "rslave", "rw", "ro"]);
        assert!(options.bind && options.recursive);
        assert_eq!(options.recursive_attributes.set, attr::RDONLY);
        assert_eq!(options.attributes.set, attr::RDONLY);
        assert_eq!(options.propagation, [Propagation { kind: libc::MS_SLAVE, recursive: true }]);
    }

    #[test]
    fn the_rest_is_data() {
        assert_eq!(parse(&["mode=755", "nosuid", "size=1k"]).data, ["mode=755", "size=1k"]);
        assert!(Options::parse("bind", &["mode=1".into()]).is_err());
    }
}
