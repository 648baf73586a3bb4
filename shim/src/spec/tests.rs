use contracts::container::Container;

use super::*;

fn image_spec() -> Value {
    json!({
        "process": { "capabilities": { "bounding": ["CAP_CHOWN", "CAP_KILL"], "inheritable": ["CAP_KILL"] } },
        "mounts": [{ "destination": "/dev/shm", "type": "tmpfs", "options": ["size=1"] },
                   { "destination": "/sys", "type": "sysfs", "options": ["ro"] }],
        "linux": { "namespaces": [{"type": "network"}, {"type": "pid"}], "maskedPaths": ["/proc/keys"],
                   "seccomp": { "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [] } },
    })
}

fn merged(change: impl FnOnce(&mut Container)) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let mut record =
        Container { id: "0123456789abcdef".into(), path: "/bin/x".into(), ..Container::default() };
    record.host_config.shm_size = 9;
    change(&mut record);
    let mut spec = image_spec();
    let store = Store::at(dir.path(), dir.path());
    merge(&store, &mut record, &mut spec, &Root::open(dir.path())?)?;
    Ok(spec)
}

#[test]
fn plain() {
    let spec = merged(|_| ()).unwrap();
    assert_eq!(spec["process"]["args"], json!(["/bin/x"]));
    assert_eq!(spec["process"]["cwd"], "/");
    assert_eq!(spec["hostname"], "0123456789ab");
    assert_eq!(spec["linux"]["cgroupsPath"], "/bulkhead/0123456789abcdef");
    assert_eq!(spec["mounts"][0]["options"], json!(["size=9"]));
    assert_eq!(spec["process"]["capabilities"]["effective"], json!(["CAP_CHOWN", "CAP_KILL"]));
    assert!(spec["process"]["capabilities"].get("inheritable").is_none());
    let env = strings(&spec, "/process/env");
    assert!(env[0].starts_with("PATH=") && env[1] == "HOSTNAME=0123456789ab" && env[2] == "HOME=/");
}

#[test]
fn capabilities_bring_their_calls() {
    let spec = merged(|record| {
        record.host_config.cap_add = Some(vec!["sys_time".into()]);
        record.host_config.cap_drop = Some(vec!["CAP_CHOWN".into()]);
    })
    .unwrap();
    assert_eq!(spec["process"]["capabilities"]["bounding"], json!(["CAP_KILL", "CAP_SYS_TIME"]));
    assert!(spec["linux"]["seccomp"]["syscalls"][0]["names"].to_string().contains("clock_settime"));
    assert!(merged(|record| record.host_config.cap_add = Some(vec!["BOGUS".into()])).is_err());
}

#[test]
fn privileged_lifts_everything() {
    let spec = merged(|record| record.host_config.privileged = true).unwrap();
    assert!(spec["linux"].get("seccomp").is_none() && spec["linux"].get("maskedPaths").is_none());
    assert_eq!(spec["mounts"][1]["options"], json!([]));
    assert_eq!(spec["linux"]["resources"]["devices"], json!([{ "allow": true, "access": "rwm" }]));
}

#[test]
fn limits() {
    let spec = merged(|record| {
        record.host_config.memory = 1 << 26;
        record.host_config.nano_cpus = 500_000_000;
        record.host_config.pids_limit = Some(0);
    })
    .unwrap();
    let resources = &spec["linux"]["resources"];
    assert_eq!(resources["memory"]["limit"], 1 << 26);
    assert_eq!(resources["cpu"], json!({ "period": 100_000, "quota": 50_000 }));
    assert_eq!(resources["pids"]["limit"], -1);
}

#[test]
fn networks_are_joined_once() {
    let mut spec = image_spec();
    let network = network::Status {
        netns: Some("/run/ns".into()),
        hosts: Some("/run/hosts".into()),
        ..network::Status::default()
    };
    join_network(&mut spec, &network);
    join_network(&mut spec, &network);
    assert_eq!(spec["linux"]["namespaces"], json!([{"type": "pid"}, {"type": "network", "path": "/run/ns"}]));
    let hosts =
        spec["mounts"].as_array().unwrap().iter().filter(|mount| mount["destination"] == "/etc/hosts");
    assert_eq!(hosts.count(), 1);
    // The next start may be without one that has a name.
    join_network(&mut spec, &network::Status { unnamed: true, ..network::Status::default() });
    assert_eq!(spec["linux"]["namespaces"], json!([{"type": "pid"}, {"type": "network"}]));
}

#[test]
fn a_user_of_the_hosts_names_is_unknown() {
    assert!(merged(|record| record.config.user = "root-of-the-host".into()).is_err());
}

#[test]
fn unknown_options_are_named() {
    let err = merged(|record| record.host_config.security_opt = Some(vec!["bogus=1".into()])).unwrap_err();
    assert!(err.to_string().contains("bogus=1"), "{err}");
}
