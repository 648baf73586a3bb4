//! `list`.

use serde_json::Value;

use crate::rig::{Rig, can_run};

#[test]
fn shows_all_in_runcs_columns() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    let line = rig.runtime(&["list"]).fails(1);
    assert!(line.contains("No such file or directory"), "a root that was asked for: {line}");
    std::fs::create_dir(rig.root()).unwrap();
    assert_eq!(
        rig.runtime(&["list"]).ok(),
        "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    );
    assert_eq!(rig.runtime(&["list", "-f", "json"]).ok(), "null\n");
    rig.runtime(&["create", "@a"]).ok();
    rig.runtime(&["run", "--keep", "@b"]).ok();
    assert_eq!(rig.runtime(&["list", "-q"]).ok(), format!("{}\n{}\n", rig.id("a"), rig.id("b")));
    let list: Value = serde_json::from_str(&rig.runtime(&["list", "--format", "json"]).ok()).unwrap();
    assert_eq!((&list[0]["status"], &list[1]["status"]), (&"created".into(), &"stopped".into()));
    assert_eq!((&list[1]["pid"], &list[0]["owner"]), (&0.into(), &"root".into()));
}
