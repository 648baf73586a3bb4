//! save and load.

use std::io::Write as _;

use serde_json::json;

use crate::rig::Rig;
use crate::rig::image::{archive, config, sha256, tar};

#[test]
fn several_images_survive_a_round_trip_through_a_pipe() {
    let (one, two) = (Rig::new(), Rig::new());
    one.load("web:1", "x");
    one.load("db:1", "y");
    one.ok("tag web:1 web:2");
    let mut command = one.command("save web db:1");
    let saved = command.output().unwrap();
    assert!(saved.status.success());
    assert_eq!(saved.stdout, one.command("save web db:1").output().unwrap().stdout, "not the same twice");
    let out = two.feed("load", &saved.stdout).ok();
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["Loaded image: db:1", "Loaded image: web:1", "Loaded image: web:2"]);
    assert_eq!(two.blobs(), one.blobs());
    two.verify();
}

#[test]
fn compressed_archives_load() {
    let rig = Rig::new();
    let archive = archive(&["web:1"], &[("f", b"x")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive).unwrap();
    rig.feed("load -q", &gzip.finish().unwrap()).ok();
    rig.ok("rmi web:1");
    rig.feed("load -q", &zstd::encode_all(&archive[..], 1).unwrap()).ok();
    rig.ok("inspect web:1");
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let rig = Rig::new();
    rig.load("web:1", "x");
    let path = rig.path("out.tar");
    rig.ok(&format!("save -o {} web:1", path.display()));
    assert!(path.exists());
    rig.fails(&format!("save -o {} nosuch", rig.path("no.tar").display()), 3);
    rig.fails(&format!("save -o {}/deep/no.tar web:1", rig.path("missing").display()), 1);
    let left: Vec<String> =
        crate::rig::names(&rig.path("")).into_iter().filter(|name| name.contains("tar")).collect();
    assert_eq!(left, ["out.tar"]);
}

#[test]
fn archives_that_are_none_leave_nothing() {
    let rig = Rig::new();
    let whole = archive(&["web:1"], &[("f", b"x")]);
    let no_layer =
        tar(&[("manifest.json", br#"[{"Config":"c.json","RepoTags":null,"Layers":["x/layer.tar"]}]"#)]);
    for (bad, code) in [
        (&b""[..], 7),
        (b"junk", 1),
        (&whole[..700], 1),
        (&tar(&[("etc/passwd", b"root")]), 7),
        (&no_layer, 3),
        (&tar(&[("manifest.json", b"{")]), 1),
        (b"\xfd7zXZ\0rest", 1),
    ] {
        rig.feed("load", bad).fails(code);
        assert!(rig.blobs().is_empty() && rig.partials().is_empty());
    }
    let missing = rig.fails(&format!("load -i {}", rig.path("nosuch").display()), 1);
    assert!(missing.contains("No such file"), "{missing}");
}

#[test]
fn a_layer_that_is_not_its_diff_id_is_refused() {
    let rig = Rig::new();
    let config = config(b"another layer");
    let manifest =
        serde_json::to_vec(&json!([{ "Config": "c", "RepoTags": ["a:1"], "Layers": ["l"] }])).unwrap();
    let bad = tar(&[("l", &tar(&[("f", b"x")])), ("c", &config), ("manifest.json", &manifest)]);
    assert!(rig.feed("load", &bad).fails(1).contains("wrong content"));
    assert!(rig.blobs().is_empty());
}

#[test]
fn a_layout_whose_blob_lies_about_its_digest_is_refused() {
    let rig = Rig::new();
    let index = json!({ "schemaVersion": 2, "manifests": [] });
    let bad = tar(&[
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        (&format!("blobs/sha256/{}", &sha256(b"right")[7..]), b"wrong"),
        ("index.json", &serde_json::to_vec(&index).unwrap()),
    ]);
    assert!(rig.feed("load", &bad).fails(1).contains("wrong content"));
    assert!(rig.blobs().is_empty() && rig.partials().is_empty());
}

#[test]
fn a_full_disk_leaves_the_store_as_it_was() {
    let rig = Rig::new();
    let archive = archive(&["big:1"], &[("f", &crate::rig::image::noise(3 << 20))]);
    let file = rig.path("big.tar");
    std::fs::write(&file, archive).unwrap();
    // A small disk of its own, in a mount namespace of its own.
    let script = format!(
        "mkdir -p {store} && mount -t tmpfs -o size=2m none {store} && {tool} images && {tool} load -i {file}; \
         echo code $?; {tool} images -q; find {store} -type f",
        store = rig.path("store").display(),
        tool = env!("CARGO_BIN_EXE_imgtool"),
        file = file.display()
    );
    let mut command = std::process::Command::new("unshare");
    rig.furnish(&mut command);
    let output = command.args(["-m", "sh", "-c", &script]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("code 1") && err.contains("No space left on device"), "{out}{err}");
    let files: Vec<&str> = out.lines().filter(|line| line.contains("/store/")).collect();
    assert_eq!(files.len(), 3, "only lock, index.json and oci-layout: {files:?}");
}
