//! netctl as a CNI plugin, called as a runtime calls it.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::{Value, json};

use super::rig::Rig;

/// A namespace of somebody else's making, as a CRI runtime has one for a pod.
fn pod(rig: &Rig, id: &str) -> String {
    rig.up(&[id, "--network", "none"])["netns"].as_str().unwrap().into()
}

/// What the plugin said, and whether it succeeded.
fn call(rig: &Rig, command: &str, id: &str, config: &Value) -> (bool, Value) {
    let netns = rig.net("ns").join(id);
    let mut child = rig
        .command(&[])
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", id)
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", rig.net("plugins"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

fn ok(rig: &Rig, command: &str, id: &str, config: &Value) -> Value {
    let (succeeded, said) = call(rig, command, id, config);
    assert!(succeeded, "{command} {id}: {said}");
    said
}

fn code(rig: &Rig, command: &str, id: &str, config: &Value) -> Value {
    let (succeeded, said) = call(rig, command, id, config);
    assert!(!succeeded && said["msg"].as_str().is_some_and(|text| !text.is_empty()), "{said}");
    said["code"].clone()
}

fn config(rig: &Rig, more: Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.1.0", "name": "pods", "type": "bulkhead", "bridge": "cnit0", "isDefaultGateway": true,
        "ipMasq": true, "mtu": 1400, "hairpinMode": true,
        "ipam": {
            "type": "host-local", "dataDir": rig.net("leases"),
            "ranges": [[{"subnet": "10.70.0.0/24"}], [{"subnet": "fd70::/64"}]],
        },
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

#[test]
fn a_pod_comes_and_goes_with_its_port() {
    let mut rig = Rig::new();
    for id in ["a", "b"] {
        pod(&rig, id);
    }
    let ports = json!({"runtimeConfig": {"portMappings": [{"hostPort": 8099, "containerPort": 80, "protocol": "tcp"}]}});
    let a = ok(&rig, "ADD", "a", &config(&rig, ports.clone()));
    assert_eq!(a["interfaces"][2]["mtu"], 1400, "{a}");
    assert_eq!(a["ips"][0], json!({"address": "10.70.0.2/24", "gateway": "10.70.0.1", "interface": 2}));
    let b = ok(&rig, "ADD", "b", &config(&rig, json!({})));
    rig.serve("a", "pod");
    for url in ["10.70.0.2", "10.70.0.1:8099", "http://[fd70::2]/", "http://[fd70::1]:8099/"] {
        assert_eq!(rig.inside("b", &["curl", "-sm2", url]), "pod", "{url}");
    }
    assert_eq!(rig.get("127.0.0.1:8099"), "pod");
    assert_eq!(code(&rig, "ADD", "a", &config(&rig, ports.clone())), 7, "eth0 is there already");

    let with = |more: Value, previous: &Value| {
        let mut config = config(&rig, more);
        config["prevResult"] = previous.clone();
        config
    };
    ok(&rig, "CHECK", "a", &with(ports.clone(), &a));
    ok(&rig, "CHECK", "b", &with(json!({}), &b));
    rig.inside("b", &["ip", "addr", "del", "10.70.0.3/24", "dev", "eth0"]);
    assert_eq!(code(&rig, "CHECK", "b", &with(json!({}), &b)), 101);
    assert_eq!(code(&rig, "CHECK", "a", &config(&rig, json!({}))), 7, "no prevResult");

    // Other commands write the rules anew; the pod's stay.
    rig.run("nft", &["flush", "ruleset"]);
    rig.ok(&["reload"]);
    assert_eq!(rig.get("127.0.0.1:8099"), "pod");
    for _ in 0..2 {
        assert_eq!(ok(&rig, "DEL", "a", &with(ports.clone(), &a)), Value::Null);
    }
    assert_eq!(rig.get("127.0.0.1:8099"), "");
    ok(&rig, "GC", "", &config(&rig, json!({"cni.dev/valid-attachments": []})));
    assert!(!rig.net("leases/pods/10.70.0.3").exists());
    assert!(!rig.net("guests").exists());
    ok(&rig, "STATUS", "", &config(&rig, json!({})));
    for id in ["a", "b"] {
        rig.ok(&["down", "--wait", id]);
    }
    assert_eq!(rig.run("nft", &["list", "ruleset"]), "");
}

#[test]
fn errors_have_the_numbers_of_the_specification() {
    let rig = Rig::new();
    pod(&rig, "a");
    let with = |more: Value| config(&rig, more);
    assert_eq!(code(&rig, "ADD", "a", &with(json!({"cniVersion": "9.9.9"}))), 1);
    assert_eq!(code(&rig, "GC", "", &with(json!({"cniVersion": "1.0.0"}))), 1);
    for odd in [
        json!({"markMasqBit": 3}),
        json!({"externalSetMarkChain": "KUBE-MARK-MASQ"}),
        json!({"conditionsV4": ["-s", "10.0.0.1"]}),
        json!({"snat": false}),
        json!({"backend": "iptables"}),
        json!({"ipMasqBackend": "iptables"}),
        json!({"runtimeConfig": {"bandwidth": {"ingressRate": 1}}}),
    ] {
        assert_eq!(code(&rig, "ADD", "a", &with(odd.clone())), 2, "{odd}");
        assert_eq!(code(&rig, "STATUS", "", &with(odd.clone())), 2, "{odd}");
    }
    assert_eq!(code(&rig, "ADD", "nosuch", &with(json!({}))), 3);
    assert_eq!(code(&rig, "ADD", "../a", &with(json!({}))), 4);
    assert_eq!(code(&rig, "MOVE", "a", &with(json!({}))), 4);
    assert_eq!(code(&rig, "ADD", "a", &json!("nonsense")), 6);
    for odd in [
        json!({"vlan": 5000}),
        json!({"vlan": 7, "bridge": "fifteen-letters"}),
        json!({"vlanTrunk": [{"minID": 3}]}),
        json!({"vlanTrunk": [{"minID": 9, "maxID": 3}]}),
        json!({"vlanTrunk": [{"id": 0}]}),
        json!({"hairpinMode": true, "promiscMode": true}),
    ] {
        assert_eq!(code(&rig, "ADD", "a", &with(odd.clone())), 7, "{odd}");
    }
    assert_eq!(code(&rig, "ADD", "a", &with(json!({"ipam": {"type": "nosuch"}}))), 7);
    // No room: one container has the only address that there is.
    let narrow = |more: Value| {
        let mut config = with(json!({"name": "narrow", "bridge": "cnit1"}));
        config["ipam"]["ranges"] = json!([[{"subnet": "10.73.0.0/30"}]]);
        config["runtimeConfig"] = more;
        config
    };
    pod(&rig, "b");
    ok(&rig, "ADD", "b", &narrow(json!({})));
    assert_eq!(code(&rig, "ADD", "a", &narrow(json!({}))), 102);
    ok(&rig, "DEL", "b", &narrow(json!({})));
    // A port that another one has: named, and nothing is left of the second.
    let port = || {
        let ports = json!([{"hostPort": 8098, "containerPort": 80, "protocol": "tcp"}]);
        with(json!({"bridge": "cnit1", "runtimeConfig": {"portMappings": ports}}))
    };
    ok(&rig, "ADD", "b", &port());
    let (succeeded, said) = call(&rig, "ADD", "a", &port());
    assert!(!succeeded && said["code"] == 11, "{said}");
    assert_eq!(said["msg"], "cannot publish 8098/tcp: another container has it");
    ok(&rig, "DEL", "b", &port());
    let mut child = rig
        .command(&[])
        .env("CNI_COMMAND", "STATUS")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&[0xff, 0xfe]).unwrap();
    let said: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(said["code"], 5, "{said}");
    ok(&rig, "DEL", "nosuch", &with(json!({})));
    assert_eq!(rig.inside("a", &["ip", "-br", "link"]).lines().count(), 1, "nothing was made");
    let versions = ok(&rig, "VERSION", "", &json!({"cniVersion": "1.0.0"}));
    assert!(versions["supportedVersions"].as_array().unwrap().contains(&json!("1.1.0")), "{versions}");
}

#[test]
fn another_plugin_gives_the_addresses() {
    let rig = Rig::new();
    pod(&rig, "a");
    let plugin = rig.net("plugins").join("fixed");
    std::fs::create_dir_all(plugin.parent().unwrap()).unwrap();
    let log = rig.net("plugin.log");
    let script = format!(
        "#!/bin/sh\necho $CNI_COMMAND $CNI_CONTAINERID >> {}\n[ $CNI_COMMAND = ADD ] || exit 0\n\
         grep -q refuse && {{ echo '{{\"code\": 42, \"msg\": \"no\"}}'; exit 1; }}\n\
         echo '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"10.71.0.9/24\",\"gateway\":\"10.71.0.1\"}}]}}'\n",
        log.display()
    );
    std::fs::write(&plugin, script).unwrap();
    std::fs::set_permissions(&plugin, PermissionsExt::from_mode(0o755)).unwrap();
    let fixed = |more: &str| config(&rig, json!({"ipam": {"type": "fixed", "more": more}}));
    assert_eq!(code(&rig, "ADD", "a", &fixed("refuse")), 42);
    let answer = ok(&rig, "ADD", "a", &fixed(""));
    assert_eq!(answer["ips"][0]["address"], "10.71.0.9/24");
    assert!(rig.inside("a", &["ip", "route"]).contains("default via 10.71.0.1"));
    ok(&rig, "DEL", "a", &fixed(""));
    assert_eq!(std::fs::read_to_string(log).unwrap(), "ADD a\nADD a\nDEL a\n");
}

#[test]
fn old_runtimes_get_old_results() {
    let rig = Rig::new();
    pod(&rig, "a");
    let old = config(&rig, json!({"cniVersion": "0.2.0"}));
    assert_eq!(ok(&rig, "ADD", "a", &old)["ip4"]["ip"], "10.70.0.2/24");
    ok(&rig, "DEL", "a", &old);
    let newer = config(&rig, json!({"cniVersion": "0.4.0"}));
    assert_eq!(ok(&rig, "ADD", "a", &newer)["ips"][0]["version"], "4");
    ok(&rig, "DEL", "a", &newer);
}

#[test]
fn only_its_own_mac_address_leaves_a_pod() {
    let rig = Rig::new();
    let checked = || config(&rig, json!({"macspoofchk": true}));
    let shown =
        || String::from_utf8(rig.output("nft", &["list", "table", "bridge", "bulkhead"]).stdout).unwrap();
    let reaches = |id: &str, to: &str| {
        rig.inside(id, &["busybox", "ping", "-c1", "-W2", to]).contains("1 packets received")
    };
    let mut answers = Vec::new();
    for id in ["a", "b"] {
        pod(&rig, id);
        answers.push(ok(&rig, "ADD", id, &checked()));
        assert!(reaches(id, "10.70.0.1"), "{}", shown());
    }
    let port = answers[0]["interfaces"][1]["name"].as_str().unwrap();
    assert!(
        shown().contains(&format!("\"{port}\" . {}", answers[0]["interfaces"][2]["mac"].as_str().unwrap())),
        "{}",
        shown()
    );
    let own = answers[0]["interfaces"][2]["mac"].as_str().unwrap().to_owned();
    rig.inside("a", &["ip", "link", "set", "eth0", "address", "02:00:00:00:00:99"]);
    assert!(!reaches("a", "10.70.0.1"), "another address is dropped");
    assert!(reaches("b", "10.70.0.1"), "the neighbour's is not");
    // Somebody flushes the rules; ours come back.
    rig.run("nft", &["flush", "ruleset"]);
    rig.ok(&["reload"]);
    assert!(!reaches("a", "10.70.0.1"), "{}", shown());
    rig.inside("a", &["ip", "link", "set", "eth0", "address", &own]);
    assert!(reaches("a", "10.70.0.1"));
    let mut with_result = checked();
    with_result["prevResult"] = answers[1].clone();
    ok(&rig, "CHECK", "b", &with_result);
    ok(&rig, "DEL", "a", &checked());
    assert!(!shown().contains(port) && reaches("b", "10.70.0.1"), "{}", shown());
    // The second one goes without a DEL.
    ok(&rig, "GC", "", &{
        let mut config = checked();
        config["cni.dev/valid-attachments"] = json!([]);
        config
    });
    assert_eq!(shown(), "");
    for id in ["a", "b"] {
        rig.ok(&["down", "--wait", id]);
    }
    assert_eq!(rig.left_of_rules(), "");
}

#[test]
fn vlans_need_the_kernels_filtering() {
    let rig = Rig::new();
    pod(&rig, "a");
    if rig.output("ip", &["link", "add", "try0", "type", "bridge", "vlan_filtering", "1"]).status.success() {
        rig.run("ip", &["link", "del", "try0"]);
        eprintln!("skipped: this kernel's bridges have VLAN filtering (tests/vm/70-network-links shows it)");
        return;
    }
    for odd in [json!({"vlan": 7}), json!({"vlanTrunk": [{"minID": 3, "maxID": 9}]})] {
        let (succeeded, said) = call(&rig, "ADD", "a", &config(&rig, odd));
        assert!(!succeeded && said["code"] == 2, "{said}");
        assert!(said["msg"].as_str().unwrap().contains("CONFIG_BRIDGE_VLAN_FILTERING"), "{said}");
    }
    assert_eq!(rig.inside("a", &["ip", "-br", "link"]).lines().count(), 1, "nothing is left");
    let links = rig.run("ip", &["-br", "link"]);
    assert!(!links.contains("veth") && !links.contains("cnit0"), "{links}");
}
