//! images, inspect, tag, rmi, history, prune.

use crate::rig::Rig;

#[test]
fn an_empty_store_lists_nothing() {
    let rig = Rig::new();
    assert_eq!(rig.ok("images"), "REPOSITORY   TAG   IMAGE ID   CREATED   SIZE\n");
    assert_eq!(rig.ok("images -q"), "");
    assert!(rig.fails("inspect nosuch", 3).contains("no such image: nosuch:latest"));
    rig.fails("rmi nosuch", 3);
    rig.run("rmi -f nosuch").ok();
}

#[test]
fn a_loaded_image_is_listed_described_and_removed() {
    let rig = Rig::new();
    let id = rig.load("web:1", "hello");
    let short = &id[7..19];
    let row = rig.ok("images --format {{.Repository}}:{{.Tag}},{{.ID}}");
    assert_eq!(row.trim(), format!("web:1,{short}"));
    assert_eq!(rig.ok("inspect web:1 -f {{.Config.Healthcheck.Test}}").trim(), "[NONE]");
    assert_eq!(rig.ok(&format!("inspect {} -f {{{{.Id}}}}", &short[..4])).trim(), id);
    assert!(rig.ok("history web:1").contains("ADD everything"));
    assert!(rig.ok("images --json").starts_with('{'));
    assert_eq!(rig.ok("rmi web:1"), format!("Untagged: web:1\nDeleted: {id}\n"));
    assert!(rig.blobs().is_empty() && rig.partials().is_empty());
}

#[test]
fn names_move_and_leave_a_nameless_image() {
    let rig = Rig::new();
    let first = rig.load("web:1", "first");
    let second = rig.load("web:1", "second");
    assert_ne!(first, second);
    assert_eq!(rig.ok("images -f dangling=true -q --no-trunc").trim(), first);
    assert_eq!(rig.ok("images -f dangling=false -q --no-trunc").trim(), second);
    let out = rig.ok("prune");
    assert!(out.contains("Total reclaimed space"), "{out}");
    assert_eq!(rig.ok("images -q --no-trunc").trim(), second);
    rig.verify();
}

#[test]
fn an_image_with_two_names_loses_one_at_a_time() {
    let rig = Rig::new();
    let id = rig.load("web:1", "x");
    rig.ok("tag web:1 other/name:2 localhost:5000/third");
    assert_eq!(rig.ok("images -q").lines().count(), 1);
    assert!(rig.fails(&format!("rmi {id}"), 4).contains("referenced in multiple repositories"));
    assert_eq!(rig.ok("rmi web:1"), "Untagged: web:1\n");
    assert_eq!(rig.blobs().len(), 3);
    assert_eq!(
        rig.ok(&format!("rmi -f {id}")),
        format!("Untagged: other/name:2\nUntagged: localhost:5000/third:latest\nDeleted: {id}\n")
    );
    assert!(rig.blobs().is_empty());
}

#[test]
fn wrong_names_and_filters_are_usage_errors() {
    let rig = Rig::new();
    rig.load("web:1", "x");
    assert!(rig.run("tag web:1 BAD").stderr().contains("repository name (library/BAD) must be lowercase"));
    assert_eq!(rig.run("tag web:1 BAD").output.status.code(), Some(2));
    assert!(rig.fails("tag nosuch x", 3).contains("no such image: nosuch:latest"));
    assert!(rig.fails("images -f bogus=1", 2).contains("invalid filter 'bogus'"));
    rig.fails("images --format {{.Repository", 1);
    rig.fails("inspect a:b:c", 2);
}

#[test]
fn filters_choose() {
    let rig = Rig::new();
    rig.load("web:1", "x");
    rig.load("db:1", "y");
    for (filter, count) in [
        ("reference=web*", 1),
        ("reference=*:1", 2),
        ("label=a", 2),
        ("label=a=b", 2),
        ("label=a=c", 0),
        ("label!=a", 0),
        ("until=2026-01-01", 0),
        ("until=2026-06-01", 2),
        ("since=web:1", 0),
    ] {
        assert_eq!(rig.ok(&format!("images -q -f {filter}")).lines().count(), count, "{filter}");
    }
    assert_eq!(rig.ok("images -q web").lines().count(), 1);
    assert_eq!(rig.ok("images -q nosuch").lines().count(), 0);
}

#[test]
fn the_store_is_a_standard_layout() {
    let rig = Rig::new();
    rig.load("web:1", "x");
    let index = std::fs::read(rig.path("store/images/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let entry = &index["manifests"][0];
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "docker.io/library/web:1");
    assert_eq!(entry["annotations"]["io.containerd.image.name"], "docker.io/library/web:1");
    assert_eq!(entry["platform"]["architecture"], "amd64");
    let layout = format!("oci:{}:docker.io/library/web:1", rig.path("store/images").display());
    rig.ok(&format!("copy {layout} store:again"));
    rig.verify();
}
