//! Annotations with a meaning: crun's `run.oci.*`. What is asked for and cannot be done is refused, never passed over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use contracts::fault;

use super::document::Document;
use crate::hooks;
use crate::rootfs::label;

const PREFIX: &str = "run.oci.";
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";
const LISTENER: &str = "run.oci.seccomp.receiver";
const STRICT: &str = "run.oci.seccomp_fail_unknown_syscall";
const PIDFD: &str = "run.oci.pidfd_receiver";
const HOOKS_STDOUT: &str = "run.oci.hooks.stdout";
const HOOKS_STDERR: &str = "run.oci.hooks.stderr";
/// Each with the values that mean what we do anyway.
const REFUSED: [(&str, &[&str]); 6] = [
    ("run.oci.handler", &[]),
    ("run.oci.seccomp.plugins", &[]),
    ("run.oci.seccomp_bpf_data", &[]),
    ("run.oci.systemd.subgroup", &[""]),
    ("run.oci.systemd.force_cgroup_v1", &[]),
    ("run.oci.delegate-cgroup", &[]),
];

/// Changes the document as its annotations ask.
///
/// # Errors
/// A fault of kind `Unsupported` for what only crun does, of kind `Usage` for what nobody does.
pub fn apply(document: &mut Document) -> Result<()> {
    let Document { annotations, linux, process, .. } = document;
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
            PIDFD | HOOKS_STDOUT | HOOKS_STDERR => {
                absolute(name, value)?;
            }
            other => match REFUSED.iter().find(|(known, _)| *known == other) {
                Some((_, harmless)) if harmless.contains(&value.as_str()) => {}
                Some(_) => fault!(Unsupported, "annotation {name}={value} is not supported"),
                None => fault!(Usage, "annotation {name}: unknown"),
            },
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
        assert!(applied("run.oci.systemd.subgroup", "").is_ok());
        assert!(applied(label::OPTION_ANNOTATION, "rootcontext").is_ok());
        assert!(applied("org.example", "anything").is_ok());
        for (name, value) in [
            (STRICT, "1"),
            (LISTENER, "agent"),
            (PIDFD, "x"),
            (label::OPTION_ANNOTATION, "x"),
            ("run.oci.handler", "krun"),
            ("run.oci.systemd.subgroup", "x"),
            ("run.oci.nosuch", ""),
        ] {
            let err = applied(name, value).unwrap_err().to_string();
            assert!(err.contains(name), "{err}");
        }
    }
}
