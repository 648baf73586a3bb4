//! Instructions with their parts told apart, variables not yet expanded.

use super::Span;
use super::heredoc::Heredoc;

/// A command line: text for the shell, or words to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `RUN a && b`.
    Shell(String),
    /// `RUN ["a", "b"]`.
    Exec(Vec<String>),
}

/// FROM.
#[derive(Debug, Clone, Default)]
pub struct From {
    /// Image or stage.
    pub image: String,
    /// `AS` name, lower case.
    pub name: Option<String>,
    /// `--platform`.
    pub platform: Option<String>,
    /// The keyword before the name, and the name, as they were written.
    pub as_written: Option<(String, String)>,
}

/// RUN.
#[derive(Debug, Clone)]
pub struct Run {
    /// What to run.
    pub command: Command,
    /// Bodies of heredocs in the command.
    pub heredocs: Vec<Heredoc>,
    /// `--mount` values.
    pub mounts: Vec<String>,
    /// `--network`.
    pub network: Option<String>,
    /// `--security`.
    pub security: Option<String>,
}

/// COPY and ADD.
#[derive(Debug, Clone, Default)]
pub struct Copy {
    /// ADD: archives are unpacked, URLs fetched.
    pub add: bool,
    /// What to copy, heredocs apart.
    pub sources: Vec<String>,
    /// Files that stand in the Dockerfile.
    pub heredocs: Vec<Heredoc>,
    /// Where to.
    pub dest: String,
    /// `--from`: stage, image or named context.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`: independent of what is below.
    pub link: bool,
    /// `--parents`: keep the sources' directories.
    pub parents: bool,
    /// `--exclude` patterns.
    pub exclude: Vec<String>,
    /// `--checksum` of a URL.
    pub checksum: Option<String>,
    /// `--keep-git-dir`.
    pub keep_git_dir: bool,
    /// `--unpack`, where given.
    pub unpack: Option<bool>,
}

/// HEALTHCHECK; durations in nanoseconds, 0 for unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// `None` for `HEALTHCHECK NONE`.
    pub command: Option<Command>,
    /// `--interval`.
    pub interval: i64,
    /// `--timeout`.
    pub timeout: i64,
    /// `--start-period`.
    pub start_period: i64,
    /// `--start-interval`.
    pub start_interval: i64,
    /// `--retries`.
    pub retries: i64,
}

/// One instruction.
#[derive(Debug, Clone)]
pub enum Instruction {
    /// Names with their default values.
    Arg(Vec<(String, Option<String>)>),
    /// Names and values.
    Env(Vec<(String, String)>),
    /// Names and values.
    Label(Vec<(String, String)>),
    /// See [`Run`].
    Run(Box<Run>),
    /// See [`Copy`].
    Copy(Box<Copy>),
    /// Default arguments.
    Cmd(Command),
    /// The program.
    Entrypoint(Command),
    /// The shell of shell forms.
    Shell(Vec<String>),
    /// Ports, as text.
    Expose(String),
    /// Mount points.
    Volume(Vec<String>),
    /// User spec.
    User(String),
    /// Directory.
    Workdir(String),
    /// Signal.
    StopSignal(String),
    /// Author.
    Maintainer(String),
    /// See [`Health`].
    Healthcheck(Health),
    /// An instruction for the next build.
    Onbuild(String),
}

/// An instruction with its text and place.
#[derive(Debug, Clone)]
pub struct Step {
    /// What to do.
    pub instruction: Instruction,
    /// As shown in progress: `RUN echo a`.
    pub text: String,
    /// Where it stands.
    pub span: Span,
    /// How it was written.
    pub form: Form,
}

/// What of an instruction means nothing to a build, but something to who reads it.
#[derive(Debug, Clone, Default)]
pub struct Form {
    /// The instruction's name as written.
    pub name: String,
    /// The comment lines right above.
    pub comments: Vec<String>,
    /// An empty line stands where it should go on.
    pub empty_continuation: bool,
    /// `ENV key value`.
    pub legacy_pair: bool,
}

/// A stage.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Where it starts from.
    pub from: From,
    /// Its instructions after FROM.
    pub steps: Vec<Step>,
    /// Where FROM stands.
    pub span: Span,
    /// How FROM was written.
    pub form: Form,
}

/// A whole Dockerfile.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    /// The escape character.
    pub escape: char,
    /// ARGs before the first FROM.
    pub global: Vec<Step>,
    /// The stages in order.
    pub stages: Vec<Stage>,
    /// Value of the `check` directive.
    pub check: Option<String>,
}
