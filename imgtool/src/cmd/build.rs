//! `imgtool build`: an image from a Dockerfile.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use contracts::exit::Exit;
use contracts::fault;

use crate::build::context::{self, Context};
use crate::build::fetch;
use crate::build::output::{self, Output};
use crate::build::progress::{Mode, Progress};
use crate::build::{self, Options, Secret, work};
use crate::obtain::Policy;
use crate::reference::Reference;
use crate::stdout;
use crate::store::document::Platform;

/// Build an image from a Dockerfile and a context directory
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  imgtool build -t web .\n  imgtool build -t web -f docker/Dockerfile --target test .\n  \
                        imgtool build - < Dockerfile\n  tar c . | imgtool build -t web -\n\n\
                        The language is BuildKit's (docker/dockerfile:1). The image's id goes to stdout, the \
                        progress to stderr."
)]
pub struct Args {
    /// Directory with the files to use, - for an archive or a Dockerfile on stdin, or the URL of one or of a git
    /// repository (URL#REF:DIRECTORY)
    context: String,
    /// The Dockerfile [default: CONTEXT/Dockerfile]
    #[arg(short, long)]
    file: Option<String>,
    /// Patterns of files not to use [default: FILE.dockerignore, then CONTEXT/.dockerignore]
    #[arg(long, value_name = "FILE")]
    ignorefile: Option<PathBuf>,
    /// Name for the image; may be repeated
    #[arg(short, long = "tag", value_name = "NAME")]
    tags: Vec<Reference>,
    /// Value of an ARG; without = it comes from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<String>,
    /// Stage to build, by name or number [default: the last]
    #[arg(long)]
    target: Option<String>,
    /// Label to add
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Do every step again
    #[arg(long)]
    no_cache: bool,
    /// Do every step of these stages again
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Network of RUN steps: netctl's default network, none, or the host's
    #[arg(long, default_value = "default", value_parser = ["default", "none", "host"])]
    network: String,
    /// Secret for RUN --mount=type=secret
    #[arg(long = "secret", value_name = "id=ID[,src=FILE|,env=NAME]")]
    secrets: Vec<String>,
    /// Agent socket for RUN --mount=type=ssh
    #[arg(long = "ssh", value_name = "default|ID=SOCKET")]
    ssh: Vec<String>,
    /// Further context: a directory or docker-image://NAME
    #[arg(long = "build-context", value_name = "NAME=WHERE")]
    contexts: Vec<String>,
    /// Allow a dangerous thing: security.insecure
    #[arg(long, value_name = "WHAT", value_parser = ["security.insecure", "network.host"])]
    allow: Vec<String>,
    /// Ask the registry for base images even if they are here
    #[arg(long)]
    pull: bool,
    /// Platform of the image [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write the result's digests as JSON to a file
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Write the files instead of keeping an image: DIR, -, type=local,dest=DIR or type=tar[,dest=FILE]; or the image,
    /// as an archive: type=oci|docker[,dest=FILE]
    #[arg(short, long)]
    output: Vec<Output>,
    /// How to report
    #[arg(long, value_enum, default_value = "auto")]
    progress: Mode,
    /// Print the image's id only
    #[arg(short, long)]
    quiet: bool,
    /// Only read the Dockerfile and say what could be better
    #[arg(long)]
    check: bool,
    /// Accepted for docker's sake: steps always leave nothing behind
    #[arg(long, hide = true)]
    rm: bool,
    /// Accepted for docker's sake: steps always leave nothing behind
    #[arg(long, hide = true)]
    force_rm: bool,
}

/// Runs the verb.
///
/// # Errors
/// The Dockerfile is wrong, a step fails, a base image is missing.
pub fn run(args: &Args) -> Result<Exit> {
    // First of all: threads started later inherit it.
    work::enter_private_mounts()?;
    let store = super::open_store()?;
    let progress = Progress::new(if args.quiet { Mode::Quiet } else { args.progress });
    let (mut context, source) = open_context(args, &store)?;
    if let Some(path) = &args.ignorefile {
        context.ignore_as(path)?;
    }
    let file = build::read(&source, &progress)?;
    if args.check {
        return Ok(if file.warnings.is_empty() { Exit::Ok } else { Exit::Failed });
    }
    let options = options(args)?;
    let built = build::build(&store, &options, &context, (&source, &file), &progress)?;
    for output in &args.output {
        output::write(&store, &built, output, &options.tags)?;
    }
    if !args.output.is_empty() {
        return Ok(Exit::Ok);
    }
    let image = built.keep(&store, &options.tags)?;
    if let Some(path) = &args.iidfile {
        std::fs::write(path, image.id.to_string()).with_context(|| format!("write {}", path.display()))?;
    }
    if let Some(path) = &args.metadata_file {
        let names: Vec<String> = options.tags.iter().map(ToString::to_string).collect();
        let metadata = serde_json::json!({
            "containerimage.config.digest": image.id,
            "containerimage.digest": image.document.digest,
            "image.name": names.join(","),
        });
        contracts::atomic::write_json(path, &metadata, 0o644)?;
    }
    for tag in &options.tags {
        progress.note(&format!("naming to {tag} done"));
    }
    stdout::line(image.id.to_string())?;
    Ok(Exit::Ok)
}

fn open_context(args: &Args, store: &crate::store::Store) -> Result<(Context, build::dockerfile::Source)> {
    if args.context == "-" {
        return Context::from_stdin(store, args.file.as_deref());
    }
    if fetch::is_remote(&args.context) && !Path::new(&args.context).exists() {
        return Context::from_url(store, &args.context, args.file.as_deref());
    }
    let path = Path::new(&args.context);
    if args.file.as_deref() == Some("-") {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::io::stdin().lock(), &mut text)
            .context("read the Dockerfile on stdin")?;
        let source = build::dockerfile::Source { name: "Dockerfile".into(), text };
        return Ok((Context::directory(path, None)?, source));
    }
    let file = args.file.as_ref().map_or_else(|| path.join("Dockerfile"), PathBuf::from);
    // Checked first: "no such context" says more than "no such Dockerfile".
    let context = Context::directory(path, Some(&file))?;
    Ok((context, context::dockerfile(&file)?))
}

fn options(args: &Args) -> Result<Options> {
    let build_args = args.build_args.iter().filter_map(|text| build_arg(text)).collect::<Vec<_>>();
    let epoch =
        build_args.iter().find(|(name, _)| name == "SOURCE_DATE_EPOCH").map(|(_, value)| value.clone());
    let epoch = epoch.or_else(|| std::env::var("SOURCE_DATE_EPOCH").ok()).filter(|text| !text.is_empty());
    let epoch =
        epoch.map(|text| text.parse().with_context(|| format!("SOURCE_DATE_EPOCH {text}"))).transpose()?;
    if let Some(tag) = args.tags.iter().find(|tag| tag.digest().is_some()) {
        fault!(Usage, "cannot name an image {tag}: the digest follows from the content");
    }
    Ok(Options {
        tags: args.tags.iter().map(|tag| tag.clone().or_latest()).collect(),
        build_args,
        target: args.target.clone(),
        labels: args.labels.iter().map(|text| pair(text, "--label")).collect::<Result<_>>()?,
        no_cache: args.no_cache,
        no_cache_filter: args.no_cache_filter.iter().map(|name| name.to_ascii_lowercase()).collect(),
        network: args.network.clone(),
        secrets: args.secrets.iter().map(|text| secret(text)).collect::<Result<_>>()?,
        ssh: args.ssh.iter().map(|text| agent(text)).collect::<Result<_>>()?,
        contexts: args.contexts.iter().map(|text| pair(text, "--build-context")).collect::<Result<_>>()?,
        allow: args.allow.clone(),
        pull: if args.pull { Policy::Always } else { Policy::Missing },
        platform: args.platform.clone().unwrap_or_else(Platform::host),
        epoch,
    })
}

/// A name alone takes its value from the environment, and means nothing where it is not set.
fn build_arg(text: &str) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => std::env::var(text).ok().map(|value| (text.to_owned(), value)),
    }
}

fn pair(text: &str, flag: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ if flag == "--label" && !text.is_empty() => Ok((text.to_owned(), String::new())),
        _ => fault!(Usage, "{flag} {text}: want NAME=VALUE"),
    }
}

/// `id=a,src=file`, `id=a,env=NAME`, `type=file,…`; without a source the variable or file of that name.
fn secret(text: &str) -> Result<(String, Secret)> {
    let (mut id, mut source) = (None, None);
    let mut env = false;
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => source = Some(value.to_owned()),
            Some(("env", value)) => (env, source) = (true, Some(value.to_owned())),
            Some(("type", "env")) => env = true,
            Some(("type", "file")) => {}
            _ => bail!("--secret {text}: unexpected field {field}"),
        }
    }
    let Some(id) = id.or_else(|| source.clone()) else { bail!("--secret {text}: id is missing") };
    let source = source.unwrap_or_else(|| id.clone());
    let from_env = env || (!Path::new(&source).exists() && std::env::var_os(&source).is_some());
    Ok((id, if from_env { Secret::Env(source) } else { Secret::File(source.into()) }))
}

fn agent(text: &str) -> Result<(String, PathBuf)> {
    let (id, socket) = text.split_once('=').map_or((text, None), |(id, socket)| (id, Some(socket)));
    let socket = socket.map(PathBuf::from).or_else(|| std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from));
    match socket {
        Some(socket) => Ok((id.to_owned(), socket)),
        None => fault!(Usage, "--ssh {text}: SSH_AUTH_SOCK is not set"),
    }
}
