//! Image names as users write them: `[host[:port]/]path[:tag][@digest]`, with docker's defaults filled in.

use std::fmt;
use std::str::FromStr;

use contracts::fault::{Fault, Kind};

use crate::store::digest::Digest;

const HUB: &str = "docker.io";

/// A parsed image name. `web` is `docker.io/library/web`; a tag is only implied by [`Reference::or_latest`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Whether `text` names no registry, so that a configuration may say which.
    #[must_use]
    pub fn is_short(text: &str) -> bool {
        written_domain(text).is_none()
    }

    /// The registry, `docker.io` where none was written.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository inside the registry, `library/web`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was written.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was written.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `domain/path`.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// With the tag `latest` where neither tag nor digest was written.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".into());
        }
        self
    }

    /// The same repository by digest alone.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same path and tag in another registry.
    #[must_use]
    pub fn with_repository(&self, domain: &str, path: &str) -> Self {
        Self { domain: domain.into(), path: path.into(), ..self.clone() }
    }

    /// The name as docker shows it: `web:latest`, `127.0.0.1:5000/my/web:1`.
    #[must_use]
    pub fn familiar(&self) -> String {
        let mut out = self.familiar_name();
        if let Some(tag) = &self.tag {
            out.push(':');
            out.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            out.push_str(&format!("@{digest}"));
        }
        out
    }

    /// The repository as docker shows it, with its registry where that is not the hub.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.domain == HUB {
            // Only one part: `library/a/b` without its beginning would be another image, or one of the registry `a`.
            let short = self.path.strip_prefix("library/").filter(|rest| !rest.contains('/'));
            let short = short.unwrap_or(&self.path);
            // Alone these would name another registry's image, or an image's id.
            if written_domain(short).is_none() && !is_id(short) {
                return short.to_owned();
            }
        }
        self.repository()
    }

    /// What names the manifest in the registry's API: the digest if there is one, else the tag, else `latest`.
    #[must_use]
    pub fn manifest_name(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".into(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(out, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(out, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        parse(text).map_err(|why| {
            let shown: String = text.chars().take(300).flat_map(char::escape_default).collect();
            Fault::new(Kind::Usage, format!("invalid image name \"{shown}\": invalid reference format{why}"))
        })
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|err| format!(": {err}"))?)),
        None => (text, None),
    };
    // Only a colon after the last slash starts a tag; earlier ones belong to a port.
    let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[name_end..].find(':') {
        Some(colon) => (&rest[..name_end + colon], Some(&rest[name_end + colon + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag
        && !is_tag(tag)
    {
        return Err(String::new());
    }
    let (domain, path) = split_domain(name);
    if is_id(name) {
        return Err(": a name cannot be 64 hexadecimal digits".into());
    }
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!(": repository name ({path}) must be lowercase"));
    }
    if !is_domain(&domain) || !path.split('/').all(is_path_component) {
        return Err(String::new());
    }
    if domain.len() + 1 + path.len() > 255 {
        return Err(": repository name must not be more than 255 characters".into());
    }
    Ok(Reference { domain, path, tag: tag.map(Into::into), digest })
}

/// Docker's rule: the first component is a registry where it holds a dot or a colon or an upper-case letter, or is
/// `localhost`; else the name is the hub's.
fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = written_domain(name).unwrap_or((HUB, name));
    let domain = if domain == "index.docker.io" || domain == "registry-1.docker.io" { HUB } else { domain };
    let official = domain == HUB && !path.contains('/');
    (domain.to_owned(), if official { format!("library/{path}") } else { path.to_owned() })
}

fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn written_domain(name: &str) -> Option<(&str, &str)> {
    name.split_once('/').filter(|(first, _)| {
        *first == "localhost" || first.contains(['.', ':']) || first.chars().any(|c| c.is_ascii_uppercase())
    })
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rfind(':') {
        Some(colon) if !domain[colon..].contains(']') => (&domain[..colon], Some(&domain[colon + 1..])),
        _ => (domain, None),
    };
    let port_ok = port.is_none_or(|port| {
        !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host_ok = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|part| {
            let plain = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            !part.is_empty() && plain && !part.starts_with('-') && !part.ends_with('-')
        }),
    };
    port_ok && host_ok
}

/// Lower-case letters and digits, separated by one dot, one or two underscores, or any number of dashes.
fn is_path_component(part: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends_ok = bytes.first().is_some_and(|&byte| alphanumeric(byte))
        && bytes.last().is_some_and(|&byte| alphanumeric(byte));
    let separators_ok = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
    });
    ends_ok && separators_ok
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_names_the_same_image() {
        let id = format!("docker.io/library/{}", "0".repeat(64));
        for name in ["docker.io/quay.io/a", "docker.io/localhost/a", "docker.io/library/a.b", &id] {
            let name: Reference = name.parse().unwrap();
            assert_eq!(name.familiar().parse::<Reference>().unwrap(), name, "{}", name.familiar());
        }
    }

    #[test]
    fn defaults_are_dockers() {
        for (text, full, familiar) in [
            ("web", "docker.io/library/web:latest", "web:latest"),
            ("user/web:1", "docker.io/user/web:1", "user/web:1"),
            ("localhost/web", "localhost/web:latest", "localhost/web:latest"),
            ("127.0.0.1:5000/my/bb:1", "127.0.0.1:5000/my/bb:1", "127.0.0.1:5000/my/bb:1"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("a.b/c__d-e.f:T-1.x", "a.b/c__d-e.f:T-1.x", "a.b/c__d-e.f:T-1.x"),
            ("docker.io/library/a.b/c", "docker.io/library/a.b/c:latest", "library/a.b/c:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("sha256:1", "docker.io/library/sha256:1", "sha256:1"),
        ] {
            let parsed: Reference = text.parse().unwrap();
            let parsed = parsed.or_latest();
            assert_eq!((parsed.to_string().as_str(), parsed.familiar().as_str()), (full, familiar));
            assert_eq!(full.parse::<Reference>().unwrap(), parsed);
        }
        let digest = Digest::of(b"x");
        let both: Reference = format!("web:1@{digest}").parse().unwrap();
        assert_eq!((both.tag(), both.manifest_name()), (Some("1"), digest.to_string()));
    }

    #[test]
    fn wrong_names_say_what_is_wrong() {
        let text = |bad: &str| bad.parse::<Reference>().unwrap_err().to_string();
        assert!(text("BAD").ends_with("repository name (library/BAD) must be lowercase"));
        for bad in [
            "",
            "a:b:c",
            "a/",
            "/a",
            "a//b",
            "a..b",
            "a___b",
            "a:",
            "a@",
            "a@sha256:1",
            "-a",
            "a b",
            "..",
            "../x",
        ] {
            assert!(text(bad).contains("invalid reference format"), "{bad}");
        }
        assert!(text(&"a".repeat(64)).contains("64 hexadecimal"));
        assert!("a.b".parse::<Reference>().is_ok(), "no slash: not a registry");
    }

    proptest::proptest! {
        #[test]
        fn any_text_parses_or_fails_and_survives_a_round_trip(text in "\\PC{0,60}") {
            if let Ok(parsed) = text.parse::<Reference>() {
                assert_eq!(parsed.to_string().parse::<Reference>().unwrap(), parsed);
            }
        }
    }
}
