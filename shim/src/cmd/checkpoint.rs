//! `shim checkpoint` (podman's) and `shim checkpoint create|ls|rm` (docker's).

use anyhow::Result;
use contracts::container::State;
use contracts::exit::Exit;
use contracts::fault;

use super::each;
use crate::attach::client;
use crate::attach::wire::Request;
use crate::cli::{CheckpointCommand, CheckpointDump, CheckpointPlace, CheckpointVerb};
use crate::container::checkpoints::{self, Note};
use crate::container::{Store, status};
use crate::{events, finish, show, tools};

pub fn run(store: &Store, command: &CheckpointCommand) -> std::process::ExitCode {
    finish(match &command.verb {
        Some(CheckpointVerb::Create(flags)) => {
            create(store, &flags.place.container, &flags.checkpoint, &flags.place, &flags.dump)
                .and_then(|()| show::line(&flags.checkpoint))
                .map(|()| Exit::Ok)
        }
        Some(CheckpointVerb::Ls(place)) => list(store, place),
        Some(CheckpointVerb::Rm(flags)) => remove(store, &flags.place, &flags.checkpoint),
        None => each(&command.containers, |name| {
            let place = CheckpointPlace { checkpoint_dir: None, container: name.to_owned() };
            create(store, name, checkpoints::DEFAULT, &place, &command.dump)?;
            Ok(Some(name.to_owned()))
        }),
    })
}

fn create(
    store: &Store,
    name: &str,
    checkpoint: &str,
    place: &CheckpointPlace,
    dump: &CheckpointDump,
) -> Result<()> {
    let id = store.resolve(name)?;
    let lock = store.lock(&id)?;
    let record = store.load(&id)?;
    let status = status::read_locked(store, &id, &lock)?;
    if status.state != State::Running {
        fault!(WrongState, "Cannot checkpoint container {name}: it is {}", status.state.word());
    }
    if record.host_config.auto_remove && !dump.leave_running && place.checkpoint_dir.is_none() {
        fault!(WrongState, "Cannot checkpoint container {name}: --rm would remove it with the checkpoint");
    }
    if record.host_config.id_mappings.is_some() {
        fault!(
            Unsupported,
            "Cannot checkpoint container {name}: it has a user namespace, and CRIU could not restore it into its network"
        );
    }
    let dir = checkpoints::dir(store, &id, place.checkpoint_dir.as_deref())?;
    let partial = checkpoints::begin(&dir, checkpoint, name)?;
    let Some(socket) = client::connect(store, &id)? else {
        fault!(WrongState, "Cannot checkpoint container {name}: it is not running")
    };
    if !dump.leave_running {
        // Until this connection ends: the payload's end is not one that the restart policy knows.
        client::ask(&socket, &Request::Checkpoint)?;
        client::answer(&socket)?;
    }
    let flags = shared_flags(dump);
    let mut command = tools::runtime(store, &record);
    command.arg("checkpoint").arg("--image-path").arg(&partial).arg("--work-path").arg(&partial);
    command.args(&flags);
    if dump.leave_running {
        command.arg("--leave-running");
    }
    if let Err(err) = tools::run(command.arg(&id)) {
        // Our own runtime says it already.
        let reason = checkpoints::reason(&partial).filter(|reason| !format!("{err:#}").contains(reason));
        let _ = checkpoints::remove(&partial);
        let err = match reason {
            Some(reason) => anyhow::anyhow!("{err:#}: CRIU: {reason}"),
            None => err,
        };
        return Err(err.context(format!("checkpoint container {name}")));
    }
    checkpoints::complete(&partial, &dir, checkpoint, &Note::new(flags, status.network.as_ref()))?;
    events::container(store, &record, "checkpoint", &[("checkpoint", checkpoint)]);
    drop(lock);
    if !dump.leave_running {
        client::exit(&socket)?;
    }
    Ok(())
}

/// What the dump and the restore must agree on.
fn shared_flags(dump: &CheckpointDump) -> Vec<String> {
    let flags = [("--tcp-established", dump.tcp_established), ("--file-locks", dump.file_locks)];
    flags.iter().filter(|(_, wanted)| *wanted).map(|(flag, _)| (*flag).to_owned()).collect()
}

fn list(store: &Store, place: &CheckpointPlace) -> Result<Exit> {
    let id = store.resolve(&place.container)?;
    show::line("CHECKPOINT NAME")?;
    for name in checkpoints::list(&checkpoints::dir(store, &id, place.checkpoint_dir.as_deref())?)? {
        show::line(&name)?;
    }
    Ok(Exit::Ok)
}

fn remove(store: &Store, place: &CheckpointPlace, checkpoint: &str) -> Result<Exit> {
    let id = store.resolve(&place.container)?;
    let _lock = store.lock(&id)?;
    let dir = checkpoints::dir(store, &id, place.checkpoint_dir.as_deref())?;
    checkpoints::remove(&checkpoints::find(&dir, checkpoint, &place.container)?)?;
    Ok(Exit::Ok)
}
