//! How an image was made, as an in-toto statement (SLSA provenance 1) beside it: what BuildKit attaches.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use contracts::fault;
use serde_json::{Value, json};

use super::dockerfile::Source;
use crate::reference::Reference;
use crate::store::Store;
use crate::store::digest::Digest;
use crate::store::document::{Descriptor, Document, Manifest, OCI_CONFIG, OCI_MANIFEST, Platform};
use crate::store::lease::Lease;

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://slsa.dev/provenance/v1";
const BUILD_TYPE: &str = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
/// Media type of a statement.
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// How much to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// The Dockerfile and the values of build arguments too.
    pub all: bool,
    /// `builder-id`.
    pub builder: String,
    /// `reproducible`.
    pub reproducible: bool,
    /// No file beside exported files.
    pub inline_only: bool,
    /// Its name beside exported files.
    pub filename: Option<String>,
}

/// Reads `--provenance` or the rest of `--attest type=provenance`; `None` for no.
///
/// # Errors
/// An unknown field.
pub fn wish(text: &str) -> Result<Option<Wish>> {
    let mut wish = Wish { all: true, ..Wish::default() };
    for field in text.split(',').filter(|field| !field.is_empty()) {
        let switch = |value: &str| -> Result<bool> {
            match value {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => fault!(Usage, "provenance {field}: true or false expected"),
            }
        };
        match field.split_once('=') {
            None if field == "true" => wish.all = false,
            None if field == "false" => return Ok(None),
            Some(("mode", "min")) => wish.all = false,
            Some(("mode", "max")) => wish.all = true,
            Some(("builder-id", id)) => wish.builder = id.into(),
            Some(("reproducible", value)) => wish.reproducible = switch(value)?,
            Some(("inline-only", value)) => wish.inline_only = switch(value)?,
            Some(("filename", name)) => wish.filename = Some(name.into()),
            Some(("version", "v1")) => {}
            Some(("disabled", value)) => {
                if switch(value)? {
                    return Ok(None);
                }
            }
            _ => fault!(
                Usage,
                "provenance: {field} is not known (mode=min|max, version=v1, builder-id=, reproducible=, inline-only=, filename=)"
            ),
        }
    }
    Ok(Some(wish))
}

/// Something that the image was made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// `pkg:docker/…`, or an address.
    pub uri: String,
    /// `sha256`, `sha1`.
    pub algorithm: &'static str,
    /// Its digest.
    pub hex: String,
}

impl Material {
    /// A base image.
    #[must_use]
    pub fn image(name: &str, platform: &Platform, digest: &Digest) -> Self {
        let named = name.parse::<Reference>().map(Reference::or_latest);
        let name = named.map_or_else(
            |_| name.to_owned(),
            |name| format!("{}@{}", name.familiar_name(), name.tag().unwrap_or("latest")),
        );
        let platform = platform.to_string().replace('/', "%2F");
        let uri = format!("pkg:docker/{name}?platform={platform}");
        Self { uri, algorithm: "sha256", hex: digest.hex().into() }
    }
}

/// What a build tells of itself.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The Dockerfile.
    pub source: &'a Source,
    /// `--build-arg`, `--label`, `--target` and the like, as BuildKit names them.
    pub request: BTreeMap<String, String>,
    /// Ids of the secrets that were offered.
    pub secrets: Vec<String>,
    /// What it was made of.
    pub materials: BTreeSet<Material>,
    /// RFC 3339.
    pub started: String,
    /// RFC 3339.
    pub finished: String,
}

/// The statement about the image of `digest`.
#[must_use]
pub fn statement(
    facts: &Facts<'_>,
    wish: &Wish,
    names: &[Reference],
    subject: (&Digest, &Platform),
) -> Value {
    let (digest, platform) = subject;
    let encoded = platform.to_string().replace('/', "%2F");
    let subjects: Vec<Value> = if names.is_empty() {
        vec![json!({"name": "_", "digest": {"sha256": digest.hex()}})]
    } else {
        let name = |name: &Reference| {
            let tag = name.tag().unwrap_or("latest");
            format!("pkg:docker/{}@{tag}?platform={encoded}", name.familiar_name())
        };
        names.iter().map(|one| json!({"name": name(one), "digest": {"sha256": digest.hex()}})).collect()
    };
    let mut args = facts.request.clone();
    if !wish.all {
        args.retain(|key, _| !key.starts_with("build-arg:") && !key.starts_with("label:"));
    }
    let mut request = json!({
        "frontend": "dockerfile.v0", "args": args,
        "locals": [{"name": "context"}, {"name": "dockerfile"}],
    });
    let mut metadata = json!({});
    if wish.all {
        if !facts.secrets.is_empty() {
            request["secrets"] = facts.secrets.iter().map(|id| json!({"id": id, "optional": true})).collect();
        }
        metadata = json!({"source": {"infos": [{
            "filename": facts.source.name, "language": "Dockerfile",
            "data": contracts::base64::encode(facts.source.text.as_bytes()),
        }]}});
    }
    let materials: Vec<Value> = facts
        .materials
        .iter()
        .map(|one| json!({"uri": one.uri, "digest": {one.algorithm: one.hex}}))
        .collect();
    json!({
        "_type": STATEMENT,
        "predicateType": PREDICATE,
        "subject": subjects,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "configSource": {"path": facts.source.name},
                    "request": request,
                },
                "internalParameters": {"builderPlatform": Platform::host().to_string()},
                "resolvedDependencies": materials,
            },
            "runDetails": {
                "builder": {"id": wish.builder},
                "metadata": {
                    "invocationId": digest.short(),
                    "startedOn": facts.started,
                    "finishedOn": facts.finished,
                    "buildkit_reproducible": wish.reproducible,
                    "buildkit_completeness": {"request": wish.all, "resolvedDependencies": false},
                    "buildkit_metadata": metadata,
                },
            },
        },
    })
}

/// Stores a statement as the attestation of `image` and returns the index's entry for it.
///
/// # Errors
/// No space.
pub fn attach(
    store: &Store,
    lease: &Lease,
    image: &Digest,
    statement: &Value,
) -> Result<(Document, Descriptor)> {
    let bytes = serde_json::to_vec(statement).context("encode the provenance")?;
    let digest = store.put_bytes(lease, &bytes)?;
    let mut layer = Descriptor::new(IN_TOTO, digest.clone(), bytes.len() as u64);
    layer.annotations.insert("in-toto.io/predicate-type".into(), PREDICATE.into());
    // A config like an image's: registries and clients older than artifacts take it.
    let config = json!({
        "architecture": "unknown", "os": "unknown", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    });
    let config = serde_json::to_vec(&config).context("encode the attestation's config")?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.into(),
        artifact_type: None,
        config: Descriptor::new(OCI_CONFIG, store.put_bytes(lease, &config)?, config.len() as u64),
        layers: vec![layer],
        subject: None,
        annotations: BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest).context("encode the attestation's manifest")?;
    store.put_bytes(lease, &bytes)?;
    let document = Document::parse(bytes, None)?;
    let mut entry = document.descriptor();
    let unknown = || "unknown".to_owned();
    entry.platform = Some(Platform { architecture: unknown(), os: unknown(), ..Platform::default() });
    entry.annotations.insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
    entry.annotations.insert("vnd.docker.reference.digest".into(), image.to_string());
    Ok((document, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_tells_no_values() {
        let source = Source { name: "Dockerfile".into(), text: "FROM secret-base".into() };
        let request = [("build-arg:TOKEN", "hush"), ("target", "x")];
        let facts = Facts {
            source: &source,
            request: request.map(|(key, value)| (key.into(), value.into())).into(),
            secrets: vec!["id".into()],
            materials: [Material::image("busybox", &"linux/amd64".parse().unwrap(), &Digest::of(b"x"))]
                .into(),
            started: "a".into(),
            finished: "b".into(),
        };
        let told = |text: &str| {
            let wish = wish(text).unwrap().unwrap();
            let platform = "linux/amd64".parse().unwrap();
            statement(&facts, &wish, &["h/a:1".parse().unwrap()], (&Digest::of(b"y"), &platform)).to_string()
        };
        let (min, max) = (told("mode=min"), told("mode=max"));
        assert!(max.contains("hush") && !min.contains("hush") && min.contains("\"target\":\"x\""));
        assert!(min.contains("pkg:docker/busybox@latest?platform=linux%2Famd64"), "{min}");
        assert!(min.contains("pkg:docker/h/a@1?platform=linux%2Famd64"), "{min}");
        assert_eq!(wish("false").unwrap(), None);
        assert!(!wish("true").unwrap().unwrap().all && wish("").unwrap().unwrap().all);
        assert!(wish("mode=mid").is_err() && wish("nope=1").is_err());
    }
}
