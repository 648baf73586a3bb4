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

#[test]
fn under_another_name() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/echo", "config.json"]);
    rig.runtime(&["spec", "--file", "other.json"]).ok();
    let path = rig.bundle().join("other.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["/bin/echo", "other.json"]);
    std::fs::write(&path, config.to_string()).unwrap();
    for flag in ["-f", "--config"] {
        assert_eq!(rig.runtime(&["run", flag, "other.json", "@c"]).ok(), "other.json\n");
    }
    rig.runtime(&["create", "-f", path.to_str().unwrap(), "@c"]).ok();
    rig.runtime(&["delete", "--force", "@c"]).ok();
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), "config.json\n");
    rig.is_clean();
}
