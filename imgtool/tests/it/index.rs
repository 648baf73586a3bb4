//! index create, add, annotate, remove; and sync, which moves what it made.

use serde_json::Value;

use crate::rig::Rig;
use crate::rig::registry::{Guard, Registry};

fn raw(rig: &Rig, name: &str) -> Value {
    serde_json::from_str(&rig.ok(&format!("index inspect {name}"))).unwrap()
}

#[test]
fn an_index_is_made_changed_pushed_and_pulled() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Plain));
    rig.load("a:1", "a");
    rig.load("b:1", "b");
    rig.ok("index create web:1 a:1");
    assert!(rig.fails("index create web:1 a:1", 4).contains("exists"));
    rig.ok("index add --platform linux/arm64/v8 --annotation k=v web:1 b:1");
    let index = raw(&rig, "web:1");
    assert_eq!(index["manifests"][0]["platform"]["architecture"], "amd64");
    assert_eq!(index["manifests"][1]["platform"]["architecture"], "arm64");
    assert_eq!(index["manifests"][1]["annotations"]["k"], "v");
    let second = index["manifests"][1]["digest"].as_str().unwrap().to_owned();
    rig.ok(&format!("index annotate --platform linux/riscv64 web:1 {second}"));
    assert_eq!(raw(&rig, "web:1")["manifests"][1]["platform"]["architecture"], "riscv64");
    // Garbage collection keeps what only the index holds.
    rig.ok("rmi a:1");
    rig.ok("rmi b:1");
    rig.ok("prune");
    let name = format!("{}/web:1", registry.host);
    rig.ok(&format!("push web:1 {name}"));
    let other = Rig::new();
    assert!(other.fails(&format!("pull --platform linux/s390x {name}"), 3).contains("linux/s390x"));
    other.ok(&format!("copy --all docker://{name} store:web:1"));
    assert_eq!(raw(&other, "web:1")["manifests"].as_array().unwrap().len(), 2);
    rig.ok(&format!("index remove web:1 {second}"));
    assert_eq!(raw(&rig, "web:1")["manifests"].as_array().unwrap().len(), 1);
    assert!(rig.fails(&format!("index remove web:1 {second}"), 3).contains("is not in"));
    rig.verify();
}

#[test]
fn a_repository_is_synced_to_a_layout_and_from_there_to_another_registry() {
    let (rig, one, two) = (Rig::new(), Registry::start(Guard::Plain), Registry::start(Guard::Plain));
    for tag in ["1", "2"] {
        rig.load(&format!("bb:{tag}"), tag);
        rig.ok(&format!("push bb:{tag} {}/deep/bb:{tag}", one.host));
    }
    let layout = format!("oci:{}", rig.path("usb").display());
    let planned = rig.ok(&format!("sync --dry-run docker://{}/deep/bb {layout}", one.host));
    assert_eq!(planned.lines().count(), 2, "{planned}");
    assert!(!rig.path("usb").exists());
    rig.ok(&format!("sync --all docker://{}/ {layout}", one.host));
    rig.ok(&format!("sync --all {layout} docker://{}/mirror", two.host));
    rig.ok(&format!("sync --all --scoped {layout} docker://{}/all", two.host));
    let digest = |name: String| rig.ok(&format!("digest {name}"));
    for tag in ["1", "2"] {
        let before = digest(format!("{}/deep/bb:{tag}", one.host));
        assert_eq!(before, digest(format!("{}/mirror/bb:{tag}", two.host)));
        assert_eq!(before, digest(format!("{}/all/{}/deep/bb:{tag}", two.host, one.host.replace(':', "-"))));
    }
    let other = Rig::new();
    other.ok(&format!("sync {layout} store:"));
    assert_eq!(other.ok("images -q").lines().count(), 2);
    other.verify();
    // One that cannot be had stops the rest unless told otherwise.
    std::fs::remove_dir_all(rig.path("usb/blobs")).unwrap();
    let kept = rig.run(&format!("sync --keep-going {layout} docker://{}/x", two.host));
    assert!(kept.stderr().contains("2 of 2 images not copied"), "{}", kept.stderr());
    assert_eq!(kept.output.status.code(), Some(1));
}
