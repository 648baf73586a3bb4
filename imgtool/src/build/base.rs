//! What stages start from and copy from beside the context: images, named contexts, other stages.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};

use super::context::Context;
use super::dockerfile::instruction::{Copy, Stage};
use super::ignore::Ignore;
use super::provenance::Material;
use super::select::Tree;
use super::state::State;
use super::{Builder, fetch, graph};
use crate::obtain::{self, Wish};
use crate::place::layout::LayoutSource;
use crate::place::local::LocalSink;
use crate::place::{Sink, Source};
use crate::reference::Reference;
use crate::rootfs::view::View;
use crate::store::digest::Digest;
use crate::store::document::{Descriptor, Document, Platform};
use crate::store::image::Image;
use crate::transfer::progress::{Bar, Progress};
use crate::transfer::{Options, Platforms, transfer};

/// What a name stands for.
enum Meant<'a> {
    /// An image of a registry or the store.
    Image(&'a str),
    /// A directory with an image layout, and the image's name in it.
    Layout(&'a str),
    /// Files.
    Files(&'a str),
}

impl Builder<'_> {
    /// Where `stage` starts.
    ///
    /// # Errors
    /// The image cannot be had.
    pub(super) fn base(&self, index: usize, stage: &Stage, globals: &[(String, String)]) -> Result<State> {
        let name = self.base_name(stage, globals)?;
        let platform = match &stage.from.platform {
            Some(text) => {
                let text = self.word(text, globals).map_err(|why| self.place(stage.span, &why))?;
                text.parse().map_err(|err| self.place(stage.span, &format!("{err}")))?
            }
            None => self.options.platform.clone(),
        };
        if let Some(below) = graph::find(self.file, index, &name, false) {
            let below = self.results.wait(below).ok_or_else(|| anyhow!("stage {name} was not built"))?;
            return Ok(State::above(&below, self.file.escape));
        }
        if name == "scratch" && self.named("scratch").is_none() {
            return Ok(State::scratch(&platform, self.file.escape));
        }
        if let Some(Meant::Files(_)) = self.named(&name) {
            return self.of_files(index, &name, &platform);
        }
        let explicit = stage.from.platform.is_some() || self.options.platform != Platform::host();
        let wanted = Some(&platform).filter(|_| explicit);
        let image = self.image(&name, wanted).map_err(|err| self.placed(stage.span, &err))?;
        let own = image.config.platform();
        if (&own.os, &own.architecture) != (&platform.os, &platform.architecture) && !own.os.is_empty() {
            self.progress.note(&format!(
                "WARN: InvalidBaseImagePlatform: Base image {name} was pulled with platform \"{own}\", expected \
                 \"{platform}\" for current build (line {})",
                stage.span.first
            ));
        }
        let layers = image.layers()?;
        // Held before they are looked at: another command may collect garbage meanwhile.
        self.lease.hold(layers.iter().map(|(blob, _)| &blob.digest).chain([&image.id]))?;
        Ok(State::over(image.config, layers, self.file.escape))
    }

    /// A stage that starts from the files of a named context.
    fn of_files(&self, index: usize, name: &str, platform: &Platform) -> Result<State> {
        let mut state = State::scratch(platform, self.file.escape);
        let all = Copy {
            sources: vec!["/".into()],
            dest: "/".into(),
            from: Some(name.to_owned()),
            link: true,
            ..Copy::default()
        };
        let planned = self.plan_copy(&state, &all)?;
        let history = format!("FROM {name}");
        self.step(&mut state, (index, &planned.key, true), history, &|work| {
            self.place_files(&planned, work)
        })?;
        Ok(state)
    }

    /// What `--build-context` says of a name; `busybox` and `docker.io/library/busybox:latest` are one.
    fn named(&self, name: &str) -> Option<Meant<'_>> {
        let full = |text: &str| text.parse::<Reference>().ok().map(Reference::or_latest);
        let contexts = &self.options.contexts;
        let at = contexts.get(name).or_else(|| {
            let wanted = full(name)?;
            contexts.iter().find(|(known, _)| full(known).as_ref() == Some(&wanted)).map(|(_, at)| at)
        })?;
        Some(match (at.strip_prefix("docker-image://"), at.strip_prefix("oci-layout://")) {
            (Some(image), _) => Meant::Image(image),
            (None, Some(layout)) => Meant::Layout(layout),
            (None, None) => Meant::Files(at),
        })
    }

    /// The image that `name` means.
    fn image(&self, name: &str, platform: Option<&Platform>) -> Result<Image> {
        let image = match self.named(name) {
            Some(Meant::Layout(place)) => self.of_layout(place, platform)?,
            Some(Meant::Image(image)) => self.obtained(image, platform)?,
            _ => self.obtained(name, platform)?,
        };
        let known = image.repo_digests.iter().find_map(Reference::digest);
        let digest = known.unwrap_or(&image.document.digest);
        self.made_of(Material::image(name, &image.config.platform(), digest));
        Ok(image)
    }

    /// Notes what the build is made of.
    pub(super) fn made_of(&self, material: Material) {
        if let Ok(mut materials) = self.materials.lock() {
            materials.insert(material);
        }
    }

    /// Asked for once in a build, whatever the policy: all stages see the same image.
    fn obtained(&self, name: &str, platform: Option<&Platform>) -> Result<Image> {
        let key = format!("{name} {}", platform.map(ToString::to_string).unwrap_or_default());
        // Held while it is pulled: a second stage waits instead of pulling too.
        let mut images = self.images.lock().map_err(|_| anyhow!("a stage ended badly"))?;
        if let Some(image) = images.get(&key) {
            return Ok(image.clone());
        }
        let options = self.options;
        let image = obtain::image(
            self.store,
            &Wish { name, platform, policy: options.pull, flags: &options.registry, unpack: true },
        )?;
        images.insert(key, image.clone());
        Ok(image)
    }

    /// An image of a layout: `DIR[:TAG][@DIGEST]`.
    fn of_layout(&self, place: &str, platform: Option<&Platform>) -> Result<Image> {
        let (path, name) = match place.split_once('@') {
            Some((path, digest)) => (path, Some(digest)),
            None => match place.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
                Some((path, tag)) => (path, Some(tag)),
                None => (place, None),
            },
        };
        let path = path.split(':').next().unwrap_or_default();
        let source = LayoutSource::open(Path::new(path), name)?;
        let wanted = platform.cloned().unwrap_or_else(Platform::host);
        let options = Options {
            platforms: Platforms::One { platform: wanted.clone(), strict: platform.is_some() },
            jobs: 3,
            progress: Progress::new(true),
            repack: None,
        };
        let sink = Nameless(LocalSink::new(self.store, &self.lease, Vec::new(), None));
        let stored = transfer(&source, &sink, &options)?.stored;
        self.store.load(&stored.descriptor(), None, &wanted)
    }

    /// The tree that `from` names: a stage, a named context or an image; `None` is the context.
    ///
    /// # Errors
    /// There is no such thing.
    pub(super) fn tree(&self, from: Option<&str>) -> Result<Arc<Tree>> {
        let key = from.unwrap_or_default().to_ascii_lowercase();
        if let Some(tree) = self.trees.lock().ok().and_then(|trees| trees.get(&key).cloned()) {
            return Ok(tree);
        }
        let tree = Arc::new(match from {
            None => self.context.tree()?,
            Some(from) => self.other_tree(from).with_context(|| format!("--from={from}"))?,
        });
        if let Ok(mut trees) = self.trees.lock() {
            trees.insert(key, Arc::clone(&tree));
        }
        Ok(tree)
    }

    fn other_tree(&self, from: &str) -> Result<Tree> {
        if let Some(index) = graph::find(self.file, self.file.stages.len(), from, true) {
            let state = self.results.wait(index).with_context(|| format!("stage {from} was not built"))?;
            return self.view(&state.layers);
        }
        if let Some(Meant::Files(at)) = self.named(from) {
            if !fetch::is_remote(at) {
                return Context::directory(Path::new(at), None)?.tree();
            }
            let context = Context::remote(self.store, at, &self.options.registry)?;
            let tree = context.tree()?;
            if let (Some(work), Ok(mut views)) = (context.into_work(), self.views.lock()) {
                views.push(work);
            }
            return Ok(tree);
        }
        let image = self.image(from, None)?;
        let layers = image.layers()?;
        self.lease.hold(layers.iter().map(|(blob, _)| &blob.digest).chain([&image.id]))?;
        self.store.used(&image.id);
        self.view(&layers)
    }

    /// Mounts layers read-only for the rest of the build.
    fn view(&self, layers: &[(Descriptor, Digest)]) -> Result<Tree> {
        self.lease.hold(layers.iter().map(|(_, diff_id)| diff_id))?;
        let View { root, work } = View::open(self.store, &self.layers, layers)?;
        if let Ok(mut views) = self.views.lock() {
            views.push(work);
        }
        Ok(Tree { root, ignore: Ignore::default(), owners: true })
    }
}

/// The store, without an entry in its index: a lease holds what comes.
struct Nameless<'s>(LocalSink<'s>);

impl Sink for Nameless<'_> {
    fn announce(&self, blobs: &[Descriptor]) -> Result<()> {
        self.0.announce(blobs)
    }

    fn put(&self, descriptor: &Descriptor, source: &dyn Source, bar: &Bar) -> Result<()> {
        self.0.put(descriptor, source, bar)
    }

    fn put_document(&self, document: &Document, _top: bool) -> Result<()> {
        self.0.put_document(document, false)
    }
}
