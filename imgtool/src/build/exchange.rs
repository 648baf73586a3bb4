//! The build cache of other machines: `--cache-from` and `--cache-to`.
//!
//! A cache is an OCI artifact: its config lists what every step made by the step's key, its layers are those. An image
//! may carry the list of its own steps in its config (`inline`). Steps are found by their keys alone, so a cache can be
//! old or of another project without harm; a layer is fetched only when its step is asked for, and verified.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use contracts::fault;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cache::Made;
use crate::layer::pack::Packed;
use crate::place::layout::{LayoutSink, LayoutSource};
use crate::place::local::{LocalSink, LocalSource};
use crate::place::remote::{RemoteSink, RemoteSource};
use crate::place::{Sink, Source};
use crate::reference::Reference;
use crate::registry::{Client, Flags};
use crate::store::Store;
use crate::store::config::ImageConfig;
use crate::store::document::{Descriptor, Document, Kind, Manifest, OCI_MANIFEST};
use crate::store::lease::Lease;
use crate::transfer::progress::Progress;
use crate::transfer::{Options, Platforms, transfer};

/// Media type of the list of steps.
const LIST: &str = "application/vnd.bulkhead.buildcache.v1+json";
/// The key of an image config that holds the image's own steps.
pub const INLINE: &str = "bulkhead.buildcache.v1";
/// A list longer than this was not written by a build.
const LARGEST: u64 = 64 << 20;
/// Blobs at a time.
const JOBS: usize = 5;

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An OCI layout.
    Local(PathBuf, String),
    /// A registry.
    Registry(Reference),
    /// The image itself.
    Inline,
}

/// A cache to write.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where to.
    pub place: Place,
    /// Every step of every stage, not only those of the result.
    pub all: bool,
    /// A cache that cannot be written is only told of.
    pub ignore_error: bool,
}

/// The fields of `type=…,key=value,…`.
struct Fields<'a> {
    flag: &'a str,
    kind: String,
    rest: BTreeMap<String, String>,
}

impl<'a> Fields<'a> {
    fn parse(flag: &'a str, text: &str) -> Result<Self> {
        let mut fields = Self { flag, kind: "registry".into(), rest: BTreeMap::new() };
        if !text.contains('=') {
            fields.rest.insert("ref".into(), text.into());
            return Ok(fields);
        }
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("type", kind)) => fields.kind = kind.into(),
                Some((key, value)) => {
                    fields.rest.insert(key.into(), value.into());
                }
                None => fault!(Usage, "{flag} {text}: KEY=VALUE expected, not {field}"),
            }
        }
        Ok(fields)
    }

    fn take(&mut self, key: &str) -> Option<String> {
        self.rest.remove(key)
    }

    fn needed(&mut self, key: &str) -> Result<String> {
        match self.take(key) {
            Some(value) if !value.is_empty() => Ok(value),
            _ => fault!(Usage, "{} type={} needs {key}=", self.flag, self.kind),
        }
    }

    fn place(&mut self, directory: &str) -> Result<Place> {
        let flag = self.flag;
        match self.kind.as_str() {
            "local" => {
                let path = self.needed(directory)?.into();
                let tag = self.take("digest").or_else(|| self.take("tag"));
                Ok(Place::Local(path, tag.unwrap_or_else(|| "latest".into())))
            }
            "registry" => Ok(Place::Registry(self.needed("ref")?.parse::<Reference>()?.or_latest())),
            "inline" => Ok(Place::Inline),
            known @ ("gha" | "s3" | "azblob") => {
                fault!(Unsupported, "{flag} type={known} is not supported (local, registry, inline)")
            }
            other => fault!(Usage, "{flag} type={other} is not known (local, registry, inline)"),
        }
    }

    /// Nothing may be left that nobody has read.
    fn done(mut self) -> Result<()> {
        // What is always so here may be asked for.
        for key in ["image-manifest", "oci-mediatypes"] {
            if self.rest.get(key).is_some_and(|value| value == "true") {
                self.rest.remove(key);
            }
        }
        match self.rest.first_key_value() {
            Some((key, value)) => {
                fault!(Unsupported, "{} type={}: {key}={value} is not supported", self.flag, self.kind)
            }
            None => Ok(()),
        }
    }
}

/// Reads a `--cache-from`.
///
/// # Errors
/// A kind or a field that is not known.
pub fn source(text: &str) -> Result<Place> {
    let mut fields = Fields::parse("--cache-from", text)?;
    let place = fields.place("src")?;
    if place == Place::Inline {
        fault!(Usage, "--cache-from type=inline: name the image, type=registry,ref=NAME");
    }
    fields.done()?;
    Ok(place)
}

/// Reads a `--cache-to`.
///
/// # Errors
/// As [`source`].
pub fn target(text: &str) -> Result<Target> {
    let mut fields = Fields::parse("--cache-to", text)?;
    let place = fields.place("dest")?;
    let all = match fields.take("mode").as_deref() {
        None | Some("min") => false,
        Some("max") if place != Place::Inline => true,
        Some(other) => {
            fault!(Usage, "--cache-to: mode={other} is not possible here (min or max; inline is min)")
        }
    };
    let ignore_error = match fields.take("ignore-error").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => fault!(Usage, "--cache-to: ignore-error={other}: true or false expected"),
    };
    fields.done()?;
    Ok(Target { place, all, ignore_error })
}

/// What steps made, by their keys.
pub type Records = BTreeMap<String, Made>;

/// The list in a cache's config.
#[derive(Serialize, Deserialize)]
struct List {
    records: Records,
}

/// A step of an image that carries its own list.
#[derive(Serialize, Deserialize)]
struct Own {
    /// Which of the image's layers; `None` where the step changed nothing.
    layer: Option<usize>,
    created: String,
}

/// Caches to look into, in order.
#[derive(Default)]
pub struct Imported<'c> {
    caches: Vec<(Box<dyn Source + Send + 'c>, Records)>,
}

impl std::fmt::Debug for Imported<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} caches", self.caches.len())
    }
}

impl<'c> Imported<'c> {
    /// Reads the lists of `places`. One that is not there, or no cache, is told to `tell` and left out: a cache that is
    /// missing costs time, never the build.
    ///
    /// # Errors
    /// None in practice.
    pub fn open(client: &'c Client, places: &[Place], tell: &dyn Fn(&str)) -> Result<Self> {
        let mut caches = Vec::new();
        for place in places {
            match open_one(client, place) {
                Ok(Some(cache)) => caches.push(cache),
                Ok(None) => tell(&format!("WARN: cache {} lists no steps of this builder", title(place))),
                Err(err) => {
                    let why = contracts::report::one_line(&err);
                    tell(&format!("WARN: cache {} is not used: {why}", title(place)));
                }
            }
        }
        Ok(Self { caches })
    }

    /// What the step of `key` made, its layer fetched into the store under `lease`.
    ///
    /// # Errors
    /// A layer that is listed cannot be had.
    pub fn find(&self, store: &Store, lease: &Lease, key: &str) -> Result<Option<Made>> {
        for (source, records) in &self.caches {
            let Some(made) = records.get(key) else { continue };
            if let Some(layer) = &made.layer {
                lease.hold([&layer.blob.digest])?;
                let bar = Progress::new(true).bar(&layer.blob);
                LocalSink::new(store, lease, Vec::new(), None).put(&layer.blob, &**source, &bar)?;
            }
            return Ok(Some(made.clone()));
        }
        Ok(None)
    }
}

fn title(place: &Place) -> String {
    match place {
        Place::Local(path, _) => path.display().to_string(),
        Place::Registry(name) => name.familiar(),
        Place::Inline => "inline".into(),
    }
}

type Opened<'c> = (Box<dyn Source + Send + 'c>, Records);

fn open_one<'c>(client: &'c Client, place: &Place) -> Result<Option<Opened<'c>>> {
    let source: Box<dyn Source + Send + 'c> = match place {
        Place::Local(path, tag) => Box::new(LayoutSource::open(path, Some(tag))?),
        Place::Registry(name) => Box::new(RemoteSource::new(client, name)?),
        Place::Inline => return Ok(None),
    };
    let top = source.top()?;
    let manifests = match &top.kind {
        Kind::Manifest(manifest) => vec![manifest.clone()],
        Kind::Index(index) => {
            let images = index
                .manifests
                .iter()
                .filter(|entry| entry.platform.as_ref().is_none_or(|platform| platform.os != "unknown"));
            let manifest = |entry: &Descriptor| match source.document(entry)?.kind {
                Kind::Manifest(manifest) => Ok(manifest),
                Kind::Index(_) => fault!(Unsupported, "an index in an index"),
            };
            images.map(manifest).collect::<Result<_>>()?
        }
    };
    let mut records = Records::new();
    for manifest in &manifests {
        records.extend(listed(&*source, manifest)?);
    }
    Ok((!records.is_empty()).then_some((source, records)))
}

fn listed(source: &dyn Source, manifest: &Manifest) -> Result<Records> {
    let config = &manifest.config;
    if config.size > LARGEST {
        fault!(Unsupported, "its list of {} bytes is too long", config.size);
    }
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(source.blob(config, 0)?, LARGEST), &mut bytes)
        .context("read its list")?;
    if !config.digest.matches(&bytes) {
        fault!(Remote, "its list has the wrong content");
    }
    if config.media_type == LIST {
        let list: List = serde_json::from_slice(&bytes).context("parse its list")?;
        return Ok(list.records);
    }
    let config = ImageConfig::parse(&bytes)?;
    let Some(own) = config.extra.get(INLINE) else { return Ok(Records::new()) };
    let own: BTreeMap<String, Own> = serde_json::from_value(own.clone()).context("parse its list")?;
    let made = |own: Own| {
        let layer = match own.layer {
            None => None,
            Some(at) => {
                let (blob, diff_id) = (manifest.layers.get(at)?, config.rootfs.diff_ids.get(at)?);
                Some(Packed { diff_id: diff_id.clone(), blob: blob.clone(), bytes: blob.size })
            }
        };
        Some(Made::new(layer, own.created))
    };
    Ok(own.into_iter().filter_map(|(key, own)| Some((key, made(own)?))).collect())
}

/// What an image's config holds of its own steps: `layers` are the image's.
///
/// # Errors
/// None in practice.
pub fn inline(records: &Records, layers: &[(Descriptor, crate::store::digest::Digest)]) -> Result<Value> {
    let own = |made: &Made| {
        let place = |layer: &Packed| layers.iter().position(|(_, diff_id)| *diff_id == layer.diff_id);
        let layer = match &made.layer {
            Some(layer) => Some(place(layer)?),
            None => None,
        };
        Some(Own { layer, created: made.created.clone() })
    };
    let list: BTreeMap<&String, Own> =
        records.iter().filter_map(|(key, made)| Some((key, own(made)?))).collect();
    serde_json::to_value(list).context("encode the list of steps")
}

/// Writes a cache of `records`, whose layers are in the store under `lease`.
///
/// # Errors
/// The place cannot be written.
pub fn export(store: &Store, lease: &Lease, target: &Target, records: &Records, flags: &Flags) -> Result<()> {
    let mut layers: Vec<Descriptor> = Vec::new();
    for layer in records.values().filter_map(|made| made.layer.as_ref()) {
        if !layers.iter().any(|known| known.digest == layer.blob.digest) {
            layers.push(layer.blob.clone());
        }
    }
    let list = serde_json::to_vec(&List { records: records.clone() }).context("encode the list of steps")?;
    let digest = store.put_bytes(lease, &list)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.into(),
        artifact_type: None,
        config: Descriptor::new(LIST, digest, list.len() as u64),
        layers,
        subject: None,
        annotations: BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest).context("encode the cache's manifest")?;
    store.put_bytes(lease, &bytes)?;
    let document = Document::parse(bytes, None)?;
    let source = LocalSource::new(store, document.descriptor(), Vec::new());
    let options =
        Options { platforms: Platforms::All, jobs: JOBS, progress: Progress::new(true), repack: None };
    let written = match &target.place {
        Place::Local(path, tag) => transfer(&source, &LayoutSink::open(path, Some(tag))?, &options).map(drop),
        Place::Registry(name) => {
            let client = Client::new(store.paths(), flags)?;
            transfer(&source, &RemoteSink::new(&client, name)?, &options).map(drop)
        }
        // Written with the image.
        Place::Inline => Ok(()),
    };
    written.with_context(|| format!("write cache {}", title(&target.place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_others_named() {
        assert_eq!(source("type=local,src=/c").unwrap(), Place::Local("/c".into(), "latest".into()));
        assert_eq!(source("h:1/a:b").unwrap(), Place::Registry("h:1/a:b".parse().unwrap()));
        let to = target("type=registry,ref=h/a,mode=max,ignore-error=true,image-manifest=true").unwrap();
        assert!(to.all && to.ignore_error && to.place == Place::Registry("h/a:latest".parse().unwrap()));
        assert_eq!(target("type=inline").unwrap().place, Place::Inline);
        for (bad, why) in [
            ("type=gha", "type=gha"),
            ("type=s3,bucket=x", "type=s3"),
            ("type=local", "needs dest="),
            ("type=local,dest=/c,mode=mid", "mode=mid"),
            ("type=inline,mode=max", "mode=max"),
            ("type=local,dest=/c,compression=zstd", "compression=zstd"),
            ("type=zzz", "type=zzz"),
        ] {
            assert!(target(bad).unwrap_err().to_string().contains(why), "{bad}");
        }
    }
}
