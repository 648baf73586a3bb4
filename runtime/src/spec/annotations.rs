//! Annotations with a meaning: crun's `run.oci.*`. What is asked for and cannot be done is refused, never passed over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use contracts::{base64, fault};

use super::document::{Document, Mount};
use super::seccomp::Seccomp;
use crate::cgroup::beneath;
use crate::hooks;
use crate::rootfs::label;

const PREFIX: &str = "run.oci.";
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";
const LISTENER: &str = "run.oci.seccomp.receiver";
const STRICT: &str = "run.oci.seccomp_fail_unknown_syscall";
const PIDFD: &str = "run.oci.pidfd_receiver";
const HOOKS_STDOUT: &str = "run.oci.hooks.stdout";
const HOOKS_STDERR: &str = "run.oci.hooks.stderr";
const PROGRAM: &str = "run.oci.seccomp_bpf_data";
/// What [`LISTENER`] says where the configuration does not.
const LISTENER_VARIABLE: &str = "RUN_OCI_SECCOMP_RECEIVER";
/// What only a program that loads libraries at run time can do.
const REFUSED: [&str; 2] = ["run.oci.handler", "run.oci.seccomp.plugins"];

/// Changes the document as its annotations ask.
///
/// # Errors
/// A fault of kind `Unsupported` for what only crun does, of kind `Usage` for what nobody does.
pub fn apply(document: &mut Document) -> Result<()> {
    let Document { annotations, linux, process, mounts, .. } = document;
    // First: another says who listens to it.
    if let Some(text) = annotations.get(PROGRAM) {
        let Some(bytes) = base64::decode(text) else { fault!(Usage, "annotation {PROGRAM}: not base64") };
        let profile = linux.seccomp.get_or_insert_with(Seccomp::empty);
        profile.program = Some(bytes);
        profile.syscalls.clear();
    }
    if let (Some(path), None, Some(profile)) =
        (std::env::var_os(LISTENER_VARIABLE), annotations.get(LISTENER), &mut linux.seccomp)
    {
        profile.listener_path = absolute(LISTENER_VARIABLE, &path.to_string_lossy())?.to_owned();
    }
    for (name, value) in annotations.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        match name.as_str() {
            KEEP_GROUPS => {
                if let Some(process) = process {
                    process.user.keep_groups = true;
                }
            }
            LISTENER => {
                let path = absolute(name, value)?;
                if let Some(profile) = &mut linux.seccomp {
                    profile.listener_path = path.to_owned();
                }
            }
            STRICT => {
                if let Some(unknown) = linux
                    .seccomp
                    .iter()
                    .flat_map(|profile| &profile.syscalls)
                    .find_map(|rule| rule.names.unknown.as_ref())
                {
                    fault!(Usage, "linux.seccomp: unknown system call {unknown:?} ({STRICT})");
                }
            }
            label::OPTION_ANNOTATION => {
                if !label::OPTIONS.contains(&value.as_str()) {
                    fault!(Usage, "annotation {name}: {value:?} is none of {}", label::OPTIONS.join(", "));
                }
            }
            beneath::SUBGROUP | beneath::DELEGATED => {
                if !beneath::is_below(value) {
                    fault!(Usage, "annotation {name}: {value:?} leads out of the container's cgroup");
                }
            }
            beneath::SYSTEMD_V1 => {
                let path = absolute(name, value)?;
                if !mounts.iter().any(|mount| mount.destination == path) {
                    fault!(Usage, "annotation {name}: no mount has the destination {value:?}");
                }
            }
            PROGRAM => {}
            PIDFD | HOOKS_STDOUT | HOOKS_STDERR => {
                absolute(name, value)?;
            }
            other if REFUSED.contains(&other) => {
                fault!(
                    Unsupported,
                    "annotation {name}: {value:?} is not supported: it is a library, and a static program loads none"
                );
            }
            _ => fault!(Usage, "annotation {name}: unknown"),
        }
    }
    redirect_hooks(annotations)
}

/// Sends what hooks print to the files that the annotations name.
///
/// # Errors
/// One cannot be opened.
pub fn redirect_hooks(annotations: &BTreeMap<String, String>) -> Result<()> {
    let file = |name: &str| annotations.get(name).map(Path::new);
    hooks::redirect(file(HOOKS_STDOUT), file(HOOKS_STDERR))
}

/// The socket that is to get a pidfd of the first process.
#[must_use]
pub fn pidfd_receiver(document: &Document) -> Option<PathBuf> {
    document.annotations.get(PIDFD).map(PathBuf::from)
}

/// Whether a mount is to be systemd's own hierarchy of version 1 in place of what it says.
#[must_use]
pub fn shows_systemd_v1(document: &Document, mount: &Mount) -> bool {
    let place = document.annotations.get(beneath::SYSTEMD_V1).map(Path::new);
    place == Some(&mount.destination)
}

fn absolute<'a>(name: &str, value: &'a str) -> Result<&'a Path> {
    let path = Path::new(value);
    if !path.is_absolute() {
        fault!(Usage, "annotation {name}: {value:?} is not an absolute path");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(name: &str, value: &str) -> Result<Document> {
        let text = serde_json::json!({
            "annotations": { name: value },
            "process": { "args": ["x"], "cwd": "/" },
            "linux": { "seccomp": { "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["nosuch7"], "action": "SCMP_ACT_KILL" }] } },
        });
        let mut document = serde_json::from_value(text).unwrap();
        apply(&mut document).map(|()| document)
    }

    #[test]
    fn what_is_asked_is_done_or_refused() {
        assert!(applied(KEEP_GROUPS, "1").unwrap().process.unwrap().user.keep_groups);
        let listener = applied(LISTENER, "/run/agent").unwrap().linux.seccomp.unwrap();
        assert_eq!(listener.listener_path, Path::new("/run/agent"));
        assert!(applied(beneath::SUBGROUP, "").is_ok());
        assert!(applied(beneath::DELEGATED, "a/b").is_ok());
        let given = applied(PROGRAM, "BgAAAAAA/38=").unwrap().linux.seccomp.unwrap();
        assert_eq!((given.program.unwrap().len(), given.syscalls.len()), (8, 0));
        assert!(applied(label::OPTION_ANNOTATION, "rootcontext").is_ok());
        assert!(applied("org.example", "anything").is_ok());
        for (name, value) in [
            (STRICT, "1"),
            (LISTENER, "agent"),
            (PIDFD, "x"),
            (label::OPTION_ANNOTATION, "x"),
            ("run.oci.handler", "krun"),
            (beneath::SUBGROUP, "../x"),
            (beneath::DELEGATED, "x/../.."),
            (beneath::SYSTEMD_V1, "/nowhere"),
            (PROGRAM, "?"),
            ("run.oci.seccomp.plugins", "x.so"),
            ("run.oci.nosuch", ""),
        ] {
            let err = applied(name, value).unwrap_err().to_string();
            assert!(err.contains(name), "{err}");
        }
    }
}
