//! Networks: create, ls, inspect, rm, prune.

use super::rig::Rig;

#[test]
fn a_network_is_listed_shown_and_removed() {
    let rig = Rig::new();
    let id = rig.ok(&["create", "--subnet", "172.22.16.0/24", "--label", "a=b", "n1"]);
    assert_eq!(id.trim().len(), 64);
    assert_eq!(
        rig.ok(&["ls", "--format", "{{.Name}} {{.Driver}}"]),
        "bridge bridge\nhost host\nn1 bridge\nnone null\n"
    );
    assert_eq!(rig.ok(&["ls", "-q", "--filter", "label=a=b"]), format!("{}\n", &id[..12]));
    let shown = rig.ok(&["inspect", &id[..12], "-f", "{{.Name}} {{(index .IPAM.Config 0).Gateway}}"]);
    assert_eq!(shown, "n1 172.22.16.1\n");
    assert_eq!(rig.ok(&["prune"]), "n1\n");
    rig.fails(3, &["rm", "n1"]);
    rig.ok(&["rm", "-f", "n1"]);
}

#[test]
fn what_cannot_be_a_network_is_refused() {
    let rig = Rig::new();
    rig.ok(&["create", "--subnet", "172.22.16.0/24", "n1"]);
    assert!(rig.fails(4, &["create", "n1"]).contains("network with name n1 already exists"));
    assert!(rig.fails(5, &["create", "--subnet", "172.22.16.0/25", "n2"]).contains("overlaps"));
    rig.fails(2, &["create", "--subnet", "10.1.0.0/24", "--gateway", "10.2.0.1", "n2"]);
    rig.fails(2, &["create", "--subnet", "10.1.0.0/31", "n2"]);
    rig.fails(2, &["create", "-o", "mtu=x", "n2"]);
    rig.fails(2, &["create", "-o", "nosuch=1", "n2"]);
    rig.fails(7, &["create", "-d", "bogus", "n2"]);
    rig.fails(2, &["create", "-d", "macvlan", "n2"]);
    rig.fails(2, &["create", "a;b"]);
    rig.fails(2, &["create", &"a".repeat(200)]);
    rig.fails(1, &["create", "host"]);
    rig.fails(1, &["rm", "bridge"]);
    assert_eq!(rig.ok(&["ls", "--format", "{{.Name}}"]), "bridge\nhost\nn1\nnone\n");
}

#[test]
fn modes_are_listed_but_nobodys_to_change() {
    let rig = Rig::new();
    assert_eq!(rig.ok(&["ls", "--format", "{{.Name}} {{.Driver}}", "-f", "driver=null"]), "none null\n");
    assert!(rig.ok(&["inspect", "host"]).contains("\"Driver\": \"host\""));
    assert_eq!(rig.ok(&["prune"]), "");
    rig.up(&["c1", "--network", "bridge", "--name", "web"]);
    for name in ["host", "none", "bridge"] {
        assert!(
            rig.fails(1, &["rm", name])
                .contains(&format!("{name} is a pre-defined network and cannot be removed"))
        );
    }
    assert!(rig.fails(4, &["connect", "host", "web"]).contains("cannot connect c1 to host"));
    // Containers are found by their name and by the beginning of their id, too.
    rig.ok(&["create", "n1"]);
    rig.ok(&["connect", "n1", "web"]);
    rig.ok(&["disconnect", "n1", "c"]);
    rig.up(&["c2"]);
    assert!(rig.fails(2, &["connect", "n1", "c"]).contains("several containers' ids begin with c"));
    assert!(rig.fails(3, &["connect", "n1", "x"]).contains("x is not attached to any network"));
}

#[test]
fn a_network_in_use_stays() {
    let rig = Rig::new();
    rig.ok(&["create", "n1"]);
    rig.up(&["c1", "--network", "n1"]);
    assert!(rig.fails(5, &["rm", "n1"]).contains("has active endpoints (c1)"));
    rig.ok(&["down", "c1"]);
    rig.ok(&["rm", "n1"]);
}

#[test]
fn default_subnets_avoid_the_hosts_routes() {
    let rig = Rig::new();
    rig.run("ip", &["link", "add", "lan", "type", "bridge"]);
    rig.run("ip", &["link", "set", "lan", "up"]);
    rig.run("ip", &["addr", "add", "10.91.0.1/23", "dev", "lan"]);
    rig.ok(&["create", "n1"]);
    let subnet = rig.ok(&["inspect", "n1", "-f", "{{(index .IPAM.Config 0).Subnet}}"]);
    assert_eq!(subnet, "10.91.2.0/24\n");
}
