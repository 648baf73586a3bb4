//! Names: a symbolic link from the name to the id. Making the link is what claims the name, so two processes never
//! both get it.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::symlink;

use anyhow::{Context as _, Result};
use contracts::fault;

use super::{Store, is_id, make_dir};

const FIRST: &[&str] = &[
    "amber", "bold", "brave", "bright", "brisk", "calm", "clever", "crisp", "deep", "eager", "fair", "fleet",
    "gentle", "golden", "grand", "hardy", "keen", "kind", "lively", "lucky", "merry", "misty", "nimble",
    "noble", "proud", "quick", "quiet", "salty", "silver", "steady", "stout", "sunny", "swift", "tidy",
    "trusty", "vivid", "warm", "wise",
];

const SECOND: &[&str] = &[
    "anchor",
    "beacon",
    "binnacle",
    "bosun",
    "bow",
    "bowsprit",
    "breeze",
    "buoy",
    "capstan",
    "captain",
    "clipper",
    "compass",
    "current",
    "cutter",
    "deck",
    "dory",
    "fathom",
    "galley",
    "gull",
    "halyard",
    "harbour",
    "hawser",
    "helm",
    "hull",
    "jetty",
    "keel",
    "ketch",
    "lagoon",
    "lantern",
    "mariner",
    "mast",
    "mizzen",
    "otter",
    "pilot",
    "port",
    "quay",
    "reef",
    "rigging",
    "rudder",
    "sail",
    "schooner",
    "sextant",
    "sloop",
    "spar",
    "spinnaker",
    "starboard",
    "stern",
    "tide",
    "tiller",
    "trawler",
    "wake",
    "wharf",
    "yawl",
];

/// The id that has `name`.
pub fn owner(store: &Store, name: &str) -> Option<String> {
    let id = fs::read_link(store.paths.names().join(name)).ok()?.into_os_string().into_string().ok()?;
    (is_id(&id) && store.dir(&id).join("container.json").exists()).then_some(id)
}

/// Gives `name` to `id`.
pub fn claim(store: &Store, name: &str, id: &str) -> Result<()> {
    let path = store.paths.names().join(name);
    make_dir(&store.paths.names())?;
    for _ in 0..2 {
        match symlink(id, &path) {
            Ok(()) => return Ok(()),
            Err(err) if err.kind() == ErrorKind::AlreadyExists => {}
            Err(err) => return Err(err).with_context(|| format!("claim the name {name}")),
        }
        let holder =
            fs::read_link(&path).unwrap_or_default().into_os_string().into_string().unwrap_or_default();
        if holder == id {
            return Ok(());
        }
        if store.dir(&holder).exists() && is_id(&holder) && !super::remove::debris(store, &holder)? {
            fault!(
                Exists,
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to \
                 remove (or rename) that container to be able to reuse that name."
            );
        }
        // Left by a process that was killed between this link and the container's directory.
        let _ = fs::remove_file(&path);
    }
    fault!(Busy, "the name {name} is being taken by another process")
}

/// Takes `name` from `id`; somebody else's stays.
pub fn release(store: &Store, name: &str, id: &str) {
    let path = store.paths.names().join(name);
    if fs::read_link(&path).is_ok_and(|holder| holder.as_os_str() == id) {
        let _ = fs::remove_file(path);
    }
}

/// Takes every name from `id`: where a killed process left no record to tell its name.
pub fn release_all(store: &Store, id: &str) {
    let Ok(links) = fs::read_dir(store.paths.names()) else { return };
    for link in links.flatten() {
        if let Some(name) = link.file_name().to_str() {
            release(store, name, id);
        }
    }
}

/// Docker's rule: at least two characters, no `+`.
pub fn check(name: &str) -> Result<()> {
    if name.len() < 2 || name.contains('+') || contracts::name::check("container name", name).is_err() {
        fault!(Usage, "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    }
    Ok(())
}

/// A new id: 32 random bytes.
pub fn new_id() -> Result<String> {
    use std::fmt::Write as _;
    let mut id = String::with_capacity(64);
    for byte in random::<32>()? {
        let _ = write!(id, "{byte:02x}");
    }
    Ok(id)
}

/// A made-up name; with `again` a number behind it.
pub fn made_up(again: usize) -> Result<String> {
    let [a, b] = random::<2>()?;
    let (first, second) = (FIRST[usize::from(a) % FIRST.len()], SECOND[usize::from(b) % SECOND.len()]);
    Ok(if again == 0 { format!("{first}_{second}") } else { format!("{first}_{second}{again}") })
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("read /dev/urandom")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_are_names() {
        for again in 0..50 {
            check(&made_up(again).unwrap()).unwrap();
        }
        assert!(is_id(&new_id().unwrap()) && check("a").is_err() && check("bad name").is_err());
    }
}
