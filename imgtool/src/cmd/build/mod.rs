//! `imgtool build`: an image from a Dockerfile.

mod args;
mod call;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::fault;
use serde_json::json;

pub use self::args::Args;
use self::call::Call;
use crate::build::context::{self, Context};
use crate::build::dockerfile::Source;
use crate::build::exchange::{self, Imported, Place, Target};
use crate::build::export::{self, Told};
use crate::build::fetch;
use crate::build::output::{Kind, Output};
use crate::build::product::{self, Finish, Product};
use crate::build::progress::{Mode, Progress};
use crate::build::provenance::{self, Facts, Wish};
use crate::build::{self, Built, Options, work};
use crate::reference::Reference;
use crate::registry::Client;
use crate::stdout;
use crate::store::Store;
use crate::store::lease::Lease;

/// Runs the verb.
///
/// # Errors
/// The Dockerfile is wrong, a step fails, a base image is missing.
pub fn run(args: &Args) -> Result<Exit> {
    // First of all: threads started later inherit it.
    work::enter_private_mounts()?;
    let store = super::open_store()?;
    let progress = Progress::new(if args.quiet { Mode::Quiet } else { args.progress });
    let tags = tags(args)?;
    let mut options = values::options(args)?;
    let wish = values::attestation(args)?;
    let call = if args.check { Call::Check { json: false } } else { args.call.parse()? };
    let outputs = outputs(args);
    let targets: Vec<Target> =
        args.cache_to.iter().map(|text| exchange::target(text)).collect::<Result<_>>()?;
    options.inline = targets.iter().any(|target| target.place == Place::Inline);
    let sources: Vec<Place> =
        args.cache_from.iter().map(|text| exchange::source(text)).collect::<Result<_>>()?;
    let (mut context, source) = open_context(args, &store)?;
    if let Some(path) = &args.ignorefile {
        context.ignore_as(path)?;
    }
    let file = build::read(&source, &progress)?;
    if let Some(exit) = call::answer(&call, &store, (&source, &file), &context, &options)? {
        return Ok(exit);
    }
    call::warn(&store, &file, &context, &options, &progress)?;
    let client = Client::new(store.paths(), &options.registry)?;
    let imported = Imported::open(&client, &sources, &|text| progress.note(text))?;
    let mut built = Vec::new();
    let platforms =
        if args.platform.is_empty() { vec![options.platform.clone()] } else { args.platform.clone() };
    for platform in &platforms {
        let options = Options { platform: platform.clone(), ..options.clone() };
        built.push(build::build(&store, &options, &context, (&source, &file), (&imported, &progress))?);
    }
    drop(imported);
    let made = Made {
        store: &store,
        lease: store.lease()?,
        built,
        source: &source,
        options: &options,
        wish: wish.as_ref(),
    };
    let product = made.write(&outputs, &tags)?;
    made.share(&targets, &progress)?;
    if outputs.iter().any(|output| matches!(output.kind, Kind::Image | Kind::Docker | Kind::Registry)) {
        report(args, &product, &tags, &progress)?;
    }
    Ok(Exit::Ok)
}

fn tags(args: &Args) -> Result<Vec<Reference>> {
    if let Some(tag) = args.tags.iter().find(|tag| tag.digest().is_some()) {
        fault!(Usage, "cannot name an image {tag}: the digest follows from the content");
    }
    Ok(args.tags.iter().map(|tag| tag.clone().or_latest()).collect())
}

/// What to make; the image in the store where nothing is said.
fn outputs(args: &Args) -> Vec<Output> {
    let mut outputs = args.output.clone();
    if args.push {
        outputs.push(Output::new(Kind::Registry, None));
    }
    if args.load || outputs.is_empty() {
        outputs.push(Output::new(Kind::Image, None));
    }
    outputs
}

/// A finished build, ready to be written.
struct Made<'a> {
    store: &'a Store,
    lease: Lease,
    built: Vec<Built>,
    source: &'a Source,
    options: &'a Options,
    wish: Option<&'a Wish>,
}

impl Made<'_> {
    /// Writes every output. Returns the image as the last of them has it.
    fn write(&self, outputs: &[Output], tags: &[Reference]) -> Result<Product> {
        let facts: Vec<Facts<'_>> = self.built.iter().map(|built| self.facts(built)).collect();
        let mut last = None;
        for output in outputs {
            let finish = Finish {
                annotations: self.annotations(output),
                provenance: self.wish,
                packing: output.packing,
                names: tags,
            };
            let product = product::assemble(self.store, &self.lease, &self.built, &facts, &finish)?;
            if matches!(output.kind, Kind::Local | Kind::Tar) {
                let told = self.told(&product, &facts, tags)?;
                export::files(self.store, &self.built, output, &told)?;
            } else {
                export::image(self.store, &product, output, tags, &self.options.registry)?;
            }
            last = Some(product);
        }
        last.context("nothing to write")
    }

    fn annotations(&self, output: &Output) -> Vec<crate::build::annotation::Annotation> {
        self.options.annotations.iter().chain(&output.annotations).cloned().collect()
    }

    /// The statements that go beside exported files.
    fn told(&self, product: &Product, facts: &[Facts<'_>], tags: &[Reference]) -> Result<Vec<Told>> {
        let Some(wish) = self.wish.filter(|wish| !wish.inline_only) else { return Ok(Vec::new()) };
        let name = wish.filename.clone().unwrap_or_else(|| "provenance.json".into());
        let one = |(facts, image): (&Facts<'_>, &product::Single)| {
            let subject = (&image.document.digest, &image.platform);
            let statement = provenance::statement(facts, wish, tags, subject);
            let bytes = serde_json::to_vec_pretty(&statement).context("encode the provenance")?;
            Ok(Told { name: name.clone(), bytes })
        };
        facts.iter().zip(&product.images).map(one).collect()
    }

    fn facts(&self, built: &Built) -> Facts<'_> {
        let options = self.options;
        let mut request = BTreeMap::new();
        let pairs = [("build-arg", &options.build_args), ("label", &options.labels)];
        for (kind, list) in pairs {
            request.extend(list.iter().map(|(key, value)| (format!("{kind}:{key}"), value.clone())));
        }
        request.extend(options.target.clone().map(|target| ("target".to_owned(), target)));
        if options.network != "default" {
            request.insert("force-network-mode".into(), options.network.clone());
        }
        Facts {
            source: self.source,
            request,
            secrets: options.secrets.keys().cloned().collect(),
            materials: built.materials.clone(),
            started: built.started.clone(),
            finished: built.finished.clone(),
        }
    }

    /// Keeps what the steps made for other builds.
    fn share(&self, targets: &[Target], progress: &Progress) -> Result<()> {
        for target in targets.iter().filter(|target| target.place != Place::Inline) {
            let mut records = exchange::Records::new();
            for one in &self.built {
                let own = if target.all { &one.all_records } else { one.records() };
                records.extend(own.iter().map(|(key, made)| (key.clone(), made.clone())));
            }
            match exchange::export(self.store, &self.lease, target, &records, &self.options.registry) {
                Err(err) if target.ignore_error => {
                    progress.note(&format!("WARN: {}", contracts::report::one_line(&err)));
                }
                other => other?,
            }
        }
        Ok(())
    }
}

fn report(args: &Args, product: &Product, tags: &[Reference], progress: &Progress) -> Result<()> {
    let id = product.id();
    if let Some(path) = &args.iidfile {
        std::fs::write(path, id.to_string()).with_context(|| format!("write {}", path.display()))?;
    }
    if let Some(path) = &args.metadata_file {
        let names: Vec<String> = tags.iter().map(ToString::to_string).collect();
        let document = &product.document;
        let mut metadata = json!({
            "containerimage.digest": document.digest,
            "containerimage.descriptor": document.descriptor(),
            "image.name": names.join(","),
        });
        if let [image] = product.images.as_slice() {
            metadata["containerimage.config.digest"] = json!(image.id);
        }
        contracts::atomic::write_json(path, &metadata, 0o644)?;
    }
    for tag in tags {
        progress.note(&format!("naming to {tag} done"));
    }
    stdout::line(id.to_string())
}

fn open_context(args: &Args, store: &Store) -> Result<(Context, Source)> {
    if args.context == "-" {
        return Context::from_stdin(store, args.file.as_deref());
    }
    if fetch::is_remote(&args.context) && !Path::new(&args.context).exists() {
        return Context::from_url(store, &args.context, args.file.as_deref(), &args.registry);
    }
    let path = Path::new(&args.context);
    if args.file.as_deref() == Some("-") {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::io::stdin().lock(), &mut text)
            .context("read the Dockerfile on stdin")?;
        let source = Source { name: "Dockerfile".into(), text };
        return Ok((Context::directory(path, None)?, source));
    }
    let file = args.file.as_ref().map_or_else(|| path.join("Dockerfile"), PathBuf::from);
    // Checked first: "no such context" says more than "no such Dockerfile".
    let context = Context::directory(path, Some(&file))?;
    Ok((context, context::dockerfile(&file)?))
}
