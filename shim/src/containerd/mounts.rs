//! A container's root file system: the mounts that containerd's snapshotter asks for, made on descriptors.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use sys::mount::{Attributes, Filesystem, LONGEST_VALUE, attach, attr, copy_tree, set_attributes};
use sys::path::Root;

use super::proto::Mount;
use super::status::{Code, Status};

/// A mount's options, told apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options<'a> {
    bind: bool,
    recursive: bool,
    attributes: u64,
    propagation: u64,
    /// What the file system itself is told.
    data: Vec<&'a str>,
}

/// Makes all of them on `rootfs`, in order; those already made go again where one fails.
pub fn make(mounts: &[Mount], rootfs: &Path) -> Result<()> {
    for wanted in mounts {
        if let Err(err) = one(wanted, rootfs) {
            let _ = unmount(rootfs);
            return Err(err.context(format!(
                "failed to mount rootfs component: mount {} {}",
                wanted.r#type, wanted.source
            )));
        }
    }
    Ok(())
}

fn one(wanted: &Mount, rootfs: &Path) -> Result<()> {
    let options = Options::of(&wanted.options);
    if let Some(option) = options.data.iter().find(|option| {
        option.starts_with("uidmap=") || option.starts_with("gidmap=") || option.starts_with("X-containerd.")
    }) {
        return Err(Status::error(Code::Unimplemented, format!("option {option} is not supported")));
    }
    let target = open(rootfs, &wanted.target)?;
    if options.bind || matches!(wanted.r#type.as_str(), "bind" | "rbind") {
        let here = File::open("/").context("open /")?;
        let recursive = options.recursive || wanted.r#type == "rbind";
        let tree = copy_tree(here.as_fd(), Path::new(&wanted.source), recursive, false)?;
        let Options { attributes: set, propagation, .. } = options;
        if set != 0 || propagation != 0 {
            set_attributes(
                tree.as_fd(),
                Attributes { set, propagation, ..Attributes::default() },
                recursive,
            )?;
        }
        return Ok(attach(tree.as_fd(), target.as_fd())?);
    }
    match modern(wanted, &options) {
        Ok(tree) => {
            attach(tree.as_fd(), target.as_fd())?;
            if options.propagation != 0 {
                let target = open(rootfs, &wanted.target)?;
                let propagation = options.propagation;
                set_attributes(target.as_fd(), Attributes { propagation, ..Attributes::default() }, false)?;
            }
            Ok(())
        }
        // An option that only mount(2) knows, an older kernel, or a value that the new calls have no room for.
        Err(err)
            if matches!(err.raw_os_error(), Some(libc::ENOSYS) | None)
                || err.kind() == io::ErrorKind::InvalidInput =>
        {
            classic(wanted, &options, &target)
        }
        Err(err) => Err(err.into()),
    }
}

/// Where the mount goes: the rootfs, or a directory in it, which the image cannot lead elsewhere.
fn open(rootfs: &Path, below: &str) -> Result<OwnedFd> {
    if below.is_empty() {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let dir = File::options().read(true).custom_flags(flags).open(rootfs);
        return Ok(dir.with_context(|| format!("open {}", rootfs.display()))?.into());
    }
    let root = Root::open(rootfs).with_context(|| format!("open {}", rootfs.display()))?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    root.open_in(Path::new(below), flags, Mode::empty())
        .with_context(|| format!("open {below} in the rootfs"))
}

fn modern(wanted: &Mount, options: &Options<'_>) -> io::Result<OwnedFd> {
    let filesystem = Filesystem::open(&wanted.r#type)?;
    let value = |key: &str, value: &str| {
        // Longer ones are mount(2)'s, which takes a page of them.
        if value.len() > LONGEST_VALUE {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        filesystem.set(key, value)
    };
    value("source", &wanted.source)?;
    for option in &options.data {
        match option.split_once('=') {
            // One by one there is no limit on how many layers there are.
            Some(("lowerdir", layers))
                if wanted.r#type == "overlay" && !layers.contains(['\\']) && !layers.contains("::") =>
            {
                layers.split(':').try_for_each(|layer| value("lowerdir+", layer))?;
            }
            Some((key, text)) => value(key, text)?,
            None => filesystem.set_flag(option)?,
        }
    }
    if options.attributes & attr::RDONLY != 0 && wanted.r#type != "overlay" {
        filesystem.set_flag("ro")?;
    }
    filesystem.mount(options.attributes)
}

fn classic(wanted: &Mount, options: &Options<'_>, target: &OwnedFd) -> Result<()> {
    let path = format!("/proc/self/fd/{}", target.as_raw_fd());
    let mut flags = MsFlags::empty();
    for (bit, flag) in [
        (attr::RDONLY, MsFlags::MS_RDONLY),
        (attr::NOSUID, MsFlags::MS_NOSUID),
        (attr::NODEV, MsFlags::MS_NODEV),
        (attr::NOEXEC, MsFlags::MS_NOEXEC),
        (attr::NOATIME, MsFlags::MS_NOATIME),
        (attr::NODIRATIME, MsFlags::MS_NODIRATIME),
    ] {
        flags.set(flag, options.attributes & bit != 0);
    }
    let data = options.data.join(",");
    mount(
        Some(wanted.source.as_str()),
        path.as_str(),
        Some(wanted.r#type.as_str()),
        flags,
        Some(data.as_str()),
    )
    .with_context(|| format!("options {data}"))
}

impl<'a> Options<'a> {
    fn of(words: &'a [String]) -> Self {
        let mut options = Self::default();
        for word in words.iter().flat_map(|word| split(word)) {
            let set = match word {
                "ro" => attr::RDONLY,
                "nosuid" => attr::NOSUID,
                "nodev" => attr::NODEV,
                "noexec" => attr::NOEXEC,
                "noatime" => attr::NOATIME,
                "strictatime" => attr::STRICTATIME,
                "nodiratime" => attr::NODIRATIME,
                "bind" | "rbind" => {
                    options.bind = true;
                    options.recursive |= word == "rbind";
                    0
                }
                "private" | "rprivate" => options.spread(MsFlags::MS_PRIVATE),
                "slave" | "rslave" => options.spread(MsFlags::MS_SLAVE),
                "shared" | "rshared" => options.spread(MsFlags::MS_SHARED),
                // What a new mount is anyway.
                "" | "rw" | "suid" | "dev" | "exec" | "atime" | "relatime" | "defaults" => 0,
                _ => {
                    options.data.push(word);
                    0
                }
            };
            options.attributes |= set;
        }
        options
    }

    fn spread(&mut self, how: MsFlags) -> u64 {
        self.propagation = how.bits();
        0
    }
}

/// `a,b` is two options, but a comma may be quoted in an overlay's paths.
fn split(word: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    word.split(move |letter| {
        let cut = letter == ',' && !quoted;
        quoted = letter == '\\' && !quoted;
        cut
    })
}

/// Unmounts everything on `rootfs`; nothing there is fine.
pub fn unmount(rootfs: &Path) -> Result<()> {
    loop {
        let flags = MntFlags::UMOUNT_NOFOLLOW;
        let result = match umount2(rootfs, flags) {
            // Something is mounted below it, or somebody is in it: both go.
            Err(Errno::EBUSY) => umount2(rootfs, flags | MntFlags::MNT_DETACH),
            other => other,
        };
        match result {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(err) => return Err(err).with_context(|| format!("unmount {}", rootfs.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_apart() {
        let words = ["rbind", "ro", "rprivate", "lowerdir=/a\\,b:/c", "index=off", "nosuid,userxattr"]
            .map(String::from);
        let options = Options::of(&words);
        assert!(options.bind && options.recursive);
        assert_eq!(options.attributes, attr::RDONLY | attr::NOSUID);
        assert_eq!(options.propagation, MsFlags::MS_PRIVATE.bits());
        assert_eq!(options.data, ["lowerdir=/a\\,b:/c", "index=off", "userxattr"]);
    }
}
