//! A container starts: network, rootfs, supervisor. The command waits only for the supervisor's one-line answer.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use contracts::atomic;
use contracts::container::{Container, State, Status};
use contracts::fault;
use contracts::fault::{Fault, Kind};
use contracts::lock::Lock;
use contracts::process::Process;
use sys::command::{with_clean_signals, with_descriptors};

use super::unmount::unmount;
use super::{Store, checkpoints, image_mounts, make_dir, remove, shared_memory, subpaths};
use crate::supervisor::Answer;
use crate::tools::{self, NetworkUp};
use crate::{events, spec, volume};

/// Marks the container as owned by this process, until the supervisor takes over.
pub fn own(store: &Store, id: &str) -> Result<()> {
    make_dir(&store.live(id))?;
    let mut kept = atomic::read_json::<Status>(&store.dir(id).join("status.json"))?.unwrap_or_default();
    kept.version = 1;
    kept.owner = Some(Process::current().context("read /proc/self/stat")?);
    store.save_live(id, &kept)
}

/// How a container is started.
#[derive(Default)]
pub struct Start<'a> {
    /// Its network, already being made.
    pub network: Option<NetworkUp>,
    /// The supervisor's end of an attached connection: it sees every byte from the first.
    pub client: Option<OwnedFd>,
    /// Go on from this checkpoint.
    pub checkpoint: Option<&'a Path>,
    /// Up to the program, which waits for another start.
    pub init: bool,
}

/// Starts the container and returns when its payload runs, or is ready to.
pub fn start(store: &Store, record: &Container, lock: &Lock, how: Start<'_>) -> Result<()> {
    own(store, &record.id)?;
    let flags = match how.checkpoint.map(Path::to_str) {
        None if how.init => vec!["--init"],
        None => vec![],
        Some(Some(images)) => vec!["--restore", images],
        Some(None) => fault!(Usage, "the checkpoint's directory has a name that is not UTF-8"),
    };
    let mut asked = spec::network_request(store, record)?;
    if let Some(images) = how.checkpoint {
        checkpoints::same_addresses(images, &mut asked)?;
    }
    let up = how.network.map_or_else(|| NetworkUp::start(&record.id, &asked), Ok);
    let started = up
        .and_then(|up| prepare(store, record, up))
        .and_then(|()| supervise(store, record, lock, how.client, &flags));
    started.inspect_err(|err| failed(store, record, err))
}

/// Starts a container again, as its policy wants and its status says, whose supervisor was killed with its payload.
pub fn revive(store: &Store, record: &Container, lock: &Lock) -> Result<()> {
    let id = &record.id;
    own(store, id)?;
    let started = spec::network_request(store, record)
        .and_then(|asked| NetworkUp::start(id, &asked))
        .and_then(|up| prepare(store, record, up))
        .and_then(|()| supervise(store, record, lock, None, &["--revive"]));
    started.inspect_err(|err| failed(store, record, err))
}

fn prepare(store: &Store, record: &Container, network: NetworkUp) -> Result<()> {
    let id = &record.id;
    let bundle = store.bundle(id);
    // Both run at once; both must end before anything is undone.
    let mounted = tools::mount(&bundle);
    let mut network = network.answer()?;
    mounted?;
    shared_memory::make(store, record)?;
    image_mounts::mount(record, &bundle)?;
    volume::options::mount_all(store, record)?;
    subpaths::make(store, record)?;
    for (file, ours) in [("/etc/hosts", &mut network.hosts), ("/etc/hostname", &mut network.hostname_file)] {
        if record.image_files.iter().any(|kept| kept == file) {
            *ours = None;
        }
    }
    let mut config = spec::read(&bundle)?;
    spec::join_network(&mut config, &network);
    spec::join_others(store, record, &mut config)?;
    atomic::write_json_volatile(&bundle.join("config.json"), &config, 0o600)?;
    let mut live = atomic::read_json::<Status>(&store.live_status(id))?.unwrap_or_default();
    live.network = Some(network);
    store.save_live(id, &live)
}

/// Leaves a container whose start failed as it was before, with the reason in its status.
fn failed(store: &Store, record: &Container, err: &anyhow::Error) {
    let id = &record.id;
    let mut status =
        atomic::read_json::<Status>(&store.dir(id).join("status.json")).ok().flatten().unwrap_or_default();
    status.version = 1;
    if status.state.is_live() {
        status.state = State::Exited;
    }
    status.error = contracts::report::one_line(err);
    status.exit_code = i32::from(contracts::exit::Exit::before_payload(err).code());
    if status.exit_code == 125 {
        status.exit_code = 128;
    }
    let _ = tools::run(tools::runtime(store, record).args(["delete", "--force", id]));
    let _ = tools::network_down(id);
    let _ = unmount(store, id);
    let _ = store.save_kept(id, &status);
    let _ = remove::live(store, id);
    let _ = volume::options::release(store, record);
    events::container(store, record, "die", &[("exitCode", &status.exit_code.to_string())]);
}

/// A new supervisor for a payload that still runs.
pub fn adopt(store: &Store, record: &Container, lock: &Lock) -> Result<()> {
    supervise(store, record, lock, None, &["--adopt"])
}

/// Executes the supervisor: this program again, so that it begins with an empty heap and none of our descriptors but
/// the lock, which it keeps until it is the owner: whenever we are killed, nobody finds the container without one.
fn supervise(
    store: &Store,
    record: &Container,
    lock: &Lock,
    client: Option<OwnedFd>,
    flags: &[&str],
) -> Result<()> {
    let exe = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(exe);
    command.arg0("shim").arg("supervise").arg(&record.id).args(flags);
    command.env("BULKHEAD_STATE", &store.paths.state).env("BULKHEAD_STORE", &store.paths.store);
    command.stdin(client.map_or_else(Stdio::null, Stdio::from)).stdout(Stdio::piped()).stderr(Stdio::null());
    // Out of reach of the terminal's signals from the first instant; the session of its own follows.
    command.process_group(0).current_dir("/");
    let lock = lock.as_fd().try_clone_to_owned().context("hand the lock on")?;
    let mut descriptors = vec![lock];
    // Only the user's own command has streams that are meant for the payload.
    if crate::log::is_passthrough(record) && !["--adopt", "--revive"].iter().any(|flag| flags.contains(flag))
    {
        for stream in [io::stdin().as_fd(), io::stdout().as_fd(), io::stderr().as_fd()] {
            descriptors.push(stream.try_clone_to_owned().context("pass the standard streams on")?);
        }
    }
    with_descriptors(&mut command, descriptors);
    let mut child = with_clean_signals(&mut command).spawn().context("execute the supervisor")?;
    let answer = child.stdout.take().context("the supervisor's answer")?;
    read_answer(answer)
}

fn read_answer(answer: ChildStdout) -> Result<()> {
    let mut line = String::new();
    BufReader::new(answer).take(1 << 20).read_line(&mut line).context("read the supervisor's answer")?;
    if line.is_empty() {
        bail!("the supervisor ended before the container started");
    }
    let answer: Answer = serde_json::from_str(&line).context("read the supervisor's answer")?;
    let Some(message) = answer.error else { return Ok(()) };
    Err(match answer.code {
        126 => Fault::new(Kind::CommandNotExecutable, message).into(),
        127 => Fault::new(Kind::CommandNotFound, message).into(),
        _ => anyhow::Error::msg(message),
    })
}
