//! What is the host's: mounts, namespaces, standard input and output.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag};
use sys::path::Root;

use super::message::Message;
use super::options::{Options, field};
use crate::cgroup::layout::BASE;
use crate::cgroup::{Location, Mounts};
use crate::container::directory::Directory;
use crate::lifecycle::notify_socket;
use crate::rootfs::devices;
use crate::rootfs::mount::Planned;
use crate::spec::document::Document;

/// The names of standard input, output and error at the dump, in the images; the name and format are runc's.
const DESCRIPTORS: &str = "descriptors.json";
/// By which CRIU knows the mounts over masked files.
const NULL: &str = "/dev/null";

/// Whether an entry of `mounts` is the container's view of its cgroups.
fn is_cgroup(planned: &Planned<'_>) -> bool {
    !planned.options.bind && matches!(planned.mount.kind.as_str(), "cgroup" | "cgroup2")
}

fn add_mount(message: &mut Message, key: &Path, value: &Path) {
    use std::os::unix::ffi::OsStrExt as _;
    message.nest(field::EXT_MNT, |mount| {
        mount.text(1, key.as_os_str().as_bytes()).text(2, value.as_os_str().as_bytes());
    });
}

/// A destination as the kernel lists it: with the links of the root file system followed.
fn resolve(rootfs: &Path, destination: &Path) -> PathBuf {
    let Ok(root) = Root::open(rootfs) else { return destination.to_owned() };
    for ancestor in destination.ancestors() {
        let Ok(fd) = root.open_in(ancestor, OFlag::O_PATH, Mode::empty()) else { continue };
        use std::os::fd::AsRawFd as _;
        let Ok(real) = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())) else { continue };
        if let (Ok(real), Ok(rest)) = (real.strip_prefix(rootfs), destination.strip_prefix(ancestor)) {
            // A join with nothing would add a slash.
            let real = Path::new("/").join(real);
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    destination.to_owned()
}

/// The mounts of a running container that its images leave out.
///
/// # Errors
/// A masked path cannot be looked at.
pub fn dumped_mounts(
    message: &mut Message,
    document: &Document,
    (rootfs, pid): (&Path, i32),
    mounts: &[Planned<'_>],
    cgroups: Option<&Location>,
) -> Result<()> {
    for planned in mounts.iter().filter(|planned| planned.options.bind) {
        let place = resolve(rootfs, &planned.mount.destination);
        add_mount(message, &place, &place);
    }
    for (place, _) in cgroup_binds(mounts, cgroups)? {
        add_mount(message, &place, &place);
    }
    for path in &document.linux.masked_paths {
        let inside = Path::new("/proc")
            .join(pid.to_string())
            .join("root")
            .join(path.strip_prefix("/").unwrap_or(path));
        match fs::symlink_metadata(&inside) {
            Ok(info) if !info.is_dir() => add_mount(message, path, Path::new(NULL)),
            _ => {}
        }
    }
    for path in devices::paths(&document.linux.devices) {
        add_mount(message, &path, &path);
    }
    Ok(())
}

/// The same mounts for a new container, with what is to be there.
///
/// # Errors
/// This machine has no cgroups.
pub fn restored_mounts(
    message: &mut Message,
    document: &Document,
    (rootfs, directory): (&Path, &Directory),
    mounts: &[Planned<'_>],
    cgroups: Option<&Location>,
) -> Result<()> {
    for planned in mounts.iter().filter(|planned| planned.options.bind) {
        add_mount(message, &resolve(rootfs, &planned.mount.destination), planned.source());
    }
    for (place, source) in cgroup_binds(mounts, cgroups)? {
        add_mount(message, &place, &source);
    }
    let notify = Path::new(notify_socket::INSIDE);
    // For one that had it: CRIU passes over what is not in the images.
    add_mount(message, notify, &notify_socket::directory(directory));
    if !document.linux.masked_paths.is_empty() {
        add_mount(message, Path::new(NULL), Path::new(NULL));
    }
    for path in devices::paths(&document.linux.devices) {
        add_mount(message, &path, &path);
    }
    Ok(())
}

/// Without a cgroup namespace the container sees what is the host's: of version 1 bind mounts of its cgroups, of version 2
/// all. `cgroups` is `None` where it has one.
fn cgroup_binds(mounts: &[Planned<'_>], cgroups: Option<&Location>) -> Result<Vec<(PathBuf, PathBuf)>> {
    let Some(location) = cgroups else { return Ok(Vec::new()) };
    let mut binds = Vec::new();
    for planned in mounts.iter().filter(|planned| is_cgroup(planned)) {
        let place = &planned.mount.destination;
        match location.mounts() {
            Mounts::V2(_) => binds.push((place.clone(), BASE.into())),
            Mounts::V1(all) => binds.extend(all.into_iter().map(|one| (place.join(&one.name), one.source))),
        }
    }
    Ok(binds)
}

/// CRIU's names of the kinds of namespaces, and whether one that is joined stays out of the images.
const NAMESPACES: [(&str, &str, bool); 8] = [
    ("network", "net", true),
    ("pid", "pid", true),
    ("mount", "mnt", false),
    ("ipc", "ipc", false),
    ("uts", "uts", false),
    ("user", "user", false),
    ("time", "time", false),
    ("cgroup", "cgroup", false),
];

fn external_key(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase()).into_iter();
    format!("extRoot{}NS", first.chain(letters).collect::<String>())
}

/// Names the joined network and PID namespaces.
///
/// # Errors
/// One is gone.
pub fn dumped_namespaces(message: &mut Message, document: &Document) -> Result<()> {
    for namespace in document.linux.namespaces.iter().filter(|one| !one.path.as_os_str().is_empty()) {
        let Some((_, name, true)) = NAMESPACES.iter().find(|(kind, ..)| *kind == namespace.kind) else {
            continue;
        };
        let info = fs::metadata(&namespace.path)
            .with_context(|| format!("open {} namespace {}", namespace.kind, namespace.path.display()))?;
        message.text(field::EXTERNAL, format!("{name}[{}]:{}", info.ino(), external_key(name)));
    }
    Ok(())
}

/// Hands the joined namespaces in.
///
/// # Errors
/// One is missing, or of a kind that CRIU cannot join.
pub fn restored_namespaces(options: &mut Options, document: &Document) -> Result<()> {
    for namespace in document.linux.namespaces.iter().filter(|one| !one.path.as_os_str().is_empty()) {
        let Some((_, name, external)) = NAMESPACES.iter().find(|(kind, ..)| *kind == namespace.kind) else {
            continue;
        };
        let path = &namespace.path;
        if !external {
            if *name == "cgroup" {
                fault!(
                    Unsupported,
                    "linux.namespaces: CRIU cannot restore into cgroup namespace {}",
                    path.display()
                );
            }
            options.message.nest(field::JOIN_NS, |join| {
                join.text(1, name).text(2, path.as_os_str().as_encoded_bytes());
            });
            continue;
        }
        let file = File::open(path)
            .with_context(|| format!("open {} namespace {}", namespace.kind, path.display()))?;
        let number = options.hold(file.into())?;
        inherit(&mut options.message, &external_key(name), number);
    }
    Ok(())
}

fn inherit(message: &mut Message, key: &str, fd: i32) {
    message.nest(field::INHERIT_FD, |inherit| {
        inherit.text(1, key).number(2, fd.into());
    });
}

/// Writes down what the standard streams of process `pid` are, and names those that are files of the host.
///
/// # Errors
/// The images cannot be written to.
pub fn dumped_streams(message: &mut Message, images: &Path, pid: i32) -> Result<()> {
    let mountinfo =
        fs::read_to_string(format!("/proc/{pid}/mountinfo")).context("read the container's mounts")?;
    let mut names = Vec::new();
    for number in 0..3 {
        let link = format!("/proc/{pid}/fd/{number}");
        let target = fs::read_link(&link).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        match host_file(pid, number, &mountinfo) {
            Some(name) => {
                message.text(field::EXTERNAL, &name);
                names.push(name);
            }
            None => names.push(target),
        }
    }
    let path = images.join(DESCRIPTORS);
    fs::write(&path, serde_json::to_vec(&names)?).with_context(|| format!("write {}", path.display()))
}

/// The name of an open file on a mount that the container does not have: CRIU could not find it by path.
fn host_file(pid: i32, number: i32, mountinfo: &str) -> Option<String> {
    let info = fs::metadata(format!("/proc/{pid}/fd/{number}")).ok()?;
    let kind = sys::path::file_type(info.mode());
    let named = || fs::read_link(format!("/proc/{pid}/fd/{number}")).is_ok_and(|link| link.is_absolute());
    match kind {
        SFlag::S_IFREG | SFlag::S_IFCHR => {}
        // A pipe with a name; the others are known by their numbers.
        SFlag::S_IFIFO if named() => {}
        _ => return None,
    }
    let fdinfo = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
    let mount: u32 = fdinfo.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()?;
    let known = mountinfo.lines().any(|line| line.split(' ').next() == Some(mount.to_string().as_str()));
    (!known).then(|| format!("file[{mount:x}:{:x}]", info.ino()))
}

/// Hands in our standard streams for those at the dump: copies, to be held, because CRIU closes what it is given and
/// for `--shell-job` needs its own stdin as well.
///
/// # Errors
/// The images are not a checkpoint of a container.
pub fn restored_streams(message: &mut Message, images: &Path) -> Result<Vec<OwnedFd>> {
    let path = images.join(DESCRIPTORS);
    let text =
        fs::read(&path).with_context(|| format!("read {}: not a container's checkpoint", path.display()))?;
    let names: Vec<String> =
        serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let mut seen: Vec<&str> = Vec::new();
    let mut copies = Vec::new();
    for (name, stream) in names.iter().zip([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]) {
        let ours = name.contains("pipe:") || name.starts_with("file[");
        if ours && !seen.contains(&name.as_str()) {
            let copy = stream.try_clone_to_owned().context("copy a standard stream")?;
            inherit(message, name, copy.as_raw_fd());
            copies.push(copy);
            seen.push(name);
        }
    }
    Ok(copies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_as_runc_names_them() {
        assert_eq!(external_key("net"), "extRootNetNS");
        assert_eq!(external_key("pid"), "extRootPidNS");
    }

    #[test]
    fn destinations_follow_links_of_the_root() {
        let root = tempfile::tempdir().unwrap();
        let rootfs = root.path().canonicalize().unwrap();
        fs::create_dir_all(rootfs.join("run")).unwrap();
        fs::create_dir_all(rootfs.join("var")).unwrap();
        std::os::unix::fs::symlink("/run", rootfs.join("var/run")).unwrap();
        let resolved = |path: &str| resolve(&rootfs, Path::new(path)).display().to_string();
        assert_eq!(resolved("/var/run/secrets"), "/run/secrets");
        assert_eq!(resolved("/var/run"), "/run");
        assert_eq!(resolved("/no/such"), "/no/such");
        assert_eq!(resolved("/"), "/");
    }

    #[test]
    fn streams_need_their_list() {
        let images = tempfile::tempdir().unwrap();
        let mut message = Message::default();
        assert!(restored_streams(&mut message, images.path()).is_err());
        fs::write(images.path().join(DESCRIPTORS), r#"["/dev/null","pipe:[7]","pipe:[7]"]"#).unwrap();
        let copies = restored_streams(&mut message, images.path()).unwrap();
        assert!(copies.iter().all(|copy| copy.as_raw_fd() > 2), "CRIU would close our streams: {copies:?}");
        let fields: Vec<_> = super::super::message::fields(message.bytes()).collect();
        assert_eq!(fields.len(), 1, "a name that is there twice is one pipe");
    }
}
