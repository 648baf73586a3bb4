//! Building images from Dockerfiles.
//!
//! `dockerfile/` reads the language and `lint/` what could be better, `graph` decides which stages are needed, `stage`
//! does them (several at once), each step on an overlay of what is below it; `cache` remembers what a step made by all
//! that it depends on, `exchange` shares that with other machines. `product` makes an image of the result, `export`
//! writes it.

pub mod annotation;
mod base;
pub mod cache;
pub mod change;
mod chmod;
pub mod context;
mod copy;
mod directories;
pub mod dockerfile;
pub mod exchange;
pub mod export;
pub mod fetch;
pub mod git;
mod glob;
mod graph;
mod ignore;
pub mod limits;
pub mod lint;
mod live;
mod mounting;
mod mounts;
mod network;
pub mod outline;
pub mod output;
pub mod product;
pub mod progress;
pub mod provenance;
mod run;
mod select;
mod source;
mod stage;
mod state;
mod stubs;
pub mod sweep;
pub mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail};
use contracts::fault;
use serde_json::json;

use crate::layer::extracted::Layers;
use crate::obtain::Policy;
use crate::registry::Flags;
use crate::store::Store;
use crate::store::digest::Digest;
use crate::store::document::{Descriptor, Document, Platform};
use crate::store::image::Image;
use crate::store::lease::Lease;
use context::Context;
use dockerfile::instruction::Dockerfile;
use dockerfile::{Source, Wrong, parse};
use exchange::{Imported, Records};
use limits::Limits;
use progress::Progress;
use provenance::Material;
use stage::Results;
use state::State;

/// Everything a build is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--build-arg`, in order.
    pub build_args: Vec<(String, String)>,
    /// `--target`.
    pub target: Option<String>,
    /// `--label`.
    pub labels: Vec<(String, String)>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`: stages.
    pub no_cache_filter: Vec<String>,
    /// `--network` of RUN steps that say nothing: `none`, `host` or `default`.
    pub network: String,
    /// `--add-host`: names and addresses.
    pub hosts: Vec<(String, String)>,
    /// What RUN steps may use.
    pub limits: Limits,
    /// `--secret` by id.
    pub secrets: BTreeMap<String, Secret>,
    /// `--ssh`: sockets by id.
    pub ssh: BTreeMap<String, PathBuf>,
    /// `--build-context` by name.
    pub contexts: BTreeMap<String, String>,
    /// `--allow`.
    pub allow: Vec<String>,
    /// `--pull`.
    pub pull: Policy,
    /// The platform of the image.
    pub platform: Platform,
    /// SOURCE_DATE_EPOCH, in seconds.
    pub epoch: Option<i64>,
    /// No file of a layer is newer than `epoch`.
    pub rewrite: bool,
    /// The image's config lists its own steps: `--cache-to type=inline`.
    pub inline: bool,
    /// `--annotation`.
    pub annotations: Vec<annotation::Annotation>,
    /// How to talk to registries.
    pub registry: Flags,
}

/// Where a secret comes from.
#[derive(Debug, Clone)]
pub enum Secret {
    /// A file of the host.
    File(PathBuf),
    /// A variable of our environment.
    Env(String),
}

impl Secret {
    /// Its content; at most 500 KiB, as BuildKit has it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self) -> Result<Vec<u8>> {
        let bytes = match self {
            Self::File(path) => fs::read(path).with_context(|| format!("read {}", path.display()))?,
            Self::Env(name) => match std::env::var_os(name) {
                Some(value) => std::os::unix::ffi::OsStringExt::into_vec(value),
                None => fault!(NotFound, "environment variable {name} is not set"),
            },
        };
        anyhow::ensure!(bytes.len() <= 500 << 10, "a secret of {} bytes is larger than 500 KiB", bytes.len());
        Ok(bytes)
    }
}

/// A running build.
pub struct Builder<'a> {
    store: &'a Store,
    layers: Layers,
    lease: Lease,
    options: &'a Options,
    context: &'a Context,
    file: &'a Dockerfile,
    source: &'a Source,
    progress: &'a Progress,
    results: Results,
    /// Caches of other machines.
    imported: &'a Imported<'a>,
    /// What every step made, for the cache of others.
    records: Mutex<Records>,
    materials: Mutex<BTreeSet<Material>>,
    /// Images by name and platform, as they were when the build asked first.
    images: Mutex<BTreeMap<String, Image>>,
    trees: Mutex<BTreeMap<String, Arc<select::Tree>>>,
    /// Mount points of other stages and images that are read from.
    views: Mutex<Vec<work::Work>>,
    used_args: Mutex<Vec<String>>,
    /// Up once the first RUN asked; `None` inside where it could not be.
    network: std::sync::OnceLock<Option<network::Network>>,
}

/// What a build made: a config and layers in the store, held by a lease, without a name yet.
pub struct Built {
    state: State,
    _lease: Lease,
    inline: bool,
    /// What every step made, the stages that the result only copies from included.
    pub all_records: Records,
    /// What it was made of.
    pub materials: BTreeSet<Material>,
    /// RFC 3339.
    pub started: String,
    /// RFC 3339.
    pub finished: String,
}

/// Reads a Dockerfile; what is wrong with it is shown with its lines.
///
/// # Errors
/// It does not parse.
pub fn read(source: &Source, progress: &Progress) -> Result<Dockerfile> {
    match parse::dockerfile(&source.text) {
        Ok(file) => Ok(file),
        Err(wrong) => Err(explain(source, progress, &wrong)),
    }
}

fn explain(source: &Source, progress: &Progress, wrong: &Wrong) -> anyhow::Error {
    progress.note(&source.excerpt(wrong));
    let message = format!("dockerfile parse error on line {}: {}", wrong.span.first, wrong.message);
    contracts::fault::Fault::new(contracts::fault::Kind::Usage, message).into()
}

/// Builds the target stage of `file`.
///
/// # Errors
/// The first step that fails.
pub fn build(
    store: &Store,
    options: &Options,
    context: &Context,
    (source, file): (&Source, &Dockerfile),
    (imported, progress): (&Imported<'_>, &Progress),
) -> Result<Built> {
    let started = jiff::Timestamp::now().to_string();
    sweep::sweep(store.paths())?;
    let target = graph::target(file, options.target.as_deref())?;
    let builder = Builder {
        store,
        layers: Layers::open(store.paths())?,
        lease: store.lease()?,
        options,
        context,
        file,
        source,
        progress,
        results: Results::new(file.stages.len()),
        imported,
        records: Mutex::default(),
        materials: Mutex::default(),
        images: Mutex::default(),
        trees: Mutex::default(),
        views: Mutex::default(),
        used_args: Mutex::default(),
        network: std::sync::OnceLock::new(),
    };
    let mut state = builder.stages(target)?;
    builder.warn_unused();
    for (key, value) in &options.labels {
        let labels = state.config.config.entry("Labels").or_insert_with(|| json!({}));
        if !labels.is_object() {
            *labels = json!({});
        }
        labels[key] = json!(value);
    }
    Ok(Built {
        state,
        inline: options.inline,
        all_records: builder.records.into_inner().unwrap_or_default(),
        materials: builder.materials.into_inner().unwrap_or_default(),
        _lease: builder.lease,
        started,
        finished: jiff::Timestamp::now().to_string(),
    })
}

impl Builder<'_> {
    fn warn_unused(&self) {
        let used = self.used_args.lock().map(|used| used.clone()).unwrap_or_default();
        let unused: Vec<&str> = self
            .options
            .build_args
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !used.iter().any(|known| known == name) && !stage::is_predefined(name))
            .collect();
        if !unused.is_empty() {
            self.progress
                .note(&format!("[Warning] One or more build-args [{}] were not consumed", unused.join(" ")));
        }
    }
}

impl Built {
    /// The finished image config.
    ///
    /// # Errors
    /// None in practice.
    pub fn config(&self) -> Result<Vec<u8>> {
        let mut config = self.state.config.clone();
        config.rootfs.kind = "layers".into();
        config.rootfs.diff_ids = self.state.layers.iter().map(|(_, diff_id)| diff_id.clone()).collect();
        config.created = self.state.time.clone().or(config.created);
        // What a base image says of itself is not of this one.
        config.extra.remove(exchange::INLINE);
        if self.inline {
            let list = exchange::inline(&self.state.records, &self.state.layers)?;
            config.extra.insert(exchange::INLINE.into(), list);
        }
        config.to_bytes()
    }

    /// The image's manifest, in the store under `lease` only.
    ///
    /// # Errors
    /// No space.
    pub fn document(&self, store: &Store, lease: &Lease) -> Result<Document> {
        let layers: Vec<Descriptor> = self.state.layers.iter().map(|(blob, _)| blob.clone()).collect();
        lease.hold(layers.iter().map(|layer| &layer.digest))?;
        Ok(store.put_image(lease, &self.config()?, layers)?.0)
    }

    /// Its layers, lowest first.
    #[must_use]
    pub fn layers(&self) -> &[(Descriptor, Digest)] {
        &self.state.layers
    }

    /// How many of them come from its base image.
    #[must_use]
    pub const fn base_layers(&self) -> usize {
        self.state.base_layers
    }

    /// What the steps made that it consists of.
    #[must_use]
    pub const fn records(&self) -> &Records {
        &self.state.records
    }

    /// Which machines it is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        self.state.config.platform()
    }
}

/// Seconds since 1970 as RFC 3339.
///
/// # Errors
/// Out of range.
pub fn rfc3339(seconds: i64) -> Result<String> {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => Ok(time.to_string()),
        Err(_) => bail!("{seconds} is no time"),
    }
}
