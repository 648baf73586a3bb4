//! Places as users write them: `docker://host/name:tag`, `oci:DIR:NAME`, `docker-archive:FILE`, …

use std::path::PathBuf;
use std::str::FromStr;

use contracts::fault::{Fault, Kind};

use crate::reference::Reference;

/// A place of `copy` and of the verbs that take places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `docker://NAME`.
    Registry(Reference),
    /// `store:NAME` (also skopeo's `containers-storage:NAME`): our own store.
    Store(String),
    /// `oci:DIR[:NAME]`.
    Layout(PathBuf, Option<String>),
    /// `oci-archive:FILE[:NAME]`; `-` is stdin or stdout.
    OciArchive(PathBuf, Option<String>),
    /// `docker-archive:FILE[:NAME]`.
    DockerArchive(PathBuf, Option<String>),
    /// `dir:DIR`.
    Dir(PathBuf),
}

impl FromStr for Location {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let wrong = |why: &str| {
            Fault::new(Kind::Usage, format!("invalid place \"{}\": {why}", text.escape_default()))
        };
        let kinds = "docker://NAME, store:NAME, oci:DIR[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME] or dir:DIR";
        let Some((kind, rest)) = text.split_once(':') else {
            return Err(wrong(&format!("{kinds} expected")));
        };
        if rest.is_empty() {
            return Err(wrong("nothing after the colon"));
        }
        let file = || {
            let (path, name) = rest.split_once(':').map_or((rest, None), |(path, name)| (path, Some(name)));
            (PathBuf::from(path), name.filter(|name| !name.is_empty()).map(Into::into))
        };
        Ok(match kind {
            "docker" => match rest.strip_prefix("//") {
                Some(name) => Self::Registry(name.parse::<Reference>()?.or_latest()),
                None => return Err(wrong("docker://NAME expected")),
            },
            "store" | "containers-storage" => Self::Store(rest.into()),
            "oci" => {
                let (path, name) = file();
                Self::Layout(path, name)
            }
            "oci-archive" => {
                let (path, name) = file();
                Self::OciArchive(path, name)
            }
            "docker-archive" => {
                let (path, name) = file();
                Self::DockerArchive(path, name)
            }
            "dir" => Self::Dir(rest.into()),
            "docker-daemon" => {
                return Err(wrong("there is no daemon here; use `docker save | imgtool load`"));
            }
            _ => return Err(wrong(&format!("{kinds} expected"))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let parse = |text: &str| text.parse::<Location>();
        assert_eq!(
            parse("docker://a/b").unwrap(),
            Location::Registry("docker.io/a/b:latest".parse().unwrap())
        );
        assert_eq!(
            parse("oci:/x/y:docker.io/a:1").unwrap(),
            Location::Layout("/x/y".into(), Some("docker.io/a:1".into()))
        );
        assert_eq!(parse("docker-archive:-").unwrap(), Location::DockerArchive("-".into(), None));
        for bad in ["", "web", "oci:", "docker:web", "docker://BAD", "ftp:x", "docker-daemon:x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
