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
    assert_eq!(rig.run("copy docker-daemon:x store:x").output.status.code(), Some(2));
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
