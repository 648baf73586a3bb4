//! `shim restore` (podman's): go on from the checkpoint that `shim checkpoint` made, here or on another machine.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;
use serde_json::{Value, json};

use crate::cli::RestoreFlags;
use crate::container::start::Start;
use crate::container::{Store, again, checkpoints, remove};
use crate::migrate::{read, stats};

pub fn run(store: &Store, flags: &RestoreFlags) -> Result<Exit> {
    let from = &flags.import;
    if from.pod.is_some() {
        fault!(Unsupported, "restore --pod is not supported: there are no pods");
    }
    let began = Instant::now();
    let names = match &from.import {
        Some(file) => vec![import(store, file, flags)?],
        None => super::select::chosen(store, &flags.containers, flags.all, flags.latest, |id| {
            let dir = checkpoints::dir(store, id, None)?;
            Ok(checkpoints::find(&dir, checkpoints::DEFAULT, id).is_ok())
        })?,
    };
    super::checkpoint::counting(("restore", began), &names, flags.print_stats, |name| {
        let done = one(store, name, flags);
        if let (Err(_), Some(_), Ok(record)) = (&done, &from.import, store.load(name)) {
            // A container that could not be brought here is not here.
            let _ = remove::everything(store, &record, true);
        }
        done
    })
}

fn import(store: &Store, file: &Path, flags: &RestoreFlags) -> Result<String> {
    let from = &flags.import;
    if from.name.is_some() && flags.tcp_established {
        fault!(Usage, "restore: --tcp-established cannot be used with --name: connections know the address");
    }
    let mut more = Vec::new();
    for (flag, wanted) in [("--tcp-established", flags.tcp_established), ("--file-locks", flags.file_locks)] {
        more.extend(wanted.then(|| flag.to_owned()));
    }
    read::read(
        store,
        &read::Wish {
            file,
            previous: from.import_previous.as_deref(),
            name: from.name.as_deref(),
            ignore_rootfs: from.ignore_rootfs,
            ignore_volumes: from.ignore_volumes,
            ignore_ip: from.ignore_static_ip,
            ignore_mac: from.ignore_static_mac,
            flags: more,
        },
    )
}

fn one(store: &Store, name: &str, flags: &RestoreFlags) -> Result<Value> {
    let id = store.resolve(name)?;
    let dir = checkpoints::dir(store, &id, None)?;
    let images = checkpoints::find(&dir, checkpoints::DEFAULT, name)?;
    let begin = Instant::now();
    if !again::again(store, &id, Start { checkpoint: Some(&images), ..Start::default() })? {
        fault!(WrongState, "container {name} is running or paused: it cannot be restored");
    }
    let counted = json!({
        "Id": id, "runtime_restore_duration": begin.elapsed().as_micros(),
        "criu_statistics": stats::read(&store.live(&id).join("stats-restore")),
    });
    if !flags.keep {
        checkpoints::remove(&images)?;
        checkpoints::remove(&dir.join(checkpoints::MEMORY))?;
    }
    Ok(counted)
}
