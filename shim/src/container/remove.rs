//! A container goes, with everything it had.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use contracts::atomic;
use contracts::container::{Container, Status};
use contracts::lock::Lock;

use super::{Store, image_mounts, make_dir, names, shared_memory, subpaths, unmount};
use crate::{events, tools, volume};

/// How long a rotated log may take to be compressed, at most.
const COMPRESSION: Duration = Duration::from_secs(30);
/// The record of a container that is being removed.
const RETIRED: &str = "removing.json";

/// Removes a container that does not run. From the first step on it is gone for everybody else; what a killed removal
/// leaves, [`debris`] finds and removes.
pub fn everything(store: &Store, record: &Container, volumes: bool) -> Result<()> {
    retire(store, record);
    clear(store, record, volumes)
}

/// Takes the name and the record away: the container cannot be found any more.
pub fn retire(store: &Store, record: &Container) {
    let dir = store.dir(&record.id);
    // The record before the name: a container that is still there must not be without its name, should we be killed.
    let _ = fs::rename(dir.join("container.json"), dir.join(RETIRED));
    names::release(store, &record.name, &record.id);
}

/// Removes what a retired container had.
pub fn clear(store: &Store, record: &Container, volumes: bool) -> Result<()> {
    let _ = tools::run(tools::runtime(store, record).args(["delete", "--force", &record.id]));
    tools::network_down(&record.id)?;
    if volumes {
        anonymous_volumes(store, record);
    }
    files(store, &record.id)?;
    volume::options::release(store, record)?;
    events::container(store, record, "destroy", &[]);
    Ok(())
}

/// Its volumes without a name, unless another container uses them as well (--volumes-from).
pub fn anonymous_volumes(store: &Store, record: &Container) {
    for point in record.mounts.iter().filter(|point| point.anonymous) {
        let _ = volume::remove(store, &point.name, Some(&record.id));
    }
}

/// The bundle and the directories.
pub fn files(store: &Store, id: &str) -> Result<()> {
    let bundle = store.bundle(id);
    shared_memory::remove(&bundle)?;
    subpaths::remove(&bundle)?;
    image_mounts::remove(&bundle)?;
    image_mounts::unbundle(&bundle)?;
    unmount::hold(store, id, 0)?;
    live(store, id)?;
    gone(&store.dir(id))
}

/// Takes `STATE/shim/<id>` away. Aside first, in one step: whoever waits for it to go may make it anew at once, and
/// none of that must go with the old one.
pub fn live(store: &Store, id: &str) -> Result<()> {
    let (from, aside) = (store.live(id), aside(store));
    let to = aside.join(format!("{id}.{}", std::process::id()));
    loop {
        match fs::rename(&from, &to) {
            Ok(()) => break,
            Err(err) if err.kind() == ErrorKind::NotFound && !from.exists() => break,
            // Or another command swept it away meanwhile.
            Err(err) if err.kind() == ErrorKind::NotFound => make_dir(&aside)?,
            // Left by a process of our number that was killed.
            Err(err) if err.kind() == ErrorKind::DirectoryNotEmpty => gone(&to)?,
            Err(err) => return Err(err).with_context(|| format!("take {} away", from.display())),
        }
    }
    sweep(store);
    Ok(())
}

/// Removes what was taken away, also by processes that were killed before they had removed it.
pub fn sweep(store: &Store) {
    let aside = aside(store);
    let Ok(entries) = fs::read_dir(&aside) else { return };
    for entry in entries.flatten() {
        let _ = fs::remove_dir_all(entry.path());
    }
    let _ = fs::remove_dir(aside);
}

fn aside(store: &Store) -> std::path::PathBuf {
    store.live(".gone")
}

/// Whether `id` is what a killed `create` or `rm` left: a directory without a record that nobody holds and nobody is
/// at work on. It is removed.
pub fn debris(store: &Store, id: &str) -> Result<bool> {
    let dir = store.dir(id);
    if dir.join("container.json").exists() {
        return Ok(false);
    }
    if atomic::read_json::<Status>(&store.live(id).join("status.json"))?
        .is_some_and(|status| status.owner.is_some_and(|owner| owner.is_running()))
    {
        return Ok(false);
    }
    let Some(_lock) = Lock::try_exclusive(&dir.join("lock"))? else { return Ok(false) };
    if dir.join("container.json").exists() {
        return Ok(false);
    }
    if let Some(record) = atomic::read_json::<Container>(&dir.join(RETIRED))? {
        names::release(store, &record.name, id);
        clear(store, &record, record.host_config.auto_remove)?;
        return Ok(true);
    }
    let _ = tools::network_down(id);
    // Its name is in no record yet. Before the directory, without which nobody would look for the link again.
    names::release_all(store, id);
    files(store, id)?;
    Ok(true)
}

fn gone(path: &Path) -> Result<()> {
    let until = Instant::now() + COMPRESSION;
    loop {
        match fs::remove_dir_all(path) {
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(()),
            // Who compresses a rotated log has just put it there.
            Err(err) if err.kind() == ErrorKind::DirectoryNotEmpty && Instant::now() < until => {
                sleep(Duration::from_millis(1));
            }
            other => return other.with_context(|| format!("remove {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_there_meanwhile_goes_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("container");
        fs::create_dir(&path).unwrap();
        let (to, until) = (path.clone(), Instant::now() + Duration::from_millis(300));
        let writer = std::thread::spawn(move || {
            (0..)
                .take_while(|_| Instant::now() < until)
                .filter(|n| fs::write(to.join(n.to_string()), "").is_ok())
                .count()
        });
        while fs::read_dir(&path).unwrap().count() < 50 {}
        gone(&path).unwrap();
        assert!(!path.exists());
        assert!(writer.join().unwrap() >= 50);
    }

    #[test]
    fn a_live_side_goes_in_one_step_and_what_killed_processes_left_with_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path(), dir.path());
        live(&store, "a").unwrap();
        for left in [format!("a.{}", std::process::id()), "b.1".into()] {
            make_dir(&aside(&store).join(left).join("deeper")).unwrap();
        }
        make_dir(&store.live("a")).unwrap();
        make_dir(&store.live("c")).unwrap();
        live(&store, "a").unwrap();
        let names: Vec<_> =
            fs::read_dir(dir.path().join("shim")).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["c"]);
    }
}
