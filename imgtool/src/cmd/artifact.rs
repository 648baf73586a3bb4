//! `imgtool artifact push|attach|pull`: any files in a registry, laid out as ORAS does, so that either reads the other's.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use contracts::exit::Exit;
use contracts::fault;
use contracts::paths::Paths;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use sys::path::Root;

use crate::layer::tree::{self, Tree};
use crate::reference::Reference;
use crate::registry::repository::Repository;
use crate::registry::{Client, Flags};
use crate::stdout;
use crate::store::blob::{copy, untangled};
use crate::store::digest::{Algorithm, Digest, Hasher};
use crate::store::document::{Descriptor, Document, Kind, Manifest, OCI_MANIFEST};

/// The name of a file in the manifest.
const TITLE: &str = "org.opencontainers.image.title";
/// A directory that ORAS packed.
const UNPACK: &str = "io.deis.oras.content.unpack";
/// `{}`: the config of what has none.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// What a file is unless said.
const PLAIN: &str = "application/octet-stream";
/// What an artifact is unless said.
const UNKNOWN: &str = "application/vnd.unknown.artifact.v1";

/// Keep any files in a registry
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Send files under a name
    #[command(
        after_help = "Example: imgtool artifact push registry.example/sbom:1 sbom.json:application/json"
    )]
    Push(PushArgs),
    /// Send files that refer to an image; imgtool referrers lists them
    #[command(
        after_help = "Example: imgtool artifact attach --artifact-type example/sbom registry.example/web:1 sbom.json"
    )]
    Attach(PushArgs),
    /// Fetch the files of an artifact
    Pull(PullArgs),
}

#[derive(Debug, clap::Args)]
struct PushArgs {
    /// The artifact's name in its registry; for attach, the image's
    name: String,
    /// Files, each with its media type after a colon
    #[arg(value_name = "FILE[:TYPE]")]
    files: Vec<String>,
    /// What it is
    #[arg(long, default_value = UNKNOWN)]
    artifact_type: String,
    /// Notes in the manifest
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    #[command(flatten)]
    registry: Flags,
}

#[derive(Debug, clap::Args)]
struct PullArgs {
    /// The artifact in its registry
    name: String,
    /// Where to put the files
    #[arg(short, long, default_value = ".")]
    output: PathBuf,
    /// Fail rather than replace a file
    #[arg(short, long)]
    keep_old_files: bool,
    #[command(flatten)]
    registry: Flags,
}

/// # Errors
/// A file cannot be read or written; the registry fails or lies.
pub fn run(args: &Args) -> Result<Exit> {
    match &args.command {
        Verb::Push(args) => push(args, false),
        Verb::Attach(args) => push(args, true),
        Verb::Pull(args) => pull(args),
    }
}

fn name_in(client: &Client, written: &str) -> Result<Reference> {
    Ok(client.parse(written.trim_start_matches("docker://"))?.or_latest())
}

fn push(args: &PushArgs, attach: bool) -> Result<Exit> {
    let client = Client::new(&Paths::from_env(), &args.registry)?;
    let name = name_in(&client, &args.name)?;
    let repository = client.repository(&name, true)?;
    let subject = match attach {
        true => Some(repository.manifest(&name.manifest_name())?.descriptor()),
        false => None,
    };
    let mut annotations = BTreeMap::new();
    for text in &args.annotation {
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            fault!(Usage, "invalid annotation '{text}': KEY=VALUE expected");
        };
        annotations.insert(key.to_owned(), value.to_owned());
    }
    let empty = Descriptor::new(EMPTY, Digest::of(b"{}"), 2);
    repository.upload(&empty, &[], &|_| Ok(Box::new(&b"{}"[..])))?;
    let mut layers = Vec::new();
    for file in &args.files {
        layers.push(send_file(&repository, file)?);
    }
    if layers.is_empty() {
        // The specification wants one.
        layers.push(empty.clone());
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.into(),
        artifact_type: Some(args.artifact_type.clone()),
        config: empty,
        layers,
        subject,
        annotations,
    };
    let document = Document::parse(serde_json::to_vec(&manifest).context("encode manifest")?, None)?;
    let tag = name.tag().filter(|_| !attach).map(str::to_owned);
    repository.put_manifest(&tag.unwrap_or_else(|| document.digest.to_string()), &document)?;
    stdout::line(format!("{}@{}", name.familiar_name(), document.digest))?;
    Ok(Exit::Ok)
}

/// Sends `FILE[:TYPE]` unless it is there.
fn send_file(repository: &Repository<'_>, written: &str) -> Result<Descriptor> {
    // A media type has a slash and no leading one; whatever else follows a colon is part of the name.
    let typed = written.rsplit_once(':').filter(|(path, kind)| {
        !path.is_empty() && kind.contains('/') && !kind.starts_with('/') && !Path::new(written).exists()
    });
    let (path, kind) = typed.unwrap_or((written, PLAIN));
    let mut file = File::open(path).with_context(|| format!("open {path}"))?;
    if !file.metadata().with_context(|| format!("look at {path}"))?.is_file() {
        fault!(Usage, "{path} is no file: pack directories first");
    }
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let size = copy(&mut file, &mut Hashing(&mut hasher)).with_context(|| format!("read {path}"))?;
    let mut descriptor = Descriptor::new(kind, hasher.finish(), size);
    let title = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    descriptor.annotations.insert(TITLE.into(), title);
    repository.upload(&descriptor, &[], &|offset| {
        let mut file = File::open(path).with_context(|| format!("open {path}"))?;
        file.seek(SeekFrom::Start(offset)).with_context(|| format!("read {path}"))?;
        Ok(Box::new(file))
    })?;
    Ok(descriptor)
}

fn pull(args: &PullArgs) -> Result<Exit> {
    let client = Client::new(&Paths::from_env(), &args.registry)?;
    let name = name_in(&client, &args.name)?;
    let repository = client.repository(&name, false)?;
    let document = repository.manifest(&name.manifest_name())?;
    let Kind::Manifest(manifest) = &document.kind else {
        fault!(Unsupported, "{} is an index, not an artifact", name.familiar());
    };
    fs::create_dir_all(&args.output).with_context(|| format!("make {}", args.output.display()))?;
    let root = Root::open(&args.output).with_context(|| format!("open {}", args.output.display()))?;
    let mut tree = Tree::new(root);
    let mut found = false;
    for layer in &manifest.layers {
        // ORAS too leaves aside what has no name.
        let Some(title) = layer.annotations.get(TITLE) else { continue };
        if layer.annotations.get(UNPACK).is_some_and(|value| value == "true") {
            fault!(Unsupported, "{}: {title:?} is a packed directory", name.familiar());
        }
        take_file(&repository, layer, title, &mut tree, args.keep_old_files)
            .with_context(|| format!("file {title:?} of {}", name.familiar()))?;
        stdout::line(args.output.join(tree::clean(title.as_bytes())?).display().to_string())?;
        found = true;
    }
    if !found {
        fault!(NotFound, "{} has no files with a name", name.familiar());
    }
    Ok(Exit::Ok)
}

/// Writes one file below the root, whatever its title says; it has its name when it has been verified.
fn take_file(
    repository: &Repository<'_>,
    layer: &Descriptor,
    title: &str,
    tree: &mut Tree,
    keep: bool,
) -> Result<()> {
    let path = tree::clean(title.as_bytes())?;
    let (parent, last) = tree.parent(&path)?;
    let is_directory = |stat: &nix::sys::stat::FileStat| {
        sys::path::file_type(stat.st_mode) == nix::sys::stat::SFlag::S_IFDIR
    };
    match tree::stat_in(&*parent, last)? {
        Some(_) if keep => fault!(Exists, "it exists"),
        Some(stat) if is_directory(&stat) => fault!(Exists, "a directory has its name"),
        _ => {}
    }
    let temporary = format!(".imgtool-{}-{}", std::process::id(), layer.digest.short());
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(parent.as_fd(), &*temporary, flags, Mode::from_bits_truncate(0o644)).context("make")?;
    let mut file = File::from(file);
    let written = (|| {
        let mut hasher = Hasher::new(layer.digest.algorithm());
        let mut blob = repository.blob(layer, 0)?;
        let mut reader = Both(&mut blob, &mut hasher);
        copy(&mut reader, &mut file).map_err(untangled).context("write")?;
        let digest = hasher.finish();
        if digest != layer.digest {
            fault!(Remote, "wrong content: its digest is {digest}, not {}", layer.digest);
        }
        file.sync_data().context("write")?;
        renameat(parent.as_fd(), &*temporary, parent.as_fd(), last).context("rename")
    })();
    if written.is_err() {
        let _ = unlinkat(parent.as_fd(), &*temporary, UnlinkatFlags::NoRemoveDir);
    }
    written
}

struct Hashing<'a>(&'a mut Hasher);

impl std::io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Hashes what is read through it.
struct Both<'a, R>(&'a mut R, &'a mut Hasher);

impl<R: Read> Read for Both<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.update(&buffer[..count]);
        Ok(count)
    }
}
