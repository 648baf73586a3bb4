//! `shim checkpoint` (podman's) and `shim checkpoint create|ls|rm` (docker's).

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use contracts::container::{Container, State, Status};
use contracts::exit::Exit;
use contracts::fault;
use serde_json::{Value, json};

use crate::attach::client;
use crate::attach::wire::Request;
use crate::cli::{CheckpointCommand, CheckpointDump, CheckpointPlace, CheckpointVerb};
use crate::container::checkpoints::{self, Note};
use crate::container::{Store, again, status};
use crate::migrate::{stats, write};
use crate::{events, finish, show, tools};

pub fn run(store: &Store, command: &CheckpointCommand) -> std::process::ExitCode {
    finish(match &command.verb {
        Some(CheckpointVerb::Create(flags)) => {
            let plan = Plan {
                checkpoint: &flags.checkpoint,
                dir: flags.place.checkpoint_dir.as_deref(),
                dump: &flags.dump,
                podman: None,
            };
            create(store, &flags.place.container, &plan)
                .and_then(|_| show::line(&flags.checkpoint))
                .map(|()| Exit::Ok)
        }
        Some(CheckpointVerb::Ls(place)) => list(store, place),
        Some(CheckpointVerb::Rm(flags)) => remove(store, &flags.place, &flags.checkpoint),
        None => podman(store, command),
    })
}

/// Which checkpoint is made, and how.
struct Plan<'a> {
    checkpoint: &'a str,
    dir: Option<&'a Path>,
    dump: &'a CheckpointDump,
    /// Of podman's flags.
    podman: Option<&'a CheckpointCommand>,
}

fn podman(store: &Store, flags: &CheckpointCommand) -> Result<Exit> {
    if flags.create_image.is_some() {
        fault!(Unsupported, "checkpoint --create-image is not supported: --export writes an archive");
    }
    let names = super::select::chosen(store, &flags.containers, flags.all, flags.latest, |id| {
        Ok(status::read(store, id)?.state == State::Running)
    })?;
    if names.len() > 1 && flags.export.export.is_some() {
        fault!(Usage, "checkpoint --export takes one container: each has an archive of its own");
    }
    if flags.pre_checkpoint && flags.with_previous {
        fault!(Usage, "checkpoint: --pre-checkpoint and --with-previous exclude each other");
    }
    let plan = Plan { checkpoint: checkpoints::DEFAULT, dir: None, dump: &flags.dump, podman: Some(flags) };
    counting(("checkpoint", Instant::now()), &names, flags.print_stats, |name| create(store, name, &plan))
}

/// Does one thing to each name, as [`super::each`], and shows the names, or with `--print-stats` what each returned and how
/// long it took since the verb `began`.
pub fn counting(
    (verb, began): (&str, Instant),
    names: &[String],
    print_stats: bool,
    mut one: impl FnMut(&str) -> Result<Value>,
) -> Result<Exit> {
    let mut counted = Vec::new();
    let exit = super::each(names, |name| {
        counted.push(one(name)?);
        Ok((!print_stats).then(|| name.to_owned()))
    })?;
    if print_stats {
        show::line(&stats::shown(verb, began.elapsed().as_micros(), &counted).to_string())?;
    }
    Ok(exit)
}

/// Makes a checkpoint; what was counted.
fn create(store: &Store, name: &str, plan: &Plan<'_>) -> Result<Value> {
    let id = store.resolve(name)?;
    let lock = store.lock(&id)?;
    let record = store.load(&id)?;
    let status = status::read_locked(store, &id, &lock)?;
    check(name, &record, &status, plan)?;
    let memory = plan.podman.is_some_and(|flags| flags.pre_checkpoint);
    let stays = plan.dump.leave_running || memory;
    let dir = checkpoints::dir(store, &id, plan.dir)?;
    let partial = checkpoints::begin(&dir, if memory { checkpoints::MEMORY } else { plan.checkpoint }, name)?;
    let Some(socket) = client::connect(store, &id)? else {
        fault!(WrongState, "Cannot checkpoint container {name}: it is not running")
    };
    if !stays {
        // Until this connection ends: the payload's end is not one that the restart policy knows.
        client::ask(&socket, &Request::Checkpoint)?;
        client::answer(&socket)?;
    }
    let flags = shared_flags(plan.dump);
    let begin = Instant::now();
    dump(store, &record, plan, (&partial, &flags)).with_context(|| format!("checkpoint container {name}"))?;
    let counted = json!({
        "Id": id, "runtime_checkpoint_duration": begin.elapsed().as_micros(),
        "criu_statistics": stats::read(&partial.join("stats-dump")),
    });
    let note = Note::new(flags, status.network.as_ref());
    if plan.podman.is_some_and(|flags| !flags.keep) {
        for file in ["dump.log", "stats-dump"] {
            let _ = std::fs::remove_file(partial.join(file));
        }
    }
    let images = if memory {
        checkpoints::complete_memory(&partial, &dir)?;
        dir.join(checkpoints::MEMORY)
    } else {
        checkpoints::complete(&partial, &dir, plan.checkpoint, &note)?;
        dir.join(plan.checkpoint)
    };
    events::container(store, &record, "checkpoint", &[("checkpoint", plan.checkpoint)]);
    let subject = write::Subject { record: &record, status: &status, images: &images, note: &note };
    if stays {
        return export(store, &subject, plan, memory).map(|()| counted);
    }
    drop(lock);
    client::exit(&socket)?;
    // Not while its supervisor unmounts what goes into the archive.
    let (_lock, _) = again::lock_settled(store, &id)?;
    export(store, &subject, plan, memory).map(|()| counted)
}

fn check(name: &str, record: &Container, status: &Status, plan: &Plan<'_>) -> Result<()> {
    if status.state != State::Running {
        fault!(WrongState, "Cannot checkpoint container {name}: it is {}", status.state.word());
    }
    let stays = plan.dump.leave_running || plan.podman.is_some_and(|flags| flags.pre_checkpoint);
    if record.host_config.auto_remove && !stays && plan.dir.is_none() {
        fault!(WrongState, "Cannot checkpoint container {name}: --rm would remove it with the checkpoint");
    }
    if record.host_config.id_mappings.is_some() {
        fault!(
            Unsupported,
            "Cannot checkpoint container {name}: it has a user namespace, and CRIU could not restore it into its network"
        );
    }
    Ok(())
}

/// `runtime checkpoint`. On failure nothing is left.
fn dump(store: &Store, record: &Container, plan: &Plan<'_>, to: (&Path, &[String])) -> Result<()> {
    let (partial, flags) = to;
    let mut command = tools::runtime(store, record);
    command.arg("checkpoint").arg("--image-path").arg(partial).arg("--work-path").arg(partial);
    command.args(flags);
    if plan.dump.leave_running {
        command.arg("--leave-running");
    }
    if let Some(flags) = plan.podman {
        if flags.pre_checkpoint {
            command.arg("--pre-dump");
        }
        if flags.with_previous {
            let memory = partial.with_file_name(checkpoints::MEMORY);
            if !memory.exists() {
                fault!(NotFound, "--with-previous: there is no earlier --pre-checkpoint");
            }
            // Beside it wherever both are.
            command.arg("--parent-path").arg(Path::new("..").join(checkpoints::MEMORY));
        }
    }
    let Err(err) = tools::run(command.arg(&record.id)) else { return Ok(()) };
    // Our own runtime says it already.
    let reason = checkpoints::reason(partial).filter(|reason| !format!("{err:#}").contains(reason));
    let _ = checkpoints::remove(partial);
    Err(match reason {
        Some(reason) => anyhow::anyhow!("{err:#}: CRIU: {reason}"),
        None => err,
    })
}

fn export(store: &Store, subject: &write::Subject<'_>, plan: &Plan<'_>, memory: bool) -> Result<()> {
    let Some(flags) = plan.podman.map(|flags| &flags.export) else { return Ok(()) };
    let Some(file) = &flags.export else { return Ok(()) };
    let wish = write::Wish {
        file,
        compress: flags.compress.word(),
        ignore_rootfs: flags.ignore_rootfs,
        ignore_volumes: flags.ignore_volumes,
        memory,
    };
    write::write(store, subject, &wish)
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
