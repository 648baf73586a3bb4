//! `shim exec`

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use contracts::container::{Container, State};
use contracts::exit::Exit;
use contracts::{atomic, fault};
use sys::path::Root;

use crate::attach::keys::Keys;
use crate::attach::local;
use crate::cli::ExecFlags;
use crate::container::{Store, rootfs, status};
use crate::supervisor::classify;
use crate::{events, spec, tools};

pub fn run(store: &Store, flags: &ExecFlags) -> Result<Exit> {
    let Some((name, args)) = flags.container_and_command.split_first() else { fault!(Usage, "no container") };
    let keys = Keys::parse(&flags.detach_keys)?;
    let id = store.resolve(name)?;
    let record = store.load(&id)?;
    let status = status::read(store, &id)?;
    match status.state {
        State::Running => {}
        State::Paused => fault!(WrongState, "Container {name} is paused, unpause the container before exec"),
        State::Restarting => {
            fault!(WrongState, "Container {id} is restarting, wait until the container is running")
        }
        _ => fault!(WrongState, "container {id} is not running"),
    }
    if flags.tty && flags.interactive && !flags.detach && !io::stdin().is_terminal() {
        bail!("the input device is not a TTY");
    }
    let bundle = store.bundle(&id);
    let rootfs = Root::open(&rootfs::path(&status, &bundle)).context("open the root file system")?;
    let process = spec::exec::wished(&record, &spec::read(&bundle)?, flags, args, &rootfs)?;
    let session = Session::new(store, &record, flags)?;
    atomic::write_json_volatile(&session.file("json"), &process, 0o600)?;
    events::container(store, &record, &format!("exec_start: {}", args.join(" ")), &[]);
    if flags.detach {
        return session.detached();
    }
    if flags.tty { session.terminal(keys) } else { session.streams() }
}

/// The files of one exec; they go with it.
struct Session<'a> {
    store: &'a Store,
    record: &'a Container,
    flags: &'a ExecFlags,
    base: PathBuf,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        for name in ["json", "log", "pid", "console"] {
            let _ = fs::remove_file(self.file(name));
        }
    }
}

impl<'a> Session<'a> {
    fn new(store: &'a Store, record: &'a Container, flags: &'a ExecFlags) -> Result<Self> {
        let base = store.live(&record.id).join(format!("exec.{}", std::process::id()));
        Ok(Self { store, record, flags, base })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.base.with_extension(format!("{}.{name}", std::process::id()))
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = tools::runtime(self.store, self.record);
        command.arg("--log").arg(self.file("log")).args(["--log-format", "json", "exec"]).args(more);
        command.arg("--process").arg(self.file("json"));
        command
    }

    /// In the background: the runtime leaves it to the supervisor's container.
    fn detached(&self) -> Result<Exit> {
        let mut command = self.command(&["--detach"]);
        command.arg(&self.record.id).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().context("execute the runtime")?;
        if status.success() { Ok(Exit::Ok) } else { Err(self.failure(status.code(), "")) }
    }

    /// Our own stdin, stdout and stderr; the runtime in between passes signals on.
    fn streams(&self) -> Result<Exit> {
        let mut command = self.command(&[]);
        command.arg(&self.record.id);
        if !self.flags.interactive {
            command.stdin(Stdio::null());
        }
        let code = local::wait_passing_signals(&mut command)?;
        self.result(code)
    }

    /// A terminal of its own, so that the detach keys can leave it alone.
    fn terminal(&self, keys: Keys) -> Result<Exit> {
        nix::sys::prctl::set_child_subreaper(true).context("become a subreaper")?;
        let path = self.file("console");
        let (listener, path, _dir) = listen(&path)?;
        let command = self.command(&["--detach", "--tty", "--console-socket"]);
        // The flag's value follows the list above.
        let program = command.get_program().to_owned();
        let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let at = args.iter().position(|arg| arg == "--console-socket").map_or(args.len(), |at| at + 1);
        let mut ordered = Command::new(program);
        ordered.args(&args[..at]).arg(&path).args(&args[at..]);
        ordered.arg("--pid-file").arg(self.file("pid")).arg(&self.record.id);
        let output =
            ordered.stdin(Stdio::null()).stdout(Stdio::null()).output().context("execute the runtime")?;
        if !output.status.success() {
            return Err(self.failure(output.status.code(), &String::from_utf8_lossy(&output.stderr)));
        }
        let terminal = receive(&listener)?;
        let pid: i32 =
            fs::read_to_string(self.file("pid"))?.trim().parse().context("read the pid of the command")?;
        match local::join(&terminal, pid, keys, self.flags.interactive)? {
            Some(code) => Ok(Exit::Payload(u8::try_from(code).unwrap_or(255))),
            None => {
                let _ = writeln!(io::stderr(), "read escape sequence");
                local::leave_behind(terminal)?;
                Ok(Exit::Failed)
            }
        }
    }

    /// The payload's code, unless it was the runtime that failed.
    fn result(&self, code: i32) -> Result<Exit> {
        let failed = logged(&self.file("log"));
        if let Some(message) = failed.filter(|_| code != 0) {
            // The runtime has said so on the stderr that it shares with us.
            return Ok(Exit::before_payload(&classify(&message, Some(code))));
        }
        Ok(Exit::Payload(u8::try_from(code).unwrap_or(255)))
    }

    fn failure(&self, code: Option<i32>, said: &str) -> anyhow::Error {
        let last = said.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned);
        let message = logged(&self.file("log")).or(last).unwrap_or_else(|| {
            code.map_or("the runtime was killed".into(), |code| format!("the runtime ended with {code}"))
        });
        classify(&message, code)
    }
}

fn logged(path: &Path) -> Option<String> {
    crate::supervisor::logged_error(path)
}

fn listen(path: &Path) -> Result<(UnixListener, PathBuf, Option<fs::File>)> {
    use std::os::fd::AsRawFd as _;
    if path.as_os_str().len() < 100 {
        return Ok((UnixListener::bind(path).context("listen for the terminal")?, path.into(), None));
    }
    let (parent, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
    let dir = fs::File::open(parent)?;
    let short = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), dir.as_raw_fd())).join(name);
    Ok((UnixListener::bind(&short).context("listen for the terminal")?, short, Some(dir)))
}

fn receive(listener: &UnixListener) -> Result<OwnedFd> {
    listener.set_nonblocking(true)?;
    let (socket, _) = listener.accept().context("receive the terminal: the runtime sent none")?;
    let (_, fd) = sys::pass_fd::receive(socket.as_fd(), &mut [0; 512]).context("receive the terminal")?;
    fd.context("receive the terminal: the runtime sent none")
}
