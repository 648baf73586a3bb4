use crate::rig::Rig;

#[test]
fn added_changed_deleted() {
    let rig = Rig::new();
    let script = "echo x > /tmp/new; echo y >> /etc/group; rm /etc/passwd";
    rig.ok(&["run", "--name", "changed", "--network", "none", "busybox", "sh", "-c", script]);
    let out = rig.ok(&["diff", "changed"]);
    let has = |line: &str| out.lines().any(|found| found == line);
    for line in ["C /etc", "C /etc/group", "D /etc/passwd", "C /tmp", "A /tmp/new"] {
        assert!(has(line), "{line}: {out}");
    }
    assert!(!out.contains("/bin"), "{out}");
    rig.fails(3, &["diff", "nosuch"]);
}
