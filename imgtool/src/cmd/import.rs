//! `imgtool import FILE|URL|- [NAME]`

use std::io::{self, BufRead, BufReader, IsTerminal as _, Read, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::fault;

use super::open_store;
use crate::build::change;
use crate::layer::read::{Limits, Reader};
use crate::layer::stream::unpack;
use crate::place::ingest::open;
use crate::reference::Reference;
use crate::registry::{Client, Flags};
use crate::stdout;
use crate::store::Store;
use crate::store::blob::BlobWriter;
use crate::store::config::{History, ImageConfig, RootFs};
use crate::store::document::{Descriptor, OCI_LAYER, Platform};
use crate::store::lease::Lease;

/// Flags of `import`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prints the image's id. The archive may be compressed with gzip, zstd, bzip2 or xz.\n\
                        Example: shim export web | imgtool import -c 'CMD [\"/bin/sh\"]' - web:flat"
)]
pub struct Args {
    /// A tar of a root file system; - is stdin
    #[arg(value_name = "FILE|URL|-")]
    source: String,
    /// The image's name
    name: Option<Reference>,
    /// An instruction for the image's config: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, …
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
    /// A remark for the history
    #[arg(short, long)]
    message: Option<String>,
    /// What the programs in it run on, instead of this machine: os/arch[/variant]
    #[arg(long)]
    platform: Option<Platform>,
}

/// # Errors
/// It is no tar, or damaged; a change is no instruction; no space. Then nothing is kept.
pub fn run(args: &Args) -> Result<Exit> {
    if args.source == "-" && io::stdin().is_terminal() {
        fault!(Usage, "refusing to read an archive from a terminal: redirect, or name a file");
    }
    if args.name.as_ref().is_some_and(|name| name.digest().is_some()) {
        fault!(Usage, "an image cannot be named by a digest: it follows from the content");
    }
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let created = Some(jiff::Timestamp::now().to_string());
    let config = ImageConfig {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        created: created.clone(),
        ..ImageConfig::default()
    };
    // Before anything is read: a wrong instruction should not cost a download.
    let config = change::apply(config, &args.changes)?;
    let store = open_store()?;
    let lease = store.lease()?;
    let mut source = source(&store, &args.source)?;
    let layer = layer(&store, &lease, &mut source).with_context(|| format!("import {}", args.source))?;
    let from = if args.source == "-" { "-" } else { args.source.as_str() };
    let comment = args.message.clone().unwrap_or_else(|| format!("Imported from {from}"));
    let config = ImageConfig {
        rootfs: RootFs { diff_ids: vec![layer.digest.clone()], ..RootFs::default() },
        history: vec![History { created, comment: Some(comment), ..History::default() }],
        ..config
    };
    let names: Vec<Reference> = args.name.iter().cloned().map(Reference::or_latest).collect();
    let image = store.add_image(&lease, &config.to_bytes()?, vec![layer], &names)?;
    stdout::line(image.id.to_string())?;
    Ok(Exit::Ok)
}

/// Opens an archive of any packing.
pub(super) fn source(store: &Store, text: &str) -> Result<Box<dyn Read + Send>> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return unpack(Client::new(store.paths(), &Flags::usual())?.download(text)?);
    }
    open(Path::new(text))
}

/// Stores the archive as a plain layer (its digest is then its diff id) while checking that it is an archive to its end.
pub(super) fn layer(store: &Store, lease: &Lease, source: &mut dyn Read) -> Result<Descriptor> {
    let mut keeping = Keeping {
        source: BufReader::with_capacity(256 << 10, source),
        writer: store.writer()?,
        error: None,
        bytes: 0,
    };
    let mut reader = Reader::new(&mut keeping, Limits::default());
    let mut entries = 0u64;
    let mut damaged = None;
    loop {
        match reader.next_entry() {
            Ok(Some(_)) => entries += 1,
            Ok(None) => break,
            Err(err) => {
                damaged = Some(err);
                break;
            }
        }
    }
    // A full disk shows as damage to the reader: the disk's own words are better.
    if let Some(err) = keeping.error.take() {
        return Err(err).context("store layer");
    }
    if let Some(err) = damaged {
        return Err(err);
    }
    // An archive of nothing but its end mark is an image without files.
    if entries == 0 && keeping.bytes < END_MARK {
        fault!(Unsupported, "no tar archive: it is empty");
    }
    // What follows the end mark belongs to the blob, whatever it is.
    io::copy(&mut keeping, &mut io::sink()).context("read")?;
    let mut writer = keeping.writer;
    writer.flush().context("store layer")?;
    let (digest, size) = writer.commit(lease)?;
    Ok(Descriptor::new(OCI_LAYER, digest, size))
}

/// Writes down everything that is read through it.
struct Keeping<'a> {
    source: BufReader<&'a mut dyn Read>,
    writer: BlobWriter,
    error: Option<io::Error>,
    bytes: usize,
}

/// Bytes of a block of zeros, which ends an archive.
const END_MARK: usize = 512;

impl BufRead for Keeping<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.error.is_some() {
            return Err(io::Error::other("the layer cannot be stored"));
        }
        self.source.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        if let Err(err) = self.writer.write_all(&self.source.buffer()[..count]) {
            self.error.get_or_insert(err);
        }
        self.bytes += count;
        self.source.consume(count);
    }
}

impl Read for Keeping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}
