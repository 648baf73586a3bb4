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
    /// `docker-daemon:NAME`: docker's engine.
    Engine(String),
}

impl Location {
    /// Reads `text` as a place where an image's name may stand too: `oci:1.0` is a name, `oci:./x` is not.
    ///
    /// # Errors
    /// It is a place that is written wrongly.
    pub fn beside_names(text: &str) -> Option<Result<Self, Fault>> {
        let (kind, rest) = text.split_once(':')?;
        let place = match kind {
            "docker" => rest.starts_with("//"),
            "docker-daemon" | "docker-archive" | "oci-archive" | "containers-storage" => true,
            // A tag has no slash.
            "oci" | "dir" => rest.contains('/') || rest == "." || rest == "..",
            _ => false,
        };
        place.then(|| text.parse())
    }

    /// Whether images pass through the store on their way from or to it.
    #[must_use]
    pub const fn through_store(&self) -> bool {
        matches!(self, Self::OciArchive(..) | Self::DockerArchive(..) | Self::Engine(_))
    }
}

impl FromStr for Location {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let wrong = |why: &str| {
            Fault::new(Kind::Usage, format!("invalid place \"{}\": {why}", text.escape_default()))
        };
        let kinds = "docker://NAME, store:NAME, oci:DIR[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME], dir:DIR or docker-daemon:NAME";
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
            "docker-daemon" if rest.starts_with("sha256:") => Self::Engine(rest.into()),
            "docker-daemon" => Self::Engine(rest.parse::<Reference>()?.or_latest().familiar()),
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
        for bad in ["", "web", "oci:", "docker:web", "docker://BAD", "ftp:x", "docker-daemon:"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse("docker-daemon:web").unwrap(), Location::Engine("web:latest".into()));
    }

    #[test]
    fn names_that_look_like_places() {
        for name in ["oci:1.0", "dir:latest", "docker:dind", "store:x", "localhost:5000/x", "web"] {
            assert!(Location::beside_names(name).is_none(), "{name}");
        }
        for place in ["oci:./x", "dir:/x", "docker://x", "docker-daemon:x", "oci-archive:x.tar"] {
            assert!(Location::beside_names(place).unwrap().is_ok(), "{place}");
        }
    }
}
