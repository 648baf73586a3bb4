//! Garbage collection beside other commands, and after those that were killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::rig::Rig;
use crate::rig::image::{noise, parts, sha256};
use crate::rig::peer::{Answer, Peer};

#[test]
fn a_running_pull_keeps_its_blobs_from_the_collector() {
    let rig = Rig::new();
    let whole = parts(b"x");
    let layer = sha256(&whole.2);
    let go = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&go);
    let peer = Peer::with_image(whole.clone(), move |asked, _| {
        if asked.path.ends_with(&layer) {
            while !gate.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        None
    });
    let mut pull = rig.start(&format!("pull -j1 {}/x", peer.host));
    // The config is there, held by no name.
    let end = Instant::now() + Duration::from_secs(20);
    while rig.blobs().is_empty() {
        assert!(Instant::now() < end, "the config does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
    rig.ok("prune -a");
    assert_eq!(rig.blobs(), [&sha256(&whole.1)[7..]]);
    go.store(true, Ordering::SeqCst);
    assert!(pull.wait().unwrap().success());
    rig.ok(&format!("inspect {}/x", peer.host));
    rig.verify();
}

#[test]
fn what_a_killed_pull_left_is_collected_or_gone_on_with() {
    let rig = Rig::new();
    let whole = parts(&noise(1 << 20));
    let (layer, length, some) = (sha256(&whole.2), whole.2.len(), whole.2[..300_000].to_vec());
    let peer = Peer::with_image(whole, move |asked, _| {
        (asked.path.ends_with(&layer) && asked.header("range").is_none())
            .then(|| Answer::Stall(length, some.clone()))
    });
    let name = format!("{}/x", peer.host);
    let mut pull = rig.start(&format!("pull {name}"));
    let arrived = || {
        let files = rig.partials();
        files.iter().any(|file| {
            std::fs::metadata(rig.path("store/images/partial").join(file))
                .is_ok_and(|meta| meta.len() >= 300_000)
        })
    };
    let end = Instant::now() + Duration::from_secs(20);
    while !arrived() {
        assert!(Instant::now() < end, "the layer does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
    pull.kill().unwrap();
    pull.wait().unwrap();
    assert_eq!(rig.ok("images -q"), "", "a killed pull made an image");
    rig.ok(&format!("pull -q {name}"));
    let asked = peer.asked();
    assert_eq!(asked.iter().filter_map(|one| one.header("range")).next_back(), Some("bytes=300000-"));
    rig.verify();
    rig.ok(&format!("rmi {name}"));
    rig.ok("prune");
    assert!(rig.blobs().is_empty() && rig.partials().is_empty());
    assert!(crate::rig::names(&rig.path("store/images/leases")).is_empty());
}

#[test]
fn parallel_loads_tags_and_removals_lose_nothing() {
    let rig = Arc::new(Rig::new());
    rig.load("keep:1", "kept");
    let work = |number: usize| {
        let rig = Arc::clone(&rig);
        std::thread::spawn(move || {
            for round in 0..4 {
                let name = format!("w{number}:{round}");
                // Every image shares the layer of the others, so one's removal meets another's arrival.
                rig.load(&name, &format!("shared {}", round % 2));
                rig.ok(&format!("tag {name} n{number}:{round}"));
                rig.ok(&format!("rmi {name}"));
                rig.ok(&format!("inspect n{number}:{round}"));
            }
        })
    };
    let threads: Vec<_> = (0..3).map(work).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(rig.ok("images -f reference=n* --format {{.Tag}}").lines().count(), 12);
    rig.verify();
    rig.ok("prune -a");
    assert!(rig.blobs().is_empty());
}

#[test]
fn pruning_spares_what_was_used_last() {
    let rig = Rig::new();
    let old = rig.load("old", "first");
    rig.load("new", "second");
    let config = rig.path("store/images/blobs/sha256").join(&old[7..]);
    let week = std::time::SystemTime::now() - std::time::Duration::from_secs(7 * 24 * 3600);
    std::fs::File::open(&config).unwrap().set_modified(week).unwrap();
    // A bundle is a use, and holds its image while it is there.
    rig.ok(&format!("bundle old {}", rig.path("b").display()));
    rig.ok("prune --unused-for 1d");
    assert_eq!(rig.ok("images -q").lines().count(), 2);
    rig.ok(&format!("unbundle {}", rig.path("b").display()));
    std::fs::File::open(&config).unwrap().set_modified(week).unwrap();
    rig.ok("prune --keep-storage 1GB");
    assert_eq!(rig.ok("images -q").lines().count(), 2);
    let size = rig.blobs().len();
    let bytes: u64 = rig
        .blobs()
        .iter()
        .map(|hex| std::fs::metadata(rig.path("store/images/blobs/sha256").join(hex)).unwrap().len())
        .sum();
    rig.ok(&format!("prune --keep-storage {}", bytes - 1));
    assert_eq!(rig.ok("images --format {{.Repository}}"), "new\n");
    assert!(rig.blobs().len() < size);
    rig.fails("prune --keep-storage much", 2);
}
