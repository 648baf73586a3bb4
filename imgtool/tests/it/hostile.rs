//! Registries that lie, stall, break off, or send us elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::rig::Rig;
use crate::rig::image::{noise, parts, sha256};
use crate::rig::peer::{Answer, Peer, ok, status};

/// No retries and short patience, for peers that will not get better.
const ONCE: &str = "--retry 0 --timeout 2";

fn nothing_kept(rig: &Rig) {
    assert_eq!(rig.ok("images -q"), "");
    rig.ok("prune");
    assert!(rig.blobs().is_empty() && rig.partials().is_empty());
}

#[test]
fn a_wrong_blob_is_refused() {
    let rig = Rig::new();
    let whole = parts(b"right");
    let layer = sha256(&whole.2);
    let peer = Peer::with_image(whole.clone(), move |asked, _| {
        asked.path.ends_with(&layer).then(|| ok(&vec![0; whole.2.len()]))
    });
    let err = rig.fails(&format!("pull {ONCE} {}/x", peer.host), 6);
    assert!(err.contains("wrong content"), "{err}");
    assert_eq!(rig.partials(), Vec::<String>::new(), "a wrong blob must not be gone on with");
    nothing_kept(&rig);
}

#[test]
fn a_wrong_manifest_is_refused() {
    let rig = Rig::new();
    let peer = Peer::with_image(parts(b"x"), |asked, _| {
        let digest = ("docker-content-digest".to_owned(), sha256(b"another"));
        asked.path.contains("manifests").then(|| Answer::Full(200, vec![digest], parts(b"x").0))
    });
    assert!(rig.fails(&format!("pull {ONCE} {}/x", peer.host), 6).contains("other content than digest"));
    nothing_kept(&rig);
}

#[test]
fn a_blob_that_is_too_short_or_endless_is_refused() {
    for extra in [-1, 100_000] {
        let rig = Rig::new();
        let whole = parts(b"x");
        let layer = sha256(&whole.2);
        let peer = Peer::with_image(whole.clone(), move |asked, _| {
            let length = whole.2.len().checked_add_signed(extra).unwrap();
            asked.path.ends_with(&layer).then(|| ok(&vec![0; length]))
        });
        rig.fails(&format!("pull {ONCE} {}/x", peer.host), 6);
        nothing_kept(&rig);
    }
}

#[test]
fn silence_is_bounded() {
    let rig = Rig::new();
    let whole = parts(b"x");
    let layer = sha256(&whole.2);
    let peer = Peer::with_image(whole, move |asked, _| {
        asked.path.ends_with(&layer).then(|| Answer::Stall(2048, vec![0; 10]))
    });
    let start = Instant::now();
    rig.fails(&format!("pull --retry 0 --timeout 1 {}/x", peer.host), 6);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
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
    let name = format!("{}/x", peer.host);
    rig.fails(&format!("pull {ONCE} {name}"), 6);
    assert_eq!(rig.partials().len(), 1);
    broken.store(false, Ordering::SeqCst);
    rig.ok(&format!("pull {ONCE} {name}"));
    let ranges: Vec<String> =
        peer.asked().iter().filter_map(|asked| asked.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges.last().unwrap(), &format!("bytes={}-", length / 2));
    assert!(rig.partials().is_empty());
    rig.verify();
}

#[test]
fn a_connection_that_breaks_is_mended_in_the_same_pull() {
    let rig = Rig::new();
    let whole = parts(&noise(1 << 20));
    let (layer, length) = (sha256(&whole.2), whole.2.len());
    let half = whole.2[..length / 2].to_vec();
    let peer = Peer::with_image(whole, move |asked, nth| {
        (asked.path.ends_with(&layer) && nth == 0).then(|| Answer::Cut(length, half.clone()))
    });
    rig.ok(&format!("pull --retry-delay 0.01 {}/x", peer.host));
    rig.verify();
}

#[test]
fn a_busy_registry_is_asked_again_when_it_says() {
    let rig = Rig::new();
    let peer = Peer::with_image(parts(b"x"), |asked, nth| {
        let later = ("retry-after".to_owned(), "1".to_owned());
        (asked.path.contains("manifests") && nth == 0).then(|| Answer::Full(429, vec![later], Vec::new()))
    });
    let start = Instant::now();
    rig.ok(&format!("pull --retry-delay 30 {}/x", peer.host));
    assert!((Duration::from_secs(1)..Duration::from_secs(20)).contains(&start.elapsed()));
    let down = Peer::start(|_, _| status(500));
    assert!(rig.fails(&format!("pull --retry 1 --retry-delay 0.01 {}/x", down.host), 6).contains("500"));
    assert_eq!(down.asked().iter().filter(|asked| asked.path.contains("manifests")).count(), 2);
}

#[test]
fn credentials_stay_home_on_a_redirect() {
    let rig = Rig::new();
    let whole = parts(b"x");
    let layer = whole.2.clone();
    let elsewhere = Peer::start(move |_, _| ok(&layer));
    let (digest, to) = (sha256(&whole.2), format!("http://{}/cdn?sig=1", elsewhere.host));
    let peer = Peer::with_image(whole, move |asked, _| {
        if asked.path != "/v2/" && asked.header("authorization").is_none() {
            let challenge = ("www-authenticate".to_owned(), "Basic realm=x".to_owned());
            return Some(Answer::Full(401, vec![challenge], Vec::new()));
        }
        let there = ("location".to_owned(), to.clone());
        asked.path.ends_with(&digest).then(|| Answer::Full(307, vec![there], Vec::new()))
    });
    rig.ok(&format!("pull --creds user:secret {}/x", peer.host));
    let seen = elsewhere.asked();
    assert!(!seen.is_empty() && seen.iter().all(|asked| asked.header("authorization").is_none()), "{seen:?}");
    rig.verify();
}

#[test]
fn tokens_are_fetched_for_the_scope_and_again_when_they_expire() {
    let rig = Rig::new();
    let tokens = Peer::start(|asked, nth| {
        assert!(asked.path.contains("scope=repository%3Ax%3Apull") && asked.path.contains("service=reg"));
        ok(format!("{{\"token\":\"t{nth}\"}}").as_bytes())
    });
    let whole = parts(b"x");
    let layer = sha256(&whole.2);
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"reg\"", tokens.host);
    let peer = Peer::with_image(whole, move |asked, _| {
        let token = asked.header("authorization");
        // The layer needs a newer token than the manifest.
        let good = match token {
            Some("Bearer t0") => !asked.path.ends_with(&layer),
            Some(_) => true,
            None => asked.path == "/v2/",
        };
        (!good).then(|| Answer::Full(401, vec![("www-authenticate".into(), realm.clone())], Vec::new()))
    });
    rig.ok(&format!("pull -j1 {}/x", peer.host));
    assert_eq!(tokens.asked().len(), 2);
}

#[test]
fn documents_that_are_no_images_are_refused() {
    let config = format!("{{\"digest\":\"{}\",\"size\":2}}", sha256(b"{}"));
    let huge = vec![b' '; 5 << 20];
    for bad in [
        b"<html>".to_vec(),
        br#"{"schemaVersion":1,"fsLayers":[]}"#.to_vec(),
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#).into_bytes(),
        br#"{"schemaVersion":2,"config":{"digest":"sha256:../../x","size":1},"layers":[]}"#.to_vec(),
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{config}]}}"#).into_bytes(),
        br#"{"schemaVersion":2,"manifests":[]}"#.to_vec(),
        huge,
    ] {
        let rig = Rig::new();
        let shown = String::from_utf8_lossy(&bad[..bad.len().min(60)]).into_owned();
        let peer = Peer::start(move |asked, _| match asked.path.as_str() {
            "/v2/x/manifests/latest" => ok(&bad),
            path if path.ends_with(&sha256(b"{}")) => ok(b"{}"),
            _ => status(404),
        });
        let ended = rig.run(&format!("pull {ONCE} {}/x", peer.host));
        let code = ended.output.status.code().unwrap();
        assert!([1, 3, 6, 7].contains(&code), "{shown}: {code} {}", ended.stderr());
        ended.fails(code);
        nothing_kept(&rig);
    }
}

#[test]
fn a_layout_with_another_config_than_it_says_is_refused() {
    let rig = Rig::new();
    let id = rig.load("web", "x");
    let layout = rig.path("layout");
    rig.ok(&format!("copy -q store:web oci:{}:web", layout.display()));
    rig.ok("rmi web");
    let config = layout.join("blobs/sha256").join(&id[7..]);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("linux", "linus")).unwrap();
    // The code of wrong content, wherever it comes from.
    let told = rig.fails(&format!("copy -q oci:{}:web store:web", layout.display()), 6);
    assert!(told.contains("wrong content") && told.contains(&id), "{told}");
    nothing_kept(&rig);
}
