//! Layers that are extracted while their blobs come in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::rig::image::{config, manifest, noise, parts, sha256, tar};
use crate::rig::peer::{Answer, Peer, status};
use crate::rig::{Rig, names};

/// No retries and short patience, for peers that will not get better.
const ONCE: &str = "--retry 0 --timeout 20";

/// What stands below `layers`, without the lock.
fn layers(rig: &Rig) -> Vec<String> {
    names(&rig.path("store/layers")).into_iter().filter(|name| name != "lock").collect()
}

fn hex(bytes: &[u8]) -> String {
    sha256(bytes)[7..].to_owned()
}

#[test]
fn a_pull_leaves_its_layers_extracted() {
    let rig = Rig::new();
    let whole = parts(b"content");
    let (layer, peer) = (hex(&whole.2), Peer::with_image(whole, |_, _| None));
    rig.ok(&format!("pull {ONCE} {}/x", peer.host));
    assert_eq!(layers(&rig), [layer.as_str()]);
    assert_eq!(std::fs::read(rig.path("store/layers").join(&layer).join("file")).unwrap(), b"content");
    // They belong to the image and go with it.
    rig.ok("prune");
    assert_eq!(layers(&rig), [layer.as_str()]);
    rig.ok(&format!("rmi {}/x", peer.host));
    assert!(layers(&rig).is_empty());

    rig.ok(&format!("pull {ONCE} --no-unpack {}/x", peer.host));
    assert!(layers(&rig).is_empty());
    // The next pull makes up for it, although no blob comes in.
    rig.ok(&format!("pull {ONCE} {}/x", peer.host));
    assert_eq!(layers(&rig), [layer]);
}

#[test]
fn a_layer_that_is_not_what_its_image_says_is_refused() {
    let rig = Rig::new();
    let layer = tar(&[("file", b"one")]);
    let config = config(&tar(&[("file", b"two")]));
    let peer = Peer::with_image((manifest(&config, &layer), config, layer), |_, _| None);
    let err = rig.fails(&format!("pull {ONCE} {}/x", peer.host), 1);
    assert!(err.contains("wrong content: its diff id is"), "{err}");
    assert_eq!(rig.ok("images -q"), "");
    assert!(layers(&rig).is_empty());
    rig.ok("prune");
    assert!(rig.blobs().is_empty());
}

#[test]
fn a_bad_archive_with_the_right_digest_is_refused() {
    for bad in [b"no archive at all, but long enough for one".repeat(20), tar(&[(".wh..", b"")])] {
        let rig = Rig::new();
        let config = config(&bad);
        let peer = Peer::with_image((manifest(&config, &bad), config, bad), |_, _| None);
        let err = rig.fails(&format!("pull {ONCE} {}/x", peer.host), 1);
        assert!(err.contains("layer "), "{err}");
        assert!(layers(&rig).is_empty());
    }
}

#[test]
fn a_layer_goes_on_with_its_blob() {
    let rig = Rig::new();
    let whole = parts(&noise(1 << 20));
    let (layer, length) = (sha256(&whole.2), whole.2.len());
    let broken = Arc::new(AtomicBool::new(true));
    let (still, half) = (Arc::clone(&broken), whole.2[..length / 2].to_vec());
    let peer = Peer::with_image(whole, move |asked, _| {
        let cut = asked.path.ends_with(&layer) && still.load(Ordering::SeqCst);
        cut.then(|| {
            if asked.header("range").is_some() { status(503) } else { Answer::Cut(length, half.clone()) }
        })
    });
    rig.fails(&format!("pull {ONCE} {}/x", peer.host), 6);
    assert!(layers(&rig).is_empty(), "half a layer is left");
    broken.store(false, Ordering::SeqCst);
    rig.ok(&format!("pull {ONCE} {}/x", peer.host));
    let extracted = rig.path("store/layers").join(&layers(&rig)[0]).join("file");
    assert_eq!(std::fs::read(extracted).unwrap(), noise(1 << 20));
}

#[test]
fn what_a_killed_pull_had_extracted_is_swept() {
    let rig = Rig::new();
    let whole = parts(&noise(1 << 20));
    let (layer, length) = (sha256(&whole.2), whole.2.len());
    let half = whole.2[..length / 2].to_vec();
    let peer = Peer::with_image(whole, move |asked, nth| {
        (asked.path.ends_with(&layer) && nth == 0).then(|| Answer::Stall(length, half.clone()))
    });
    let mut child = rig.start(&format!("pull --timeout 600 {}/x", peer.host));
    let end = Instant::now() + Duration::from_secs(60);
    while layers(&rig).is_empty() || rig.partials().is_empty() {
        assert!(Instant::now() < end, "nothing was extracted beside the download");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Not from under somebody who is at it.
    rig.ok("prune");
    assert_eq!(layers(&rig).len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    rig.ok("prune");
    assert!(layers(&rig).is_empty());
    rig.ok(&format!("pull {ONCE} {}/x", peer.host));
    assert_eq!(layers(&rig).len(), 1);
}

#[test]
fn two_pulls_of_one_image_at_a_time_get_along() {
    let rig = Rig::new();
    let whole = parts(&noise(4 << 20));
    let peer = Peer::with_image(whole, |_, _| None);
    let mut children: Vec<_> = (0..4).map(|_| rig.start(&format!("pull {ONCE} {}/x", peer.host))).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(layers(&rig).len(), 1);
    rig.verify();
}

#[test]
fn another_machines_layers_stay_packed() {
    let rig = Rig::new();
    let layer = tar(&[("file", b"x")]);
    let config = String::from_utf8(config(&layer)).unwrap().replace("amd64", "s390x").into_bytes();
    let peer = Peer::with_image((manifest(&config, &layer), config, layer), |_, _| None);
    rig.ok(&format!("pull {ONCE} --platform linux/s390x {}/x", peer.host));
    assert!(layers(&rig).is_empty());
}
