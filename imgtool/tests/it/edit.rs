//! Images made of images without a build: flatten, append, config; and what tells them apart: diff, verify.

use std::fs;

use crate::rig::{Rig, image};

pub fn show(rig: &Rig, image: &str, template: &str) -> String {
    let output = rig.command(&format!("inspect {image} -f")).arg(template).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn appended_layers_are_flattened_into_one() {
    let rig = Rig::new();
    rig.load("web", "one");
    let (first, second) = (rig.path("first.tar"), rig.path("second.tar"));
    fs::write(&first, image::tar(&[("d/new", b"new"), ("file", b"two")])).unwrap();
    fs::write(&second, image::tar(&[("d/.wh.new", b""), ("d/last", b"last")])).unwrap();
    rig.ok(&format!("append web {} {} -t web:more", first.display(), second.display()));
    assert_eq!(show(&rig, "web:more", "{{len .RootFS.Layers}}"), "3");
    rig.ok("flatten web:more web:flat");
    assert_eq!(show(&rig, "web:flat", "{{len .RootFS.Layers}}"), "1");
    assert_eq!(rig.ok("diff web:more web:flat"), "");
    assert_eq!(rig.ok("diff web web:flat"), "A /d\nA /d/last\nC /file\n");
    assert_eq!(rig.ok("inspect web:flat -f {{.Config.Cmd}}"), rig.ok("inspect web -f {{.Config.Cmd}}"));
    rig.fails(&format!("append web {}", rig.path("store/images/oci-layout").display()), 1);
    rig.verify();
}

#[test]
fn a_config_is_edited_in_place_or_under_another_name() {
    let rig = Rig::new();
    let id = rig.load("web", "x");
    rig.feed("config web -t web:2 --unset Labels.a -c ENV=", b"").fails(2);
    let mut edit = rig.command("config web -t web:2 --unset Labels.a --unset Healthcheck");
    assert!(edit.args(["-c", "ENV A=1", "-c", "CMD [\"/x\"]"]).status().unwrap().success());
    assert_eq!(
        show(&rig, "web:2", "{{json .Config}}"),
        r#"{"Cmd":["/x"],"Env":["PATH=/bin","A=1"],"Labels":{}}"#
    );
    assert_eq!(rig.ok("inspect web -f {{.Id}}").trim(), id);
    rig.ok("config web --author me");
    assert_eq!(rig.ok("inspect web -f {{.Author}}").trim(), "me");
    rig.fails("config web --unset Nothing", 3);
}

#[test]
fn a_bundles_changes_are_told_as_docker_does() {
    let rig = Rig::new();
    let first = rig.path("first.tar");
    fs::write(&first, image::tar(&[("d/a", b"a"), ("d/b", b"b"), ("e/c", b"c")])).unwrap();
    rig.load("web", "x");
    rig.ok(&format!("append web {} -t web:2", first.display()));
    let bundle = rig.path("b");
    rig.ok(&format!("bundle web:2 {}", bundle.display()));
    assert_eq!(rig.ok(&format!("diff {}", bundle.display())), "");
    let root = bundle.join("rootfs");
    fs::write(root.join("file"), "changed").unwrap();
    fs::remove_file(root.join("d/a")).unwrap();
    fs::create_dir_all(root.join("new/inner")).unwrap();
    fs::remove_dir_all(root.join("e")).unwrap();
    fs::create_dir(root.join("e")).unwrap();
    let want = "C /d\nD /d/a\nC /e\nD /e/c\nC /file\nA /new\nA /new/inner\n";
    assert_eq!(rig.ok(&format!("diff {}", bundle.display())), want);
    rig.ok(&format!("unbundle {}", bundle.display()));
    rig.fails(&format!("diff {}", bundle.display()), 3);
}

#[test]
fn damage_is_found_and_named() {
    let rig = Rig::new();
    rig.load("good", "x");
    assert_eq!(rig.ok("verify"), "good:latest: ok\n");
    rig.load("bad", "y");
    let layer = show(&rig, "bad", "{{index .RootFS.Layers 0}}");
    let blob = rig.path("store/images/blobs/sha256").join(&layer[7..]);
    let mut bytes = fs::read(&blob).unwrap();
    bytes[512] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let ended = rig.run("verify -q");
    assert!(
        ended.stdout().contains("bad:latest: layer ") && !ended.stdout().contains("good"),
        "{}",
        ended.stdout()
    );
    ended.fails(1);
    rig.ok("verify good");
    rig.fails("verify nosuch", 3);
}

#[test]
fn rebase_puts_own_layers_on_another_base() {
    let rig = Rig::new();
    rig.load("base:1", "old");
    rig.load("base:2", "new");
    let top = rig.path("top.tar");
    std::fs::write(&top, crate::rig::image::tar(&[("own", b"own")])).unwrap();
    rig.ok(&format!("append base:1 {} -t web:1 -m mine", top.display()));
    assert!(rig.command("config web:1 -c").arg("ENV A=b").status().unwrap().success());
    rig.ok("rebase web:1 --old-base base:1 --new-base base:2 -t web:2");
    let ids = |name: &str| {
        let text = rig.ok(&format!("inspect {name}"));
        let all: serde_json::Value = serde_json::from_str(&text).unwrap();
        all[0]["RootFS"]["Layers"].as_array().unwrap().clone()
    };
    let (base, before, after) = (ids("base:2"), ids("web:1"), ids("web:2"));
    assert_eq!(after, [base[0].clone(), before[1].clone()]);
    assert!(rig.ok("inspect web:2 -f {{.Config.Env}}").contains("A=b"));
    assert!(rig.ok("history web:2 --format {{.Comment}}").contains("mine"));
    // The result knows its base, so the way back needs no old one.
    rig.ok("rebase web:2 --new-base base:1 -t web:3");
    assert_eq!(ids("web:3"), before);
    let refused = rig.fails("rebase web:1 --old-base base:2 --new-base base:1", 2);
    assert!(refused.contains("does not stand on base:2"), "{refused}");
    assert!(rig.fails("rebase web:1 --new-base base:1", 2).contains("--old-base"));
    rig.verify();
}
