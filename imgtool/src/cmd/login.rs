//! `imgtool login [REGISTRY]`

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::fault;
use contracts::paths::Paths;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use ureq::http::Method;

use crate::registry::answer::expect;
use crate::registry::auth::Scope;
use crate::registry::credentials::{self, Credentials};
use crate::registry::http::Request;
use crate::registry::{Client, Flags};
use crate::stdout;

/// Flags of `login`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Credentials go to ~/.docker/config.json (DOCKER_CONFIG), to --authfile, or to the credential \
                        helper that the file names."
)]
pub struct Args {
    /// The registry, the hub where missing
    #[arg(default_value = "docker.io")]
    registry: String,
    /// User name; asked for where missing
    #[arg(short, long)]
    username: Option<String>,
    /// Password; seen by everybody who lists processes, so better --password-stdin
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from stdin
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    flags: Flags,
}

/// # Errors
/// The registry fails or refuses; the credentials cannot be stored.
pub fn run(args: &Args) -> Result<Exit> {
    if args.password.is_some() {
        warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    if args.password_stdin && args.username.is_none() {
        fault!(Usage, "--password-stdin needs --username");
    }
    let (user, password) = ask(args)?;
    if user.is_empty() || password.is_empty() {
        fault!(Usage, "user name and password must not be empty");
    }
    let flags = Flags { creds: Some(format!("{user}:{password}")), ..args.flags.clone() };
    let client = Client::new(&Paths::from_env(), &flags)?;
    let endpoint = client.endpoint(&args.registry)?;
    let response = client.send(&endpoint, &Scope::none(), Request::new(Method::GET, "/v2/"))?;
    let status = response.status();
    if status == 401 {
        fault!(Remote, "login attempt to {} failed with status: {status}", endpoint.host);
    }
    expect(response, &[200], &format!("login to {}", endpoint.host))?;
    let host = if credentials::is_hub(&endpoint.host) { "docker.io" } else { &endpoint.host };
    let place = credentials::store(client.authfile(), host, &Credentials::Password { user, password })?;
    if !place.starts_with("credential helper") {
        warn(&format!("WARNING! Your credentials are stored unencrypted in '{place}'."));
    }
    stdout::line("Login Succeeded")?;
    Ok(Exit::Ok)
}

fn ask(args: &Args) -> Result<(String, String)> {
    let mut password = args.password.clone();
    if args.password_stdin {
        let mut text = String::new();
        io::stdin().take(64 << 10).read_to_string(&mut text).context("read password from stdin")?;
        password = Some(text.trim_end_matches(['\n', '\r']).to_owned());
    }
    let interactive = io::stdin().is_terminal();
    let user = match &args.username {
        Some(user) => user.clone(),
        None if interactive => prompt("Username: ", true)?,
        None => fault!(
            Usage,
            "cannot ask for a user name: stdin is no terminal (use --username and --password-stdin)"
        ),
    };
    let password = match password {
        Some(password) => password,
        None if interactive => prompt("Password: ", false)?,
        None => fault!(Usage, "cannot ask for a password: stdin is no terminal (use --password-stdin)"),
    };
    Ok((user, password))
}

/// Asks on the terminal, without echo for a password.
fn prompt(question: &str, echo: bool) -> Result<String> {
    let mut err = io::stderr();
    let _ = write!(err, "{question}");
    let _ = err.flush();
    let stdin = io::stdin();
    let before = tcgetattr(&stdin).context("terminal")?;
    if !echo {
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&stdin, SetArg::TCSAFLUSH, &quiet).context("terminal")?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if !echo {
        tcsetattr(&stdin, SetArg::TCSAFLUSH, &before).context("terminal")?;
        let _ = writeln!(err);
    }
    read.context("read from the terminal")?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

fn warn(text: &str) {
    contracts::report::say(format_args!("{text}"));
}
