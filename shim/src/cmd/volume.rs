//! `shim volume …`

mod contents;

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;
use contracts::output::human;
use contracts::output::template::Format;
use contracts::report;
use serde_json::{Value, json};

use super::{prune::confirmed, ps::filters::has_label};
use crate::cli::{
    VolumeCreateFlags, VolumeInspectFlags, VolumeLsFlags, VolumePruneFlags, VolumeRmFlags, VolumeVerb,
};
use crate::container::{Store, names};
use crate::request::{mounts, units};
use crate::show;
use crate::volume::{self, Volume};

pub fn run(store: &Store, verb: &VolumeVerb) -> Result<Exit> {
    match verb {
        VolumeVerb::Create(flags) => create(store, flags),
        VolumeVerb::Ls(flags) => ls(store, flags),
        VolumeVerb::Inspect(flags) => inspect(store, flags),
        VolumeVerb::Rm(flags) => rm(store, flags),
        VolumeVerb::Prune(flags) => prune(store, flags),
        VolumeVerb::Exists(flags) => {
            Ok(if volume::load(store, &flags.name)?.is_some() { Exit::Ok } else { Exit::Failed })
        }
        VolumeVerb::Export(flags) => contents::export(store, flags),
        VolumeVerb::Import(flags) => contents::import(store, flags),
    }
}

fn create(store: &Store, flags: &VolumeCreateFlags) -> Result<Exit> {
    let name = flags.name.clone().unwrap_or_default();
    mounts::volume_name(&name)?;
    if flags.driver != "local" {
        let driver = &flags.driver;
        fault!(
            Unsupported,
            "create {name}: error looking up volume plugin {driver}: plugin \"{driver}\" not found"
        );
    }
    let options: std::collections::BTreeMap<String, String> = units::pairs(&flags.opt).collect();
    if let Some(key) = options.keys().find(|key| !["type", "device", "o"].contains(&key.as_str())) {
        fault!(Usage, "create {name}: invalid option: \"{key}\"");
    }
    let anonymous = name.is_empty();
    let name = if anonymous { names::new_id()? } else { name };
    let labels = units::pairs(&flags.label).collect();
    volume::ensure(store, &Volume { name: name.clone(), labels, options, anonymous, ..Volume::default() })?;
    show::line(&name)?;
    Ok(Exit::Ok)
}

fn ls(store: &Store, flags: &VolumeLsFlags) -> Result<Exit> {
    let format = Format::parse(flags.format.as_deref(), "{{.Driver}}\\t{{.Name}}")?;
    let mut rows = Vec::new();
    for known in volume::list(store)? {
        let mut fits = true;
        for filter in &flags.filter {
            fits &= match filter.split_once('=') {
                Some(("name", part)) => known.name.contains(part),
                Some(("driver", driver)) => driver == "local",
                Some(("label", label)) => has_label(&known.labels, label),
                Some(("dangling", word)) => {
                    volume::users(store, &known.name)?.is_empty() == matches!(word, "true" | "1")
                }
                _ => fault!(Usage, "invalid filter '{filter}'"),
            };
        }
        if fits {
            rows.push(known);
        }
    }
    if flags.quiet {
        show::text(&rows.iter().map(|known| format!("{}\n", known.name)).collect::<String>())?;
        return Ok(Exit::Ok);
    }
    let row = |known: &Volume| {
        let labels: Vec<String> = known.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        json!({
            "Driver": "local", "Name": known.name, "Scope": "local", "Labels": labels.join(","),
            "Mountpoint": volume::data(store, &known.name),
        })
    };
    let rows: Vec<Value> = rows.iter().map(row).collect();
    show::text(&format.render(&[("Name", "VOLUME NAME")], &rows)?)?;
    Ok(Exit::Ok)
}

fn inspect(store: &Store, flags: &VolumeInspectFlags) -> Result<Exit> {
    let (mut objects, mut missing) = (Vec::new(), Vec::new());
    for name in &flags.volumes {
        match volume::load(store, name)? {
            Some(known) => objects.push(object(store, &known)),
            None => missing.push(name),
        }
    }
    show::objects(flags.format.as_deref(), &objects)?;
    let mut exit = Exit::Ok;
    for name in missing {
        report::print_error("shim", &anyhow::anyhow!("get {name}: no such volume"));
        exit = Exit::NotFound;
    }
    Ok(exit)
}

fn object(store: &Store, known: &Volume) -> Value {
    let or_null = |map: &std::collections::BTreeMap<String, String>| {
        if map.is_empty() { Value::Null } else { json!(map) }
    };
    json!({
        "CreatedAt": known.created, "Driver": "local", "Labels": or_null(&known.labels),
        "Mountpoint": volume::data(store, &known.name), "Name": known.name, "Options": or_null(&known.options),
        "Scope": "local",
    })
}

fn rm(store: &Store, flags: &VolumeRmFlags) -> Result<Exit> {
    super::each(&flags.volumes, |name| {
        if volume::load(store, name)?.is_some() || !flags.force {
            volume::remove(store, name, None)?;
        }
        Ok(Some(name.to_owned()))
    })
}

fn prune(store: &Store, flags: &VolumePruneFlags) -> Result<Exit> {
    let what = if flags.all { "all local volumes" } else { "anonymous local volumes" };
    let warning = format!("WARNING! This will remove {what} not used by at least one container.");
    if !flags.force && !confirmed(&warning)? {
        return Ok(Exit::Ok);
    }
    volume::prune(store)?;
    let (mut removed, mut freed) = (Vec::new(), 0);
    for known in volume::list(store)? {
        let mut fits = flags.all || known.anonymous;
        for filter in &flags.filter {
            fits &= match filter.split_once('=') {
                Some(("label", label)) => has_label(&known.labels, label),
                Some(("label!", label)) => !has_label(&known.labels, label),
                Some(("all", _)) => true,
                _ => fault!(Usage, "invalid filter '{filter}'"),
            };
        }
        // One that is in use stays: that is what pruning means.
        if fits && let Ok(size) = volume::remove(store, &known.name, None) {
            freed += size;
            removed.push(known.name);
        }
    }
    if !removed.is_empty() {
        show::text(&format!("Deleted Volumes:\n{}\n\n", removed.join("\n")))?;
    }
    show::line(&format!("Total reclaimed space: {}", human::size(freed)))?;
    Ok(Exit::Ok)
}
