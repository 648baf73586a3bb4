//! `linux.mountLabel`: the SELinux label of what is mounted anew for the container.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;

use sys::mount::Filesystem;

use crate::spec::document::Document;

/// The annotation that says as which mount option the label is meant; `context` without it.
pub const OPTION_ANNOTATION: &str = "run.oci.mount_context_type";
/// The mount options of SELinux (mount(8)).
pub const OPTIONS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// The label and the mount option that sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label<'a> {
    option: &'a str,
    value: &'a str,
}

impl<'a> Label<'a> {
    /// What `document` asks for.
    #[must_use]
    pub fn of(document: &'a Document) -> Option<Self> {
        let value = document.linux.mount_label.as_str();
        let option = document.annotations.get(OPTION_ANNOTATION).map_or(OPTIONS[0], String::as_str);
        (!value.is_empty()).then_some(Self { option, value })
    }

    /// Whether file systems of this kind take it as a mount option where `data` has it not yet. As runc: those of the
    /// kernel's own files have labels by its policy.
    fn is_for(self, kind: &str, data: &[String]) -> bool {
        let is_same = |item: &str| item.split_once('=').is_some_and(|(key, _)| key == self.option);
        !matches!(kind, "proc" | "sysfs" | "cgroup" | "cgroup2" | "mqueue")
            && !data.iter().flat_map(|data| items(data)).any(is_same)
    }

    /// Sets it on a new file system.
    ///
    /// # Errors
    /// The policy does not know the label.
    pub fn set(self, filesystem: &Filesystem, kind: &str, data: &[String]) -> io::Result<()> {
        if self.is_for(kind, data) { filesystem.set(self.option, self.value) } else { Ok(()) }
    }

    /// As [`Self::set`], as an item for `mount(2)`.
    #[must_use]
    pub fn item(self, kind: &str, data: &[String]) -> Option<String> {
        self.is_for(kind, data).then(|| format!("{}=\"{}\"", self.option, self.value))
    }

    /// Message queues take no mount option; their directory is labelled as a file is.
    ///
    /// # Errors
    /// The policy does not know the label, or lets nobody set one.
    pub fn mark(self, kind: &str, mount: &OwnedFd) -> io::Result<()> {
        if kind != "mqueue" {
            return Ok(());
        }
        sys::xattr::set(mount, OsStr::new("security.selinux"), self.value.as_bytes())
    }
}

/// The items of a list of mount options, which are separated by commas; a label in quotes may hold some.
pub fn items(data: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    data.split(move |letter| {
        quoted ^= letter == '"';
        letter == ',' && !quoted
    })
}

/// `value` of the option `key` as the kernel wants it alone: a label without its quotes.
#[must_use]
pub fn unquoted<'a>(key: &str, value: &'a str) -> &'a str {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    inner.filter(|_| OPTIONS.contains(&key)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_with_categories_stay_whole() {
        let list: Vec<&str> = items(r#"mode=755,context="u:r:t:s0:c1,c2",size=1k"#).collect();
        assert_eq!(list, ["mode=755", r#"context="u:r:t:s0:c1,c2""#, "size=1k"]);
        assert_eq!(unquoted("context", r#""u:r:t:s0:c1,c2""#), "u:r:t:s0:c1,c2");
        assert_eq!(unquoted("lowerdir", r#""a""#), r#""a""#);
        assert_eq!(unquoted("context", "\""), "\"");
    }

    #[test]
    fn a_label_is_set_once_and_where_it_can_be() {
        let label = Label { option: "context", value: "u:r:t:s0:c1,c2" };
        assert_eq!(label.item("tmpfs", &[]).unwrap(), r#"context="u:r:t:s0:c1,c2""#);
        assert_eq!(label.item("tmpfs", &["mode=1,context=x".into()]), None);
        assert!(label.item("tmpfs", &["fscontext=x".into()]).is_some());
        assert_eq!(label.item("proc", &[]), None);
    }

    #[test]
    fn the_option_is_the_annotations() {
        let document = |text: serde_json::Value| serde_json::from_value::<Document>(text).unwrap();
        assert_eq!(Label::of(&document(serde_json::json!({}))), None);
        let plain = document(serde_json::json!({ "linux": { "mountLabel": "x" } }));
        assert_eq!(Label::of(&plain), Some(Label { option: "context", value: "x" }));
        let other = document(serde_json::json!({
            "linux": { "mountLabel": "x" },
            "annotations": { OPTION_ANNOTATION: "rootcontext" },
        }));
        assert_eq!(Label::of(&other), Some(Label { option: "rootcontext", value: "x" }));
    }
}
