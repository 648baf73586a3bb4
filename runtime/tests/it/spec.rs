//! `spec`.

use crate::rig::{Rig, can_run};

#[test]
fn never_overwrites() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    let line = rig.runtime(&["spec"]).fails(4);
    assert!(line.contains("exists. Remove it first"), "{line}");
}

#[test]
fn its_rootless_form_runs() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new(&["/bin/true"]);
    std::fs::remove_file(rig.bundle().join("config.json")).unwrap();
    rig.runtime(&["spec", "--rootless"]).ok();
    let text = std::fs::read_to_string(rig.bundle().join("config.json")).unwrap();
    rig.config = serde_json::from_str(&text).unwrap();
    let rig = rig.with(|config| {
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = serde_json::json!(["/bin/cat", "/proc/self/uid_map"]);
    });
    let out = rig.runtime(&["run", "@c"]).ok();
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["0", "0", "1"]);
}
