//! Additional stores: used, never written.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::rig::{Ended, Rig, names};

/// A rig that reads the store of another one.
struct Pair {
    there: Rig,
    here: Rig,
}

impl Pair {
    fn new() -> Self {
        Self { there: Rig::new(), here: Rig::new() }
    }

    fn run(&self, arguments: &str) -> Ended {
        let mut command = self.here.command(arguments);
        command.env("BULKHEAD_STORES", self.there.path("store"));
        Ended::of(arguments, command.output().unwrap())
    }

    fn ok(&self, arguments: &str) -> String {
        self.run(arguments).ok()
    }
}

/// Every file below, with what would change if it were written.
fn state(dir: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, u64)> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.insert(path, (meta.ino(), meta.ctime(), meta.ctime_nsec(), meta.len()));
    }
    all
}

fn layers(rig: &Rig) -> Vec<String> {
    names(&rig.path("store/layers")).into_iter().filter(|name| name.len() == 64).collect()
}

#[test]
fn images_of_an_additional_store_are_used_and_never_written() {
    let pair = Pair::new();
    let id = pair.there.load("web:1", "content");
    pair.there.ok(&format!("bundle web:1 {}", pair.there.path("b").display()));
    let before = state(&pair.there.path("store"));
    assert_eq!(layers(&pair.there).len(), 1);

    // Seen by name and by id, and listed beside our own.
    pair.here.load("own:1", "mine");
    assert_eq!(pair.ok("images --format {{.Repository}} -f reference=web"), "web\n");
    assert_eq!(pair.ok("images -q").lines().count(), 2);
    assert_eq!(pair.ok(&format!("inspect {} -f {{{{.Id}}}}", &id[7..19])).trim(), id);
    let own = pair.here.blobs();

    // The layer there is the lower directory here.
    let dir = pair.here.path("b");
    pair.ok(&format!("bundle --pull never web:1 {}", dir.display()));
    assert_eq!(fs::read_to_string(dir.join("rootfs/file")).unwrap(), "content");
    fs::write(dir.join("rootfs/file"), "changed").unwrap();
    assert!(layers(&pair.here).is_empty());
    pair.ok(&format!("umount {}", dir.display()));
    pair.ok(&format!("mount {}", dir.display()));
    assert_eq!(fs::read_to_string(dir.join("rootfs/file")).unwrap(), "changed");
    assert_eq!(pair.ok(&format!("diff {}", dir.display())), "C /file\n");
    pair.ok(&format!("unbundle {}", dir.display()));

    // Saved, copied and verified from there.
    let tar = pair.here.path("web.tar");
    pair.ok(&format!("save -o {} web:1", tar.display()));
    pair.ok(&format!("copy -q store:web:1 oci:{}:web", pair.here.path("layout").display()));
    pair.ok("verify web:1");
    assert_eq!(pair.here.blobs(), own, "something was copied");

    // A build on it adds its own layer only; a tag adds nothing.
    let context = pair.here.path("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), "FROM web:1\nCOPY Dockerfile /\n").unwrap();
    pair.ok(&format!("build -q -t made:1 {}", context.display()));
    let lower = layers(&pair.there);
    assert!(!pair.here.path("store/layers").join(&lower[0]).exists());
    assert!(!pair.here.blobs().contains(&lower[0]), "the base's layer was copied");
    pair.ok(&format!("bundle made:1 {}", dir.display()));
    assert!(dir.join("rootfs/file").exists() && dir.join("rootfs/Dockerfile").exists());
    pair.ok(&format!("unbundle {}", dir.display()));
    pair.ok("tag web:1 mine:1");

    // What is there cannot be removed, what is ours can; nothing there is ever collected.
    let told = pair.run("rmi web:1").fails(1);
    assert!(told.contains("additional store"), "{told}");
    assert_eq!(pair.ok("rmi mine:1").trim(), "Untagged: mine:1");
    pair.ok("prune -a --build-cache");
    assert_eq!(pair.ok("images --format {{.Repository}}"), "web\n");
    assert!(pair.here.blobs().is_empty(), "{:?}", pair.here.blobs());
    assert_eq!(state(&pair.there.path("store")), before, "the additional store was written");

    // A name here hides the same one there.
    pair.here.load("web:1", "newer");
    pair.ok(&format!("bundle web:1 {}", dir.display()));
    assert_eq!(fs::read_to_string(dir.join("rootfs/file")).unwrap(), "newer");
    pair.ok(&format!("unbundle {}", dir.display()));
    pair.there.ok(&format!("unbundle {}", pair.there.path("b").display()));
}

#[test]
fn layers_that_cannot_be_used_there_are_extracted_here() {
    let pair = Pair::new();
    pair.there.load("web:1", "content");
    let dir = pair.here.path("b");
    // Blobs only.
    pair.there.ok("prune");
    let _ = fs::remove_dir_all(pair.there.path("store/layers"));
    pair.ok(&format!("bundle web:1 {}", dir.display()));
    assert_eq!(layers(&pair.here).len(), 1);
    pair.ok("prune -a");
    assert_eq!(fs::read_to_string(dir.join("rootfs/file")).unwrap(), "content");
    pair.ok(&format!("unbundle {}", dir.display()));
    fs::remove_dir_all(pair.here.path("store/layers")).unwrap();

    // Extracted before a crash of that machine.
    pair.there.ok(&format!("bundle web:1 {}", pair.there.path("b").display()));
    let layer = pair.there.path("store/layers").join(&layers(&pair.there)[0]);
    sys::xattr::set(fs::File::open(&layer).unwrap(), "trusted.bulkhead.boot".as_ref(), b"other 1").unwrap();
    pair.ok(&format!("bundle web:1 {}", dir.display()));
    assert_eq!(layers(&pair.here).len(), 1);
    pair.ok(&format!("unbundle {}", dir.display()));
    pair.there.ok(&format!("unbundle {}", pair.there.path("b").display()));
}

#[test]
fn the_file_of_stores_counts_where_the_variable_is_not_set() {
    let pair = Pair::new();
    pair.there.load("web:1", "content");
    fs::create_dir_all(pair.here.path("config")).unwrap();
    let stores = pair.here.path("config/stores");
    fs::write(&stores, format!("# shared\n\n{}\n", pair.there.path("store").display())).unwrap();
    pair.here.ok("inspect web:1");
    let dir = pair.here.path("b");
    pair.here.ok(&format!("bundle web:1 {}", dir.display()));
    fs::write(&stores, "/nowhere/at/all\n").unwrap();
    // One that is away is told of, and what is here works without it.
    pair.here.load("own", "x");
    let listed = pair.here.run("images --format {{.Repository}}");
    assert!(listed.stderr().contains("WARNING: additional store /nowhere/at/all: no images there"));
    assert_eq!(listed.ok(), "own\n");
    assert!(pair.here.fails("inspect web:1", 3).contains("no such image"));
    // What is here can still be taken down.
    pair.here.ok(&format!("umount {}", dir.display()));
    pair.here.ok(&format!("unbundle {}", dir.display()));
    assert!(!dir.exists());
    fs::write(&stores, "relative\n").unwrap();
    assert!(pair.here.fails("images", 1).contains("not an absolute path"));
    pair.ok("inspect web:1");
}
