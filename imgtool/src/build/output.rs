//! `--output`: what becomes of a finished build, as users write it.

use std::str::FromStr;

use anyhow::Result;
use contracts::fault;

use super::annotation::Annotation;
use crate::reference::Reference;
use crate::transfer::compress::{Format, Wish};

/// What is made of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its files in a directory.
    Local,
    /// Its files in an archive.
    Tar,
    /// The image in an OCI archive, or a layout.
    Oci,
    /// The image in an archive in docker's form; without a destination, in the store.
    Docker,
    /// The image in the store.
    Image,
    /// The image in a registry.
    Registry,
}

/// `--output`.
#[derive(Debug, Clone)]
pub struct Output {
    /// What.
    pub kind: Kind,
    /// Where; `-` is stdout.
    pub dest: Option<String>,
    /// Names beside those of `--tag`.
    pub names: Vec<Reference>,
    /// Push an image that goes to the store.
    pub push: bool,
    /// Registries without TLS, or whose certificate nobody knows.
    pub insecure: bool,
    /// How to pack the layers that the build made, or all with `force`.
    pub packing: Option<Wish>,
    /// Clamp the files' times to SOURCE_DATE_EPOCH; `None` for where it is set.
    pub rewrite: Option<bool>,
    /// Notes.
    pub annotations: Vec<Annotation>,
    /// An archive, not a layout.
    pub tar: bool,
    /// A directory for each platform; `None` for where there are several.
    pub split: Option<bool>,
}

impl Output {
    /// An output without options.
    #[must_use]
    pub fn new(kind: Kind, dest: Option<&str>) -> Self {
        Self {
            kind,
            dest: dest.map(str::to_owned),
            names: Vec::new(),
            push: kind == Kind::Registry,
            insecure: false,
            packing: None,
            rewrite: None,
            annotations: Vec::new(),
            tar: true,
            split: None,
        }
    }
}

impl FromStr for Output {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if !text.contains('=') {
            let kind = if text == "-" { Kind::Tar } else { Kind::Local };
            return Ok(Self::new(kind, Some(text)));
        }
        let fields = fields(text)?;
        let kind = fields.iter().find(|(key, _)| key == "type").map(|(_, value)| value.as_str());
        let kind = match kind {
            Some("local") => Kind::Local,
            Some("tar") => Kind::Tar,
            Some("oci") => Kind::Oci,
            Some("docker") => Kind::Docker,
            Some("image") => Kind::Image,
            Some("registry") => Kind::Registry,
            Some("cacheonly") => {
                fault!(Unsupported, "--output type=cacheonly: a build without names is all that it is")
            }
            Some(other) => {
                fault!(Usage, "--output type={other} is not known (local, tar, oci, docker, image, registry)")
            }
            None => fault!(Usage, "--output needs type="),
        };
        let mut output = Self::new(kind, None);
        let (mut force, mut level, mut format) = (false, None, None);
        for (key, value) in fields {
            match key.as_str() {
                "type" => {}
                "dest" => output.dest = Some(value),
                "name" => {
                    for name in value.split(',').filter(|name| !name.is_empty()) {
                        output.names.push(name.parse::<Reference>()?.or_latest());
                    }
                }
                "push" => output.push = switch(&key, &value)?,
                "registry.insecure" => output.insecure = switch(&key, &value)?,
                "force-compression" => force = switch(&key, &value)?,
                "compression-level" => match value.parse() {
                    Ok(number) => level = Some(number),
                    Err(_) => fault!(Usage, "--output: compression-level={value} is no number"),
                },
                "compression" => match value.as_str() {
                    "gzip" => format = Some(Format::Gzip),
                    "zstd" => format = Some(Format::Zstd),
                    other => {
                        fault!(Unsupported, "--output: compression={other} is not supported (gzip, zstd)")
                    }
                },
                "rewrite-timestamp" => output.rewrite = Some(switch(&key, &value)?),
                "tar" => output.tar = switch(&key, &value)?,
                "platform-split" => output.split = Some(switch(&key, &value)?),
                // What is always so here may be asked for.
                "oci-mediatypes" | "store" if switch(&key, &value)? => {}
                key => output.annotations.push(annotation(key, &value)?),
            }
        }
        if format.is_some() || force || level.is_some() {
            output.packing = Some(Wish { format: format.unwrap_or(Format::Gzip), level, force });
        }
        output.check()
    }
}

impl Output {
    fn check(self) -> Result<Self> {
        match self.kind {
            Kind::Local if self.dest.is_none() => fault!(Usage, "--output type=local needs dest="),
            Kind::Image | Kind::Registry if self.dest.is_some() => {
                fault!(Usage, "--output: dest= is for local, tar, oci and docker")
            }
            Kind::Local | Kind::Tar | Kind::Oci | Kind::Docker if self.push => {
                fault!(Usage, "--output: push= is for image and registry")
            }
            Kind::Oci if !self.tar && self.dest.as_deref().is_none_or(|dest| dest == "-") => {
                fault!(Usage, "--output: tar=false needs a directory, dest=")
            }
            kind if !self.tar && kind != Kind::Oci => fault!(Usage, "--output: tar=false is for type=oci"),
            _ => Ok(self),
        }
    }
}

/// `annotation.KEY`, `annotation-index.KEY`, `annotation[PLATFORM].KEY` …
fn annotation(key: &str, value: &str) -> Result<Annotation> {
    let unknown = || {
        contracts::fault::Fault::new(
            contracts::fault::Kind::Usage,
            format!("--output: unknown field {key}={value}"),
        )
    };
    let rest = key.strip_prefix("annotation").ok_or_else(unknown)?;
    let (place, name) = match rest.find("].").map(|at| at + 1).or_else(|| rest.find('.')) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => return Err(unknown().into()),
    };
    let level = match place.strip_prefix('-') {
        Some(level) => level.to_owned(),
        None => format!("manifest{place}"),
    };
    format!("{level}:{name}={value}").parse()
}

fn switch(key: &str, value: &str) -> Result<bool> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => fault!(Usage, "--output: {key}={value}: true or false expected"),
    }
}

/// The fields of a line of comma-separated values, where quotes hold commas together (`"name=a,b"`).
fn fields(text: &str) -> Result<Vec<(String, String)>> {
    let (mut all, mut field, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    all.push(field);
    let pair = |field: String| match field.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_ascii_lowercase(), value.to_owned())),
        // `push` alone means yes.
        None if field == "push" => Ok((field, "true".into())),
        None => fault!(Usage, "--output: KEY=VALUE expected, not {field}"),
    };
    all.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_buildxs() {
        let parse = |text: &str| text.parse::<Output>();
        assert_eq!(parse("out").unwrap().kind, Kind::Local);
        assert_eq!(parse("-").unwrap().kind, Kind::Tar);
        let image = parse("type=image,\"name=a,h/b:1\",push=true,compression=zstd,annotation.k=v").unwrap();
        assert!(image.push && image.names.len() == 2 && image.annotations.len() == 1);
        assert!(image.packing.is_some_and(|wish| wish.format == Format::Zstd && !wish.force));
        assert!(parse("type=registry").unwrap().push);
        assert_eq!(
            parse("type=oci,annotation-index.a.b=c").unwrap().annotations[0],
            "index:a.b=c".parse().unwrap()
        );
        for bad in [
            "type=local",
            "type=x",
            "dest=a",
            "type=tar,zzz=1",
            "type=image,compression=estargz",
            "type=tar,push=true",
            "type=oci,tar=false",
            "type=image,oci-mediatypes=false",
            "type=image,dest=x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
