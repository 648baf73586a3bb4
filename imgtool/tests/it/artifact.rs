//! artifact push, attach, pull and referrers, on a registry without the referrers API and on peers that have it.

use crate::rig::Rig;
use crate::rig::image::sha256;
use crate::rig::peer::{Answer, Peer, ok, status};
use crate::rig::registry::{Guard, Registry};

#[test]
fn files_go_and_come() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Plain));
    std::fs::write(rig.path("a.txt"), "hello").unwrap();
    std::fs::write(rig.path("b.json"), "{}").unwrap();
    let name = format!("{}/files:1", registry.host);
    let at = |file: &str| rig.path(file).display().to_string();
    let pushed = rig.ok(&format!(
        "artifact push --annotation a=b {name} {} {}:application/json",
        at("a.txt"),
        at("b.json")
    ));
    assert!(pushed.starts_with(&format!("{}/files@sha256:", registry.host)), "{pushed}");
    let manifest = rig.ok(&format!("manifest --raw {name}"));
    for part in ["\"application/json\"", "vnd.unknown.artifact", "\"a\":\"b\"", "vnd.oci.empty.v1+json"] {
        assert!(manifest.contains(part), "{part}: {manifest}");
    }
    rig.ok(&format!("artifact pull -o {} {name}", at("out/deep")));
    assert_eq!(std::fs::read_to_string(rig.path("out/deep/a.txt")).unwrap(), "hello");
    assert_eq!(crate::rig::names(&rig.path("out/deep")), ["a.txt", "b.json"]);
    assert!(rig.fails(&format!("artifact pull -k -o {} {name}", at("out/deep")), 4).contains("it exists"));
    rig.ok(&format!("artifact pull -o {} {name}", at("out/deep")));
    assert!(rig.fails(&format!("artifact push {name} {}", at("out")), 2).contains("is no file"));
}

#[test]
fn what_is_attached_is_found_by_the_tag_that_stands_for_the_list() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Plain));
    rig.load("bb:1", "x");
    let name = format!("{}/bb:1", registry.host);
    rig.ok(&format!("push bb:1 {name}"));
    std::fs::write(rig.path("sbom"), "all of it").unwrap();
    let attach = |to: &str, kind: &str| {
        rig.ok(&format!("artifact attach --artifact-type {kind} {to} {}", rig.path("sbom").display()))
    };
    let first = attach(&name, "x/sbom");
    attach(&name, "x/signature");
    attach(first.trim(), "x/nested");
    // The same again is the same.
    assert_eq!(attach(&name, "x/sbom"), first);
    let tree = rig.ok(&format!("referrers --tree {name}"));
    let lines: Vec<&str> = tree.lines().map(|line| line.split(" sha256:").next().unwrap()).collect();
    assert_eq!(lines[1..], ["├── x/sbom", "│   └── x/nested", "└── x/signature"], "{tree}");
    let listed = rig.ok(&format!("referrers --artifact-type x/sbom {name}"));
    assert!(listed.contains("x/sbom") && !listed.contains("x/signature"), "{listed}");
}

#[test]
fn titles_and_contents_are_not_believed() {
    let file = b"file".to_vec();
    let serve = |title: &str, served: Vec<u8>| {
        let layer = format!(
            r#"{{"mediaType":"a/b","digest":"{}","size":4,"annotations":{{"org.opencontainers.image.title":"{title}"}}}}"#,
            sha256(b"file")
        );
        let empty = format!(
            r#"{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{}","size":2}}"#,
            sha256(b"{}")
        );
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{empty},"layers":[{layer}]}}"#
        );
        Peer::start(move |asked, _| match asked.path.as_str() {
            "/v2/" => ok(b"{}"),
            "/v2/x/manifests/latest" => Answer::Full(200, Vec::new(), manifest.clone().into_bytes()),
            path if path.contains("/blobs/") => ok(&served),
            _ => status(404),
        })
    };
    let rig = Rig::new();
    let out = rig.path("in/out");
    let pull =
        |peer: &Peer| rig.run(&format!("artifact pull --retry 0 -o {} {}/x", out.display(), peer.host));
    // Every way out ends inside.
    pull(&serve("../../escaped", file.clone())).ok();
    pull(&serve("/absolute/escaped", file.clone())).ok();
    std::os::unix::fs::symlink(rig.path(""), out.join("link")).unwrap();
    pull(&serve("link/escaped", file.clone()));
    pull(&serve("link", file.clone())).ok();
    assert_eq!(std::fs::read(out.join("link")).unwrap(), b"file");
    assert!(out.join("escaped").exists() && out.join("absolute/escaped").exists());
    assert!(!rig.path("escaped").exists() && !rig.path("in/escaped").exists());
    // Wrong content leaves nothing, not even in part.
    let err = pull(&serve("wrong", b"fil3".to_vec())).fails(6);
    assert!(err.contains("wrong content"), "{err}");
    assert!(crate::rig::names(&out).iter().all(|name| !name.contains("wrong") && !name.starts_with('.')));
    pull(&serve("..", file)).fails(1);
}
