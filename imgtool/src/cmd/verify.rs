//! `imgtool verify [IMAGE...]`: everything an image is made of, read and compared with its digests.

use std::collections::HashMap;
use std::io;

use anyhow::{Context as _, Result, bail, ensure};
use contracts::exit::Exit;

use crate::layer::read::{Limits, Reader};
use crate::layer::stream::Stream;
use crate::reference::Reference;
use crate::stdout;
use crate::store::Store;
use crate::store::blob::copy;
use crate::store::config::ImageConfig;
use crate::store::digest::{Digest, Hasher};
use crate::store::document::{Descriptor, Kind, MAX_DOCUMENT, Manifest, is_image_config, packing};
use crate::store::index::name_of;

/// Flags of `verify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Manifests, configs and layers are read to their end: digests, sizes, the digests of the \
                        unpacked layers, and whether every layer is an archive.\nA damaged image is mended by \
                        pulling or loading it again after imgtool rmi. Exit code 1 if there is one."
)]
pub struct Args {
    /// Names or ids [default: all images]
    images: Vec<String>,
    /// Only damaged images
    #[arg(short, long)]
    quiet: bool,
}

/// # Errors
/// An image is damaged, or not there.
pub fn run(args: &Args) -> Result<Exit> {
    let store = super::open_store()?;
    let mut targets: Vec<(String, Descriptor)> = Vec::new();
    for text in &args.images {
        let (name, target) = store.resolve(text)?;
        targets.push((name.as_ref().map_or_else(|| text.clone(), Reference::familiar), target));
    }
    if args.images.is_empty() {
        for entry in store.entries()? {
            let name = name_of(&entry).map_or_else(|| entry.digest.to_string(), |name| name.familiar());
            targets.push((name, entry));
        }
    }
    // A removal beside us must not look like damage.
    let lease = store.lease()?;
    let mut verifier = Verifier { store: &store, layers: HashMap::new() };
    let mut damaged = 0;
    for (name, target) in &targets {
        match lease.hold_all(target).and_then(|()| verifier.target(target, 0)) {
            Ok(()) if args.quiet => {}
            Ok(()) => stdout::line(format!("{name}: ok"))?,
            Err(err) => {
                damaged += 1;
                stdout::line(format!("{name}: {}", contracts::report::one_line(&err)))?;
            }
        }
    }
    if damaged > 0 {
        bail!("{damaged} of {} images damaged", targets.len());
    }
    Ok(Exit::Ok)
}

struct Verifier<'a> {
    store: &'a Store,
    /// What was found of each layer: images share them.
    layers: HashMap<Digest, Result<(), String>>,
}

impl Verifier<'_> {
    fn target(&mut self, target: &Descriptor, depth: u32) -> Result<()> {
        let document = self.store.document(target)?;
        match &document.kind {
            Kind::Manifest(manifest) => self.manifest(manifest),
            Kind::Index(_) if depth >= 2 => bail!("indexes nested too deep at {}", target.digest),
            Kind::Index(index) => {
                // Images for other platforms may have stayed where they were.
                let mut here = index.manifests.iter().filter(|child| self.store.has(&child.digest));
                here.try_for_each(|child| self.target(child, depth + 1))
            }
        }
    }

    fn manifest(&mut self, manifest: &Manifest) -> Result<()> {
        let config = self.store.read_blob(&manifest.config.digest, MAX_DOCUMENT)?;
        let (has, says) = (config.len() as u64, manifest.config.size);
        ensure!(has == says, "config {}: {has} bytes, the manifest says {says}", manifest.config.digest);
        let mut diff_ids = Vec::new();
        if is_image_config(&manifest.config.media_type) {
            diff_ids = ImageConfig::parse(&config)?.rootfs.diff_ids;
            let (blobs, ids) = (manifest.layers.len(), diff_ids.len());
            ensure!(blobs == ids, "{blobs} layers but {ids} diff ids");
        }
        for (at, layer) in manifest.layers.iter().enumerate() {
            let found = self.layers.entry(layer.digest.clone()).or_insert_with(|| {
                verify_layer(self.store, layer, diff_ids.get(at)).map_err(|err| format!("{err:#}"))
            });
            if let Err(why) = found {
                bail!("layer {}: {why}", layer.digest);
            }
        }
        Ok(())
    }
}

fn verify_layer(store: &Store, layer: &Descriptor, diff_id: Option<&Digest>) -> Result<()> {
    let mut hash = Hashing(Hasher::new(layer.digest.algorithm()));
    let size = copy(&mut store.open_blob(&layer.digest)?, &mut hash).context("read")?;
    ensure!(size == layer.size, "{size} bytes, the manifest says {}", layer.size);
    let found = hash.0.finish();
    ensure!(found == layer.digest, "wrong content: its digest is {found}");
    // Artifacts hold anything.
    let Some(diff_id) = diff_id.filter(|_| packing(&layer.media_type).is_some()) else { return Ok(()) };
    let mut stream = Stream::start(store.open_blob(&layer.digest)?)?;
    let mut reader = Reader::new(&mut stream, Limits::for_blob(layer.size));
    while reader.next_entry()?.is_some() {}
    let hex: String = stream.finish()?.iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(hex == diff_id.hex(), "its diff id is sha256:{hex}, the image says {diff_id}");
    Ok(())
}

struct Hashing(Hasher);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
