use crate::rig::Rig;

#[test]
fn create_list_inspect_remove() {
    let rig = Rig::new();
    assert_eq!(rig.ok(&["volume", "create", "v1"]), "v1");
    assert_eq!(rig.ok(&["volume", "create", "v1"]), "v1", "again is fine");
    assert_eq!(rig.ok(&["volume", "create"]).len(), 64);
    let table = rig.ok(&["volume", "ls"]);
    let words: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(words[..4], ["DRIVER", "VOLUME", "NAME", "local"], "{table}");
    assert_eq!(rig.ok(&["volume", "ls", "-q", "-f", "name=v1"]), "v1");
    assert!(rig.ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", "v1"]).ends_with("/volumes/v1/_data"));
    assert!(rig.fails(2, &["volume", "create", "bad/name"]).contains("bad/name"));
    assert!(rig.fails(7, &["volume", "create", "-d", "bogus", "v9"]).contains("bogus"));
    rig.fails(3, &["volume", "inspect", "nosuch"]);
    rig.ok(&["volume", "rm", "v1"]);
    rig.fails(3, &["volume", "rm", "v1"]);
    assert_eq!(rig.ok(&["volume", "rm", "-f", "nosuch"]), "nosuch");
    rig.ok(&["volume", "create", "named"]);
    assert!(rig.ok(&["volume", "prune", "-f"]).contains("Deleted Volumes"));
    assert_eq!(rig.ok(&["volume", "ls", "-q"]), "named");
}
