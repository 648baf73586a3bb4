//! `shim clone`: a new container with all that another was made with, and nothing of what it has become.

use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::atomic;
use contracts::container::{Container, now};
use contracts::ids::ledger;
use contracts::lock::Lock;
use sys::path::Root;

use super::create::{self, Created, Source};
use super::{Store, claim, image_mounts, make_dir, names, short, subpaths};
use crate::{events, request, spec};

/// Makes it, of another image if `image` names one. The same volumes are mounted, the same ports and addresses asked for.
pub fn make(store: &Store, mut record: Container, name: &str, image: Option<&str>) -> Result<Created> {
    let original = std::mem::replace(&mut record.id, names::new_id()?);
    let dir = store.dir(&record.id);
    make_dir(&dir)?;
    record.created = now();
    let made = Lock::exclusive(&dir.join("lock")).and_then(|lock| {
        names::check(name)?;
        claim::name(store, name, &record.id)?;
        record.name = name.into();
        record.network.name = name.into();
        if record.config.hostname == short(&original) {
            record.config.hostname = short(&record.id).into();
            record.network.hostname.clone_from(&record.config.hostname);
        }
        fill(store, &mut record, image)?;
        store.save(&record)?;
        Ok(Created { record: record.clone(), lock, network: None })
    });
    if made.is_err() {
        // Its volumes are the original's.
        record.mounts.clear();
        create::undo(store, &record);
    } else {
        events::container(store, &record, "create", &[]);
    }
    made
}

fn fill(store: &Store, record: &mut Container, image: Option<&str>) -> Result<()> {
    if let Some(maps) = &record.host_config.id_mappings {
        ledger::note(&store.paths, &record.id, maps)?;
    }
    let bundle = store.bundle(&record.id);
    let source = Source { pull: "missing", platform: None, quiet: false };
    let shown = image.unwrap_or(&record.image).to_owned();
    // The very image of the original, whatever has its name today.
    record.image = image.map_or_else(|| record.image_id.clone(), str::to_owned);
    let report = create::make_bundle(&source, record, &bundle)?;
    record.image = shown;
    if image.is_some() {
        record.config.image.clone_from(&record.image);
        inherit(record, &report)?;
    }
    for (index, point) in record.mounts.iter_mut().enumerate().filter(|(_, point)| !point.subpath.is_empty())
    {
        point.source = subpaths::place(&bundle, index).display().to_string();
    }
    image_mounts::make(&source, record, &bundle)?;
    let rootfs = Root::open(&bundle.join("rootfs")).context("open the root file system")?;
    let mut config = spec::read(&bundle)?;
    spec::merge(store, record, &mut config, &rootfs)?;
    if !record.config.working_dir.is_empty() {
        create::make_working_dir(record, &rootfs)?;
    }
    atomic::write_json(Path::new(&bundle.join("config.json")), &config, 0o600)
}

/// What another image brings that the original's did not: the original's command stays, as do its variables.
fn inherit(record: &mut Container, report: &contracts::bundle::Report) -> Result<()> {
    let (entrypoint, cmd) = (record.config.entrypoint.clone(), record.config.cmd.clone());
    // An entrypoint of the user's own: not the image's, nor its command.
    record.config.entrypoint.get_or_insert_with(|| vec![String::new()]);
    request::image::inherit(record, report)?;
    (record.config.entrypoint, record.config.cmd) = (entrypoint, cmd);
    Ok(())
}
