//! copy between places.

use crate::rig::Rig;
use crate::rig::registry::{Guard, Registry};

#[test]
fn every_place_gives_back_what_it_got() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Plain));
    let id = rig.load("bb:1", "x");
    let at = |name: &str| rig.path(name).display().to_string();
    let stops = [
        format!("docker://{}/a/bb:1", registry.host),
        format!("docker://{}/b/bb:1", registry.host),
        format!("oci:{}:name", at("layout")),
        format!("oci-archive:{}:bb:1", at("oci.tar")),
        format!("docker-archive:{}:bb:1", at("docker.tar")),
        format!("dir:{}", at("dir")),
        "store:last:1".to_owned(),
    ];
    let mut from = "store:bb:1".to_owned();
    for to in stops {
        rig.ok(&format!("copy {from} {to}"));
        from = to;
    }
    assert_eq!(rig.ok("inspect last:1 -f {{.Id}}").trim(), id);
    assert_eq!(
        rig.ok("inspect last:1 -f {{.Descriptor.digest}}"),
        rig.ok("inspect bb:1 -f {{.Descriptor.digest}}"),
        "the manifest changed on the way"
    );
    rig.verify();
    assert_eq!(rig.ok("images -q").lines().count(), 1, "an archive on the way left an image");
}

#[test]
fn places_that_do_not_fit_are_refused() {
    let rig = Rig::new();
    rig.load("bb:1", "x");
    std::fs::write(rig.path("file"), "x").unwrap();
    let dir = rig.path("").display().to_string();
    rig.fails(&format!("copy store:bb:1 dir:{dir}"), 4);
    rig.fails(&format!("copy store:bb:1 oci:{dir}"), 4);
    rig.fails(&format!("copy oci:{dir} store:x"), 3);
    assert_eq!(rig.run("copy bb:1 store:x").output.status.code(), Some(2));
    let nobody = rig.fails("copy --src-daemon-host unix:///nonexistent docker-daemon:x store:x", 6);
    assert!(nobody.contains("engine at unix:///nonexistent"), "{nobody}");
    rig.fails("copy --src-daemon-host ssh://host docker-daemon:x store:x", 7);
    rig.fails("copy --dest-compress-format zstd:chunked store:bb:1 store:x", 7);
    rig.fails("copy --dest-compress-format gzip --dest-compress-level 10 store:bb:1 store:x", 2);
}

#[test]
fn a_layout_with_links_does_not_lead_out() {
    let rig = Rig::new();
    let id = rig.load("bb:1", "secret of the host");
    let layout = rig.path("layout");
    rig.ok(&format!("copy store:bb:1 oci:{}", layout.display()));
    // Its config becomes a link to the same bytes outside.
    let blob = layout.join("blobs/sha256").join(&id[7..]);
    let outside = rig.path("outside");
    std::fs::rename(&blob, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &blob).unwrap();
    rig.ok("rmi bb:1");
    rig.fails(&format!("copy oci:{} store:x", layout.display()), 1);
    assert_eq!(rig.ok("images -q"), "");
}

#[test]
fn indexes_in_indexes_end_somewhere() {
    let rig = Rig::new();
    rig.load("bb:1", "x");
    let layout = rig.path("layout");
    rig.ok(&format!("copy store:bb:1 oci:{}", layout.display()));
    let path = layout.join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let kind = "application/vnd.oci.image.index.v1+json";
    for depth in 0..4 {
        let inner = serde_json::json!({
            "schemaVersion": 2, "mediaType": kind, "manifests": [index["manifests"][0]],
        });
        let bytes = serde_json::to_vec(&inner).unwrap();
        let digest = crate::rig::image::sha256(&bytes);
        std::fs::write(layout.join("blobs/sha256").join(&digest[7..]), &bytes).unwrap();
        index["manifests"] =
            serde_json::json!([{ "mediaType": kind, "digest": digest, "size": bytes.len() }]);
        std::fs::write(&path, serde_json::to_vec(&index).unwrap()).unwrap();
        let copied = rig.run(&format!("copy oci:{} store:nested:{depth}", layout.display()));
        assert_eq!(copied.output.status.success(), depth < 2, "depth {depth}: {}", copied.stderr());
    }
}

#[test]
fn what_a_killed_command_began_is_gone_on_with() {
    let rig = Rig::new();
    rig.load("bb:1", "x");
    // No process has this number.
    for name in ["layout/index.json.4194305.tmp", "out.tar.4194305.tmp"] {
        std::fs::create_dir_all(rig.path(name).parent().unwrap()).unwrap();
        std::fs::write(rig.path(name), "half").unwrap();
    }
    std::fs::write(rig.path("other.tar.4194305.tmp"), "not ours").unwrap();
    let layout = format!("oci:{}:x", rig.path("layout").display());
    rig.ok(&format!("copy -q store:bb:1 {layout}"));
    rig.ok(&format!("copy -q {layout} store:again"));
    assert!(!rig.path("layout/index.json.4194305.tmp").exists());
    rig.ok(&format!("save bb:1 -o {}", rig.path("out.tar").display()));
    assert!(!rig.path("out.tar.4194305.tmp").exists() && rig.path("other.tar.4194305.tmp").exists());
    // A directory of something else is left alone.
    std::fs::create_dir(rig.path("else")).unwrap();
    std::fs::write(rig.path("else/x.4194305.tmp"), "not ours").unwrap();
    rig.fails(&format!("copy -q store:bb:1 oci:{}:x", rig.path("else").display()), 4);
    assert!(rig.path("else/x.4194305.tmp").exists());
}

/// The media types of the layers of an image at a place, and the image's id.
fn layers_at(rig: &Rig, place: &str) -> (Vec<String>, String) {
    let dir = rig.path("look");
    let _ = std::fs::remove_dir_all(&dir);
    rig.ok(&format!("copy -q {place} dir:{}", dir.display()));
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    let kinds = layers.iter().map(|layer| {
        let digest = layer["digest"].as_str().unwrap();
        let bytes = std::fs::read(dir.join(&digest[7..])).unwrap();
        assert_eq!(crate::rig::image::sha256(&bytes), digest);
        assert_eq!(layer["size"].as_u64().unwrap(), bytes.len() as u64);
        layer["mediaType"].as_str().unwrap().rsplit('.').next().unwrap().to_owned()
    });
    (kinds.collect(), manifest["config"]["digest"].as_str().unwrap().to_owned())
}

#[test]
fn layers_are_repacked_on_the_way() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Plain));
    let id = rig.load("bb:1", &"x".repeat(100_000));
    let at = |tag: &str| format!("docker://{}/bb:{tag}", registry.host);
    let before = rig.blobs();
    let mut from = "store:bb:1".to_owned();
    for (tag, flags, kind) in [
        ("packed", "--dest-compress", "tar+gzip"),
        ("zstd", "--dest-compress-format zstd", "tar+zstd"),
        ("gzip", "--dest-compress-format gzip --dest-compress-level 9", "tar+gzip"),
        ("plain", "--dest-decompress", "tar"),
        ("small", "--dest-compress-format zstd --dest-compress-level 19", "tar+zstd"),
    ] {
        rig.ok(&format!("copy -q {flags} {from} {}", at(tag)));
        assert_eq!(layers_at(&rig, &at(tag)), (vec![kind.to_owned()], id.clone()), "{tag}");
        from = at(tag);
    }
    assert_eq!(rig.blobs(), before, "a repacked layer was stored");
    assert_eq!(rig.partials(), Vec::<String>::new());
    // The last one is still the image.
    rig.ok(&format!("pull -q {}/bb:small", registry.host));
    rig.ok("verify bb:1");
    assert_eq!(rig.ok(&format!("inspect {}/bb:small -f {{{{.Id}}}}", registry.host)).trim(), id);
}

#[test]
fn an_index_is_repacked_with_all_its_images() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Plain));
    rig.load("bb:1", "x");
    rig.load("bb:2", "y");
    rig.ok("index create both:1 bb:1 bb:2");
    rig.ok(&format!(
        "copy -q --all --dest-compress-format zstd store:both:1 docker://{}/both:1",
        registry.host
    ));
    let raw = rig.ok(&format!("manifest {}/both:1", registry.host));
    let index: serde_json::Value = serde_json::from_str(&raw).unwrap();
    let children = index["manifests"].as_array().unwrap();
    assert_eq!(children.len(), 2);
    for child in children {
        let place = format!("docker://{}/both@{}", registry.host, child["digest"].as_str().unwrap());
        assert_eq!(layers_at(&rig, &place).0, ["tar+zstd"]);
    }
}

#[test]
fn pull_and_push_take_places() {
    let rig = Rig::new();
    let id = rig.load("bb:1", "x");
    let layout = rig.path("layout").display().to_string();
    rig.ok(&format!("push -q bb:1 oci:{layout}:docker.io/library/bb:1"));
    rig.ok(&format!("push -q bb:1 oci-archive:{layout}.tar:bb:2"));
    rig.ok("rmi bb:1");
    assert_eq!(
        rig.ok(&format!("pull -q oci:{layout}:docker.io/library/bb:1")).trim(),
        "docker.io/library/bb:1"
    );
    assert_eq!(rig.ok(&format!("pull -q oci-archive:{layout}.tar")).trim(), "docker.io/library/bb:2");
    for name in ["bb:1", "bb:2"] {
        assert_eq!(rig.ok(&format!("inspect {name} -f {{{{.Id}}}}")).trim(), id);
    }
    rig.fails("pull -q oci:./nowhere:x", 3);
}

#[test]
fn further_names_go_into_archives() {
    let rig = Rig::new();
    let id = rig.load("bb:1", "x");
    let archive = rig.path("a.tar").display().to_string();
    let names = "--additional-tag bb:2 --additional-tag r.io/bb";
    rig.ok(&format!("copy -q --preserve-digests {names} store:bb:1 docker-archive:{archive}:bb:3"));
    rig.ok("rmi bb:1");
    rig.ok(&format!("load -q -i {archive}"));
    for name in ["bb:2", "r.io/bb:latest", "bb:3"] {
        assert_eq!(rig.ok(&format!("inspect {name} -f {{{{.Id}}}}")).trim(), id, "{name}");
    }
    let dir = rig.path("dir").display().to_string();
    rig.fails(&format!("copy -q {names} store:bb:2 dir:{dir}"), 2);
    let refused = rig.run(&format!("copy --preserve-digests --dest-decompress store:bb:2 dir:{dir}"));
    assert_eq!(refused.output.status.code(), Some(2));
}

#[test]
fn a_registrys_least_piece_is_respected() {
    use crate::rig::peer::{Answer, Peer, status};
    let rig = Rig::new();
    let noise = crate::rig::image::noise(700_000);
    rig.feed("load", &crate::rig::image::archive(&["bb:1"], &[("file", &noise)])).ok();
    let peer = Peer::start(|asked, _| {
        let at = |path: &str| vec![("location".to_owned(), path.to_owned())];
        match asked.method.as_str() {
            "HEAD" => status(404),
            "POST" => {
                let mut headers = at("/v2/bb/blobs/uploads/1");
                headers.push(("OCI-Chunk-Min-Length".into(), "300000".into()));
                Answer::Full(202, headers, Vec::new())
            }
            "PATCH" => Answer::Full(202, at("/v2/bb/blobs/uploads/1"), Vec::new()),
            "PUT" => status(201),
            _ => super::rig::peer::ok(b"{}"),
        }
    });
    rig.ok(&format!("push -q --chunk-size 100KB bb:1 {}/bb:1", peer.host));
    let ranges: Vec<String> = peer
        .asked()
        .iter()
        .filter(|asked| asked.method == "PATCH")
        .map(|asked| asked.header("content-range").unwrap().to_owned())
        .filter(|range| !range.starts_with("0-") || range == "0-299999")
        .collect();
    assert_eq!(ranges[..2], ["0-299999", "300000-599999"], "{ranges:?}");
}
