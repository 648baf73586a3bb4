//! Names: a symbolic link from the name to the id.

use std::fs;
use std::io::Read as _;

use anyhow::{Context as _, Result};
use contracts::fault;

use super::{Store, is_id};

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
