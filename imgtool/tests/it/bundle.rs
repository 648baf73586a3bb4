//! `bundle`, `mount`, `umount`, `unbundle`, `export`.

use std::fs;

use crate::rig::Rig;
use crate::rig::names;

#[test]
fn a_bundle_is_made_used_and_taken_down() {
    let rig = Rig::new();
    rig.load("web", "content");
    let dir = rig.path("b");
    let shown = dir.display();
    assert_eq!(rig.ok(&format!("bundle --name b1 web {shown} -- /x")).trim(), shown.to_string());
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["process"]["args"][0], "/x");
    assert_eq!(config["process"]["user"]["uid"], 0);
    // The name and the place are taken.
    rig.fails(&format!("bundle --name b1 web {shown}2"), 4);
    rig.fails(&format!("bundle web {shown}"), 4);
    assert!(!rig.path("b2").exists());
    // Changes stay in the bundle, over an umount, and never reach the shared layer.
    fs::write(dir.join("rootfs/new"), "1").unwrap();
    rig.ok(&format!("umount {shown}"));
    rig.ok(&format!("umount {shown}"));
    assert!(!dir.join("rootfs/new").exists());
    rig.ok(&format!("mount {shown}"));
    rig.ok(&format!("mount {shown}"));
    assert_eq!(fs::read_to_string(dir.join("rootfs/new")).unwrap(), "1");
    // At once they mount it once.
    let mounts = || fs::read_to_string("/proc/mounts").unwrap().matches(&format!(" {shown}/rootfs ")).count();
    for _ in 0..10 {
        rig.ok(&format!("umount {shown}"));
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| rig.ok(&format!("mount {shown}")));
            }
        });
        assert_eq!(mounts(), 1);
    }
    rig.ok(&format!("bundle web {shown}3"));
    assert!(!rig.path("b3/rootfs/new").exists());
    let tar = rig.path("x.tar");
    rig.ok(&format!("export -o {} {shown}", tar.display()));
    assert!(fs::read(&tar).unwrap().windows(3).any(|window| window == b"new"));
    for _ in 0..2 {
        rig.ok(&format!("unbundle {shown} {shown}3"));
    }
    assert!(!dir.exists() && !rig.path("b3").exists());
    assert_eq!(names(&rig.path("store/bundles")), ["making"]);
    assert_eq!(names(&rig.path("store/bundles/making")), Vec::<String>::new());
    assert!(!fs::read_to_string("/proc/mounts").unwrap().contains(shown.to_string().as_str()));
}

#[test]
fn the_next_bundle_takes_away_what_killed_ones_left() {
    let rig = Rig::new();
    rig.load("web", "content");
    let (dir, records) = (rig.path("b"), rig.path("store/bundles"));
    rig.ok(&format!("bundle --volatile --name whole web {}", dir.display()));
    let mut half: serde_json::Value =
        serde_json::from_slice(&fs::read(records.join("whole.json")).unwrap()).unwrap();
    half["name"] = "half".into();
    half["bundle"] = rig.path("half").to_str().unwrap().into();
    // No pid is ever this large.
    half["maker"] = serde_json::json!({"pid": 4_194_305, "start_time": 1});
    fs::create_dir(rig.path("half")).unwrap();
    fs::write(records.join("half.json"), half.to_string()).unwrap();
    // Killed before the record, within making, and after the last word; and what a power cut made of a record.
    for mark in ["making/none", "making/half", "making/whole", "making/empty", "empty.json"] {
        fs::write(records.join(mark), "").unwrap();
    }
    fs::write(records.join("none.json.4194305.tmp"), "cut off").unwrap();
    rig.ok(&format!("bundle --name next web {}2", dir.display()));
    rig.ok("prune");
    assert!(!rig.path("half").exists());
    let mut left = names(&records);
    left.sort();
    assert_eq!(left, ["making", "next.json", "whole.json"]);
    assert_eq!(names(&records.join("making")), Vec::<String>::new());
    rig.ok(&format!("unbundle {0} {0}2", dir.display()));
}

#[test]
fn unbundle_takes_what_a_maker_killed_before_its_record_left_but_nothing_of_others() {
    let rig = Rig::new();
    let (empty, full) = (rig.path("empty"), rig.path("full"));
    fs::create_dir(&empty).unwrap();
    fs::create_dir_all(full.join("file")).unwrap();
    rig.ok(&format!("unbundle {}", empty.display()));
    assert!(!empty.exists());
    rig.fails(&format!("unbundle {}", full.display()), 4);
    rig.fails(&format!("unbundle {}/file/..", full.display()), 4);
    assert!(full.join("file").exists());
}

#[test]
fn what_cannot_be_bundled_leaves_nothing() {
    let rig = Rig::new();
    let dir = rig.path("b");
    rig.fails(&format!("bundle --pull never nosuch {}", dir.display()), 3);
    rig.fails(&format!("mount {}", dir.display()), 3);
    assert!(!dir.exists());
}

#[test]
fn a_commit_keeps_the_changes_and_no_more() {
    let rig = Rig::new();
    rig.load("web", "content");
    let dir = rig.path("b");
    rig.ok(&format!("bundle web {}", dir.display()));
    fs::write(dir.join("rootfs/new"), "1").unwrap();
    rig.fails(&format!("commit -c RUN {} web:2", dir.display()), 2);
    rig.ok(&format!("commit -m why -a me {} web:2", dir.display()));
    let told: serde_json::Value = serde_json::from_str(&rig.ok("inspect web:2")).unwrap();
    assert_eq!(told[0]["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(told[0]["Author"], "me");
    rig.ok(&format!("bundle web:2 {}2", dir.display()));
    assert_eq!(fs::read_to_string(rig.path("b2/rootfs/new")).unwrap(), "1");
    rig.ok(&format!("unbundle {0} {0}2", dir.display()));
}

/// As inside a container, where everything is on an overlay.
#[test]
fn a_bundle_on_an_overlay_says_where_it_could_be() {
    let rig = Rig::new();
    let (over, lower, upper, work) =
        (rig.path("over"), rig.path("lower"), rig.path("upper"), rig.path("work"));
    for dir in [&over, &lower, &upper, &work] {
        fs::create_dir(dir).unwrap();
    }
    let overlay = sys::overlay::Overlay {
        lowers: &[&lower],
        upper: Some((&upper, &work)),
        volatile: false,
        user_xattr: false,
    };
    sys::overlay::mount(&overlay, &over).unwrap();
    rig.load("web", "content");
    let said = rig.fails(&format!("bundle web {}", over.join("b").display()), 1);
    let left = over.join("b").exists();
    nix::mount::umount2(&over, nix::mount::MntFlags::MNT_DETACH).unwrap();
    assert!(said.contains("is on an overlay") && said.contains("BULKHEAD_STORE"), "{said}");
    assert!(!left);
}
