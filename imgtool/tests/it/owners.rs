//! Bundles whose files have other owners on the host than in the image, or keep their links, or are no mount.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::Path;

use serde_json::Value;

use crate::edit::show;
use crate::rig::{Rig, image};

fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

fn config(bundle: &Path) -> Value {
    serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap()
}

/// An image `web` with a file of root's, one of 7:8 below a directory of 7:8, and one of nobody that small maps have.
fn furnished(rig: &Rig) {
    rig.load("base", "x");
    let tree = rig.path("tree");
    fs::create_dir_all(tree.join("d")).unwrap();
    fs::write(tree.join("d/file"), "file").unwrap();
    fs::write(tree.join("d/other"), "other").unwrap();
    for path in ["d", "d/file"] {
        chown(tree.join(path), Some(7), Some(8)).unwrap();
    }
    rig.ok(&format!("insert base {} / -t web", tree.display()));
}

#[test]
fn owners_are_mapped_there_and_back() {
    let rig = Rig::new();
    furnished(&rig);
    assert!(rig.command("config web -c").arg("WORKDIR /new/work").status().unwrap().success());
    let bundle = rig.path("b");
    let (dir, root) = (bundle.display().to_string(), bundle.join("rootfs"));
    rig.ok(&format!("bundle --uid-map 0:100000:65536 --gid-map 0:200000:65536 web {dir}"));
    assert_eq!(owner(&root), (100_000, 200_000));
    assert_eq!(owner(&root.join("d/file")), (100_007, 200_008));
    assert_eq!(owner(&root.join("new/work")), (100_000, 200_000));
    assert_eq!(owner(&root.join("new")), (100_000, 200_000));
    let linux = &config(&bundle)["linux"];
    assert_eq!(
        linux["uidMappings"],
        serde_json::json!([{"containerID": 0, "hostID": 100_000, "size": 65536}])
    );
    assert_eq!(linux["gidMappings"][0]["hostID"], 200_000);
    assert!(linux["namespaces"].as_array().unwrap().iter().any(|one| one["type"] == "user"));
    assert_eq!(rig.ok(&format!("diff {dir}")), "A /new\nA /new/work\n");

    // As the container's root and its user 7 would do it.
    fs::write(root.join("made"), "made").unwrap();
    chown(root.join("made"), Some(100_003), Some(200_004)).unwrap();
    fs::write(root.join("d/file"), "changed").unwrap();
    fs::remove_file(root.join("d/other")).unwrap();
    let changes = "C /d\nC /d/file\nD /d/other\nA /made\nA /new\nA /new/work\n";
    assert_eq!(rig.ok(&format!("diff {dir}")), changes);
    rig.ok(&format!("umount {dir}"));
    rig.ok(&format!("mount {dir}"));
    assert_eq!(owner(&root.join("d/file")), (100_007, 200_008));
    rig.ok(&format!("commit {dir} done"));
    let archive = rig.path("out.tar");
    rig.ok(&format!("export {dir} -o {}", archive.display()));
    rig.ok(&format!("import {} imported", archive.display()));
    rig.ok(&format!("unbundle {dir}"));
    assert!(!bundle.exists());
    assert_eq!(rig.ok("diff web done"), changes);
    assert_eq!(rig.ok("diff done imported"), "");
    rig.ok(&format!("bundle done {dir}"));
    assert_eq!(owner(&root.join("made")), (3, 4));
    assert_eq!(owner(&root.join("d/file")), (7, 8));
    assert_eq!(owner(&root.join("new/work")), (0, 0));
    rig.ok(&format!("unbundle {dir}"));
}

#[test]
fn a_file_that_no_map_has_is_refused_and_bad_maps_are() {
    let rig = Rig::new();
    furnished(&rig);
    let bundle = rig.path("b");
    let dir = bundle.display();
    rig.ok(&format!("bundle --uid-map 0:100000:65536 web {dir}"));
    let stray = bundle.join("rootfs/stray");
    fs::write(&stray, "").unwrap();
    let told = rig.fails(&format!("commit {dir} x"), 1);
    assert!(told.contains("read stray: its user 0 is in no id map"), "{told}");
    rig.ok(&format!("unbundle {dir}"));
    for bad in
        ["--uid-map 0:1", "--uid-map 0:5:0", "--uid-map 0:5:9 --uid-map 4:50:9", "--rootless --uid-map 0:1:1"]
    {
        assert_eq!(rig.run(&format!("bundle {bad} web {dir}")).output.status.code(), Some(2), "{bad}");
    }
    assert!(!bundle.exists());
}

#[test]
fn links_to_directories_are_kept_where_asked() {
    let rig = Rig::new();
    rig.load("base", "x");
    let tree = rig.path("tree");
    fs::create_dir_all(tree.join("usr/lib")).unwrap();
    fs::write(tree.join("usr/lib/lower"), "").unwrap();
    fs::write(tree.join("usr/lib/deleted"), "").unwrap();
    symlink("usr/lib", tree.join("lib")).unwrap();
    rig.ok(&format!("insert base {} / -t linked", tree.display()));
    // A layer of a tool that knows no link: a directory with the name of one, a deletion through it.
    let upper = rig.path("upper");
    fs::create_dir_all(upper.join("lib")).unwrap();
    fs::write(upper.join("lib/upper"), "").unwrap();
    let archive = rig.path("upper.tar");
    let packed = fs::File::create(&archive).unwrap();
    let mut builder = tar::Builder::new(packed);
    builder.append_dir_all("lib", upper.join("lib")).unwrap();
    builder.append_data(&mut header(), "lib/.wh.deleted", &b""[..]).unwrap();
    builder.finish().unwrap();
    rig.ok(&format!("append linked {} -t web", archive.display()));
    let bundle = rig.path("b");
    let (dir, root) = (bundle.display(), bundle.join("rootfs"));
    rig.ok(&format!("bundle web {dir}"));
    assert!(root.join("lib").symlink_metadata().unwrap().is_dir());
    rig.ok(&format!("unbundle {dir}"));
    for plain in ["", "--rootless"] {
        rig.ok(&format!("bundle {plain} --keep-dirlinks web {dir}"));
        assert_eq!(fs::read_link(root.join("lib")).unwrap(), Path::new("usr/lib"));
        assert_eq!(crate::rig::names(&root.join("lib")), ["lower", "upper"]);
        assert_eq!(rig.ok(&format!("diff {dir}")), "", "{plain}");
        fs::write(root.join("lib/mine"), "").unwrap();
        rig.ok(&format!("umount {dir}"));
        rig.ok(&format!("mount {dir}"));
        assert_eq!(rig.ok(&format!("diff {dir}")), "C /usr\nC /usr/lib\nA /usr/lib/mine\n");
        rig.ok(&format!("commit {dir} again"));
        rig.ok(&format!("unbundle {dir}"));
        rig.ok(&format!("bundle --keep-dirlinks again {dir}"));
        assert_eq!(crate::rig::names(&root.join("lib")), ["lower", "mine", "upper"]);
        rig.ok(&format!("unbundle {dir}"));
    }
}

fn header() -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    header.set_mode(0o644);
    header
}

#[test]
fn a_rootless_bundle_is_no_mount_and_is_committed() {
    let rig = Rig::new();
    furnished(&rig);
    // Layers above take away, hide and replace.
    let (first, second) = (rig.path("1.tar"), rig.path("2.tar"));
    fs::write(&first, image::tar(&[("gone/a", b"a"), ("hidden/old", b"o"), ("turned", b"file")])).unwrap();
    let above: [(&str, &[u8]); 4] =
        [(".wh.gone", b""), ("hidden/new", b"n"), ("hidden/.wh..wh..opq", b""), ("turned/inner", b"i")];
    fs::write(&second, image::tar(&above)).unwrap();
    rig.ok(&format!("append web {} {} -t web", first.display(), second.display()));
    let bundle = rig.path("b");
    let (dir, root) = (bundle.display(), bundle.join("rootfs"));
    rig.ok(&format!("bundle --rootless web {dir}"));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(bundle.to_str().unwrap()));
    assert_eq!(crate::rig::names(&root), ["d", "file", "hidden", "turned"]);
    assert_eq!(crate::rig::names(&root.join("hidden")), ["new"]);
    assert_eq!(fs::read(root.join("turned/inner")).unwrap(), b"i");
    assert_eq!(owner(&root.join("d/file")), (7, 8));
    let spec = config(&bundle);
    assert!(spec["linux"]["uidMappings"].is_array() && spec["linux"].get("resources").is_none());
    assert_eq!(rig.ok(&format!("diff {dir}")), "");
    assert!(rig.ok(&format!("mount {dir}")).contains("rootfs"));
    rig.ok(&format!("umount {dir}"));

    fs::write(root.join("d/file"), "changed").unwrap();
    fs::remove_file(root.join("d/other")).unwrap();
    fs::remove_dir_all(root.join("turned")).unwrap();
    fs::write(root.join("turned"), "again a file").unwrap();
    fs::create_dir(root.join("new")).unwrap();
    fs::hard_link(root.join("turned"), root.join("new/link")).unwrap();
    let want = "C /d\nC /d/file\nD /d/other\nA /new\nA /new/link\nC /turned\n";
    assert_eq!(rig.ok(&format!("diff {dir}")), want);
    rig.ok(&format!("commit {dir} done -m mine"));
    assert_eq!(rig.ok("diff web done"), want);
    rig.ok(&format!("unbundle {dir}"));
    assert!(!bundle.exists());
    rig.ok(&format!("bundle done {dir}"));
    assert_eq!(fs::read(root.join("new/link")).unwrap(), b"again a file");
    assert_eq!(fs::metadata(root.join("turned")).unwrap().nlink(), 2);
    rig.ok(&format!("unbundle {dir}"));
    // Nothing changed: a commit adds no layer.
    rig.ok(&format!("bundle --rootless web {dir}"));
    rig.ok(&format!("commit {dir} same"));
    assert_eq!(show(&rig, "same", "{{json .RootFS}}"), show(&rig, "web", "{{json .RootFS}}"));
    rig.ok(&format!("unbundle {dir}"));
    rig.verify();
}
