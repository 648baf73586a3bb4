//! The kernel's own cost of a container: new namespaces, mounts, pivot_root, exec, and nothing else.
//!
//! No runtime can do less, so its time is the floor under every `run`. It joins no cgroup, loads no filter and drops no
//! capability.

use std::ffi::CString;
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{chdir, execv, pivot_root, sethostname};

use crate::kernel;

/// `floor min|full ROOTFS PROGRAM`: exits as the program does.
pub fn run(args: &[String]) -> ExitCode {
    let [kind, rootfs, program] = args else { return ExitCode::from(2) };
    match contain(kind == "full", rootfs, program) {
        Ok(code) => ExitCode::from(code),
        Err(err) => {
            let _ = writeln!(io::stderr(), "floor: {err:#}");
            ExitCode::from(125)
        }
    }
}

fn contain(full: bool, rootfs: &str, program: &str) -> Result<u8> {
    let mut namespaces =
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if full {
        namespaces |= libc::CLONE_NEWCGROUP;
    }
    let pid = kernel::fork_into(namespaces).context("clone3")?;
    if pid == 0 {
        inside(full, rootfs, program, || Ok(()))?;
    }
    Ok(u8::try_from(kernel::reap(pid)?.code).unwrap_or(u8::MAX))
}

/// Becomes `program` in `rootfs`, after a last step of the caller's.
///
/// # Errors
/// Whatever the kernel says.
pub fn inside(full: bool, rootfs: &str, program: &str, last: impl FnOnce() -> io::Result<()>) -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some(rootfs), rootfs, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    chdir(rootfs)?;
    mount(Some("proc"), "proc", Some("proc"), tight(), None::<&str>).context("mount proc")?;
    if full {
        devices()?;
        paths();
    }
    pivot_root(".", ".").context("pivot_root")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    sethostname("floor")?;
    let program = CString::new(program)?;
    last()?;
    execv(&program, &[&program]).context("exec")?;
    Ok(())
}

fn tight() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC
}

fn devices() -> Result<()> {
    let dev = Some("mode=755,size=65536k");
    mount(Some("tmpfs"), "dev", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME, dev)?;
    for (dir, kind, flags, options) in [
        (
            "dev/pts",
            "devpts",
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
            "newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        ("dev/shm", "tmpfs", tight(), "mode=1777,size=65536k"),
        ("dev/mqueue", "mqueue", tight(), ""),
    ] {
        std::fs::create_dir(dir)?;
        mount(Some(kind), dir, Some(kind), flags, Some(options)).with_context(|| format!("mount {dir}"))?;
    }
    mount(Some("sysfs"), "sys", Some("sysfs"), tight() | MsFlags::MS_RDONLY, None::<&str>)?;
    for (name, major, minor) in
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
    {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(format!("dev/{name}").as_str(), SFlag::S_IFCHR, mode, makedev(major, minor))?;
    }
    symlink("/proc/self/fd", "dev/fd")?;
    Ok(())
}

/// What a kernel lacks is left out.
fn paths() {
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    for path in ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"] {
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | tight();
        if mount(Some(path), path, None::<&str>, bind, None::<&str>).is_ok() {
            let _ = mount(None::<&str>, path, None::<&str>, read_only, None::<&str>);
        }
    }
    for path in ["proc/kcore", "proc/keys", "proc/timer_list", "proc/sched_debug"] {
        let _ = mount(Some("dev/null"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    }
    for path in ["proc/acpi", "proc/scsi", "sys/firmware"] {
        let _ = mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>);
    }
}
