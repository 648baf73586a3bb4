//! From a registry into the store.

use anyhow::Result;
use contracts::fault::{Fault, Kind};

use super::{Moved, Options};
use crate::place::local::LocalSink;
use crate::place::remote::RemoteSource;
use crate::reference::Reference;
use crate::registry::Client;
use crate::store::Store;

/// Blobs at a time, where the user does not say: as docker.
pub const JOBS: usize = 3;

/// A finished pull.
pub struct Pulled {
    /// What the registry has and what the store has now.
    pub moved: Moved,
    /// The store had it already, under this name.
    pub up_to_date: bool,
}

/// Pulls `name` and gives it that name; with `unpack`, its layers are extracted on the way where it is for this machine.
/// An image pulled by digest gets no name.
///
/// # Errors
/// `NotFound`; `Remote`; no space. The name then points to what it pointed to before.
pub fn pull(
    store: &Store,
    client: &Client,
    name: &Reference,
    options: &Options,
    unpack: bool,
) -> Result<Pulled> {
    let lease = store.lease()?;
    let source = RemoteSource::new(client, name)?;
    let asked = crate::place::Source::top(&source).map_err(|err| told(err, name))?;
    let names: Vec<Reference> = if name.digest().is_some() { Vec::new() } else { vec![name.clone()] };
    let before = store.resolve(&name.to_string()).ok().map(|(_, entry)| entry.digest);
    let known_as = name.with_digest(asked.digest.clone());
    let mut sink = LocalSink::new(store, &lease, names, Some(known_as));
    if unpack {
        sink = sink.unpacking()?;
    }
    let moved = super::transfer_document(&source, &sink, options, asked)?;
    let up_to_date = before.as_ref() == Some(&moved.stored.digest);
    Ok(Pulled { moved, up_to_date })
}

/// A missing manifest, with the name as the user wrote it.
fn told(err: anyhow::Error, name: &Reference) -> anyhow::Error {
    if Kind::of(&err) == Some(Kind::NotFound) {
        let why = format!("{err:#}");
        let why =
            why.split_once(" not found").map_or(why.as_str(), |(_, rest)| rest.trim_start_matches(": "));
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        return Fault::new(Kind::NotFound, format!("manifest for {} not found{why}", name.familiar())).into();
    }
    err
}
