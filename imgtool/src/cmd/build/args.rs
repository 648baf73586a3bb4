//! The flags of `build`.

use std::path::PathBuf;

use contracts::container::Ulimit;

use crate::build::annotation::Annotation;
use crate::build::limits;
use crate::build::output::Output;
use crate::build::progress::Mode;
use crate::reference::Reference;
use crate::registry::Flags;
use crate::store::document::Platform;

/// Build an image from a Dockerfile and a context directory
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  imgtool build -t web .
  imgtool build -t web -f docker/Dockerfile --target test .
  imgtool build - < Dockerfile                       the Dockerfile alone, without files
  tar c . | imgtool build -t web -
  imgtool build https://host/project.git#v1:web      a repository, at a tag, in a directory of it
  imgtool build -o out .                             the files of the result, into a directory
  imgtool build -o type=oci,dest=web.tar,compression=zstd .
  imgtool build --platform linux/amd64,linux/arm64 --push -t host/web .
  imgtool build --cache-from type=registry,ref=host/web:cache --cache-to type=registry,ref=host/web:cache,mode=max .
  imgtool build --check .                            what the Dockerfile could do better
  imgtool build --call=outline .                     its build arguments, secrets and agents

The language is BuildKit's (docker/dockerfile:1), whatever `# syntax=` says. Steps are cached by what they depend on,
never by time: the instruction, the content of the files, the layers below. With SOURCE_DATE_EPOCH set the same input
gives the same image, byte for byte. The image's id goes to stdout, the progress to stderr.")]
pub struct Args {
    /// Directory with the files to use, - for an archive or a Dockerfile on stdin, or the URL of one or of a git
    /// repository (URL#REF:DIRECTORY)
    pub context: String,
    /// The Dockerfile [default: CONTEXT/Dockerfile]
    #[arg(short, long)]
    pub file: Option<String>,
    /// Patterns of files not to use [default: FILE.dockerignore, then CONTEXT/.dockerignore]
    #[arg(long, value_name = "FILE")]
    pub ignorefile: Option<PathBuf>,
    /// Name for the image; may be repeated
    #[arg(short, long = "tag", value_name = "NAME")]
    pub tags: Vec<Reference>,
    /// Value of an ARG; without = it comes from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<String>,
    /// File with a NAME=VALUE for an ARG on each line; --build-arg wins
    #[arg(long = "build-arg-file", value_name = "FILE")]
    pub build_arg_files: Vec<PathBuf>,
    /// Stage to build, by name or number [default: the last]
    #[arg(long)]
    pub target: Option<String>,
    /// Label to add
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// Note on the image's manifest; LEVEL is manifest, index or manifest-descriptor
    #[arg(long = "annotation", value_name = "[LEVEL:]KEY=VALUE")]
    pub annotations: Vec<Annotation>,
    /// Do every step again
    #[arg(long)]
    pub no_cache: bool,
    /// Do every step of these stages again
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// Find steps in another build's cache: a registry's NAME, type=registry,ref=NAME or type=local,src=DIR
    #[arg(long = "cache-from", value_name = "CACHE")]
    pub cache_from: Vec<String>,
    /// Keep this build's cache: type=registry,ref=NAME or type=local,dest=DIR, with mode=max for all stages;
    /// type=inline for the image itself
    #[arg(long = "cache-to", value_name = "CACHE")]
    pub cache_to: Vec<String>,
    /// Secret for RUN --mount=type=secret
    #[arg(long = "secret", value_name = "id=ID[,src=FILE|,env=NAME]")]
    pub secrets: Vec<String>,
    /// Agent socket for RUN --mount=type=ssh
    #[arg(long = "ssh", value_name = "default|ID=SOCKET")]
    pub ssh: Vec<String>,
    /// Further context or base: a directory, a URL, docker-image://NAME or oci-layout://DIR[:TAG]
    #[arg(long = "build-context", value_name = "NAME=WHERE")]
    pub contexts: Vec<String>,
    /// Allow a dangerous thing: security.insecure
    #[arg(long, value_name = "WHAT", value_parser = ["security.insecure", "network.host"])]
    pub allow: Vec<String>,
    /// Ask the registry for base images even if they are here
    #[arg(long)]
    pub pull: bool,
    /// Platforms of the image, separated by commas; several make an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    pub platform: Vec<Platform>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Write the result's digests as JSON to a file
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// What to make: DIR or type=local,dest=DIR, - or type=tar[,dest=FILE] for the files; type=image,
    /// type=registry, type=oci or type=docker[,dest=FILE] for the image [default: the image in the store]
    #[arg(short, long)]
    pub output: Vec<Output>,
    /// Push the image: --output type=registry
    #[arg(long)]
    pub push: bool,
    /// Keep the image in the store beside other outputs: --output type=docker
    #[arg(long)]
    pub load: bool,
    /// Attach how the image was made: mode=min or max, or false
    #[arg(long, value_name = "true|mode=min|max", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub provenance: Option<String>,
    /// Attach a statement: type=provenance[,mode=min|max]
    #[arg(long, value_name = "type=TYPE")]
    pub attest: Vec<String>,
    /// Bills of materials are not made here: only false is accepted
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true, hide = true)]
    pub sbom: Option<String>,
    /// Instead of building: check (what could be better), outline (what a target takes) or targets; ,format=json
    #[arg(long, value_name = "METHOD", default_value = "build", hide_default_value = true)]
    pub call: String,
    /// The same as --call=check
    #[arg(long, conflicts_with = "call")]
    pub check: bool,
    /// How to report
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: Mode,
    /// Print the image's id only
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub steps: Steps,
    #[command(flatten)]
    pub registry: Flags,
    /// Accepted for docker's sake: steps always leave nothing behind
    #[arg(long, hide = true)]
    pub rm: bool,
    /// Accepted for docker's sake: steps always leave nothing behind
    #[arg(long, hide = true)]
    pub force_rm: bool,
}

/// What RUN steps are given.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "RUN steps")]
pub struct Steps {
    /// Network: netctl's default network, none, or the host's
    #[arg(long, default_value = "default", value_parser = ["default", "none", "host"])]
    pub network: String,
    /// Line for /etc/hosts
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    pub hosts: Vec<String>,
    /// Limit of a process: NAME=SOFT[:HARD]
    #[arg(long = "ulimit", value_name = "LIMIT", value_parser = limits::ulimit)]
    pub ulimits: Vec<Ulimit>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Memory at most
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Memory and swap together at most; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Share of busy processors, 1024 being the usual one
    #[arg(short, long, value_name = "SHARES")]
    pub cpu_shares: Option<u64>,
    /// Length of a processor quota's period
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<u64>,
    /// Processor time in each period
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Processors to run on: 0-2,4
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Cgroup to run below
    #[arg(long, value_name = "CGROUP")]
    pub cgroup_parent: Option<String>,
}
