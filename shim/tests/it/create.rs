use crate::rig::Rig;

#[test]
fn a_created_container_waits_for_start() {
    let rig = Rig::new();
    let id =
        rig.ok(&["create", "--name", "c1", "--network", "none", "busybox", "sh", "-c", "echo hi; exit 5"]);
    assert_eq!(rig.inspect("c1", "{{.State.Status}} {{.Id}}"), format!("created {id}"));
    let done = rig.run(&["start", "-a", "c1"]);
    assert_eq!((done.code, &*done.out), (5, "hi\n"));
}

#[test]
fn names_are_unique_and_checked() {
    let rig = Rig::new();
    rig.ok(&["create", "--name", "one", "busybox"]);
    assert!(rig.fails(4, &["create", "--name", "one", "busybox"]).contains("already in use"));
    for bad in ["bad name", "a", "../x", "-x-"] {
        rig.fails(2, &["create", &format!("--name={bad}"), "busybox"]);
    }
    rig.ok(&["rename", "one", "two"]);
    rig.ok(&["create", "--name", "one", "busybox"]);
    rig.fails(4, &["rename", "one", "two"]);
    rig.fails(3, &["rename", "nosuch", "three"]);
}

#[test]
fn a_failed_create_leaves_nothing() {
    let rig = Rig::new();
    rig.fails(3, &["create", "--name", "gone", "--mount", "type=bind,src=/nosuch,dst=/d", "busybox"]);
    rig.fails(2, &["create", "--name", "gone", "-m", "1m", "busybox"]);
    rig.fails(3, &["create", "--name", "gone", "--pull", "never", "nosuch"]);
    assert!(rig.left().is_empty(), "{:?}", rig.left());
}
