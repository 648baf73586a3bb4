//! The runtime is executed: `create`, `restore` or `exec`.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod};
use nix::sys::termios::{self, OutputFlags, SetArg};
use nix::unistd::pipe2;
use sys::command::{with_clean_signals, with_own_pid};

use super::cli::Options;

/// Our ends of a payload's streams.
#[derive(Default)]
pub struct Payload {
    pub pid: i32,
    pub terminal: Option<OwnedFd>,
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// Executes the runtime and returns when the payload has a pid.
pub fn launch(options: &Options) -> Result<Payload> {
    let pidfile = match &options.container_pidfile {
        Some(path) => path.clone(),
        None => std::env::current_dir()?.join(format!("pidfile-{}", options.cid)),
    };
    let _ = fs::remove_file(&pidfile);
    let console = if options.terminal { Some(Console::listen()?) } else { None };
    let mut command = command(options, &pidfile, console.as_ref());
    let mut payload = Payload::default();
    let words = streams(options, &mut command, &mut payload)?;
    pass_sockets_on(options, &mut command)?;
    let mut child = command
        .spawn()
        .with_context(|| format!("Failed to execute runtime {}", options.runtime.display()))?;
    drop(command);
    let status = child.wait().context("wait for the runtime")?;
    // exec's own code says nothing: only a pid file tells that something was started.
    if !status.success() && (!options.exec || !pidfile.exists()) {
        let said = words.or_else(|| payload.stderr.take()).map(what_is_there).unwrap_or_default();
        match said.trim() {
            "" => bail!("runtime exited with {status}"),
            said => bail!("{said}"),
        }
    }
    if let Some(console) = console {
        payload.terminal = Some(console.receive().context("Runtime did not set up terminal")?);
    }
    let text = fs::read_to_string(&pidfile).with_context(|| format!("read {}", pidfile.display()))?;
    payload.pid = text.trim().parse().with_context(|| format!("read {}", pidfile.display()))?;
    Ok(payload)
}

fn command(options: &Options, pidfile: &Path, console: Option<&Console>) -> Command {
    let mut command = Command::new(&options.runtime);
    if options.systemd_cgroup && !options.exec {
        command.arg("--systemd-cgroup");
    }
    command.args(&options.runtime_args);
    let bundle = bundle(options);
    if options.exec {
        command.args(["exec", "--pid-file"]).arg(pidfile);
        command.arg("--process").arg(options.exec_process_spec.as_deref().unwrap_or(Path::new("")));
        command.arg("--detach");
    } else {
        command.arg(if options.restore.is_some() { "restore" } else { "create" });
        command.arg("--bundle").arg(&bundle).arg("--pid-file").arg(pidfile);
        for (wanted, flag) in [(options.no_pivot, "--no-pivot"), (options.no_new_keyring, "--no-new-keyring")]
        {
            if wanted {
                command.arg(flag);
            }
        }
        if let Some(image) = &options.restore {
            command.arg("--detach").arg("--image-path").arg(image).arg("--work-path").arg(&bundle);
        }
    }
    command.args(&options.runtime_opts);
    if let Some(console) = console {
        command.arg("--console-socket").arg(&console.path);
    }
    command.arg(&options.cid);
    // These are between podman and us.
    for name in ["_OCI_SYNCPIPE", "_OCI_STARTPIPE", "_OCI_ATTACHPIPE"] {
        command.env_remove(name);
    }
    with_clean_signals(&mut command);
    command
}

/// Sockets that systemd opened are for the process that `LISTEN_PID` names: the runtime, in place of us.
fn pass_sockets_on(options: &Options, command: &mut Command) -> Result<()> {
    let Ok(text) = std::env::var("LISTEN_PID") else { return Ok(()) };
    let pid: u32 =
        text.parse().ok().filter(|pid| *pid > 0).with_context(|| format!("Invalid LISTEN_PID {text}"))?;
    if options.replace_listen_pid || pid == std::process::id() {
        with_own_pid(command, "LISTEN_PID").context("set LISTEN_PID")?;
    }
    Ok(())
}

/// Where control files live.
pub fn bundle(options: &Options) -> PathBuf {
    options.bundle.clone().or_else(|| std::env::current_dir().ok()).unwrap_or_else(|| PathBuf::from("."))
}

/// The runtime's stdin, stdout, stderr; with a terminal the end on which its own words come.
fn streams(options: &Options, command: &mut Command, payload: &mut Payload) -> Result<Option<OwnedFd>> {
    if options.passthrough() && !options.terminal {
        // What we were given is the container's.
        command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        return Ok(None);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let (words, write) = output_pipe()?;
    command.stderr(write);
    if options.terminal {
        return Ok(Some(words));
    }
    payload.stderr = Some(words);
    let (read, write) = output_pipe()?;
    command.stdout(write);
    payload.stdout = Some(read);
    if options.stdin {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
        fchmod(&read, Mode::from_bits_truncate(0o777)).context("chmod a pipe")?;
        command.stdin(read);
        payload.stdin = Some(write);
    }
    Ok(None)
}

/// A pipe that a payload of any user may open again as /dev/stdout.
fn output_pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
    fchmod(&write, Mode::from_bits_truncate(0o777)).context("chmod a pipe")?;
    sys::pipe::set_nonblocking(&read).context("set a descriptor's flags")?;
    Ok((read, write))
}

fn what_is_there(fd: OwnedFd) -> String {
    let mut said = vec![0; 8191];
    let length = File::from(fd).read(&mut said).unwrap_or(0);
    String::from_utf8_lossy(&said[..length]).into_owned()
}

/// Where the runtime connects to give the terminal's master end.
struct Console {
    listener: UnixListener,
    dir: PathBuf,
    path: PathBuf,
}

impl Console {
    fn listen() -> Result<Self> {
        let base = std::env::temp_dir();
        let dir = nix::unistd::mkdtemp(&base.join("conmon-term.XXXXXX")).context("make a directory")?;
        let path = dir.join("s");
        let listener = UnixListener::bind(&path).context("listen for the terminal")?;
        Ok(Self { listener, dir, path })
    }

    fn receive(&self) -> Result<OwnedFd> {
        // The runtime has ended: what it sent is here, and nothing more will come.
        self.listener.set_nonblocking(true)?;
        let (socket, _) = self.listener.accept().context("no connection")?;
        let mut name = [0; 4096];
        let (_, fd) = sys::pass_fd::receive(&socket, &mut name)?;
        let fd = fd.context("no descriptor")?;
        let mut settings = termios::tcgetattr(fd.as_fd()).context("read the terminal's settings")?;
        settings.output_flags |= OutputFlags::ONLCR;
        termios::tcsetattr(fd.as_fd(), SetArg::TCSANOW, &settings).context("set the terminal up")?;
        sys::pipe::set_nonblocking(&fd).context("set a descriptor's flags")?;
        Ok(fd)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(&self.dir);
    }
}
