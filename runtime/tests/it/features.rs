//! `features`.

use serde_json::Value;

use crate::rig::{run, runtime};

#[test]
fn a_document_of_the_specification() {
    let text = run(std::process::Command::new(runtime()).arg("features")).ok();
    let features: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    let list = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let options = list(&features["mountOptions"]);
    assert!(
        ["ro", "rro", "rbind", "rslave", "tmpcopyup", "idmap"]
            .iter()
            .all(|one| options.contains(&(*one).into()))
    );
    let linux = &features["linux"];
    assert_eq!(list(&linux["namespaces"]).len(), 8);
    assert!(list(&linux["capabilities"]).contains(&"CAP_SYS_ADMIN".into()));
    assert!(list(&linux["seccomp"]["actions"]).contains(&"SCMP_ACT_NOTIFY".into()));
    assert!(list(&linux["seccomp"]["archs"]).contains(&"SCMP_ARCH_X32".into()));
    assert_eq!(linux["cgroup"]["v2"], true);
    let unsafe_ones = list(&features["potentiallyUnsafeConfigAnnotations"]);
    assert_eq!(unsafe_ones, ["org.systemd.property.", "org.criu.config", "run.oci."]);
    assert_eq!(linux["netDevices"]["enabled"], true);
    assert_eq!(features["annotations"]["org.opencontainers.runc.checkpoint.enabled"], "true");
}
