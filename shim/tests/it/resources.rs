use crate::rig::Rig;

#[test]
fn limits_are_set_and_checked() {
    let rig = Rig::new();
    let memory =
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    let out = rig.ok(&["run", "--rm", "--network", "none", "-m", "64m", "busybox", "sh", "-c", memory]);
    assert_eq!(out, "67108864");
    for (flags, word) in [
        (vec!["-m", "3m"], "6MB"),
        (vec!["-m", "64m", "--memory-swap", "32m"], "memoryswap"),
        (vec!["-m", "abc"], "invalid size"),
        (vec!["--cpus", "4096"], "range of CPUs"),
        (vec!["--cpuset-cpus", "999"], "not available"),
        (vec!["--ulimit", "nofile=200:100"], "soft limit"),
    ] {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend(["busybox", "true"]);
        assert!(rig.fails(125, &args).contains(word), "{args:?}");
    }
}

#[test]
fn update_changes_a_running_container() {
    let rig = Rig::new();
    rig.sleeper("u1", &["-m", "64m"]);
    rig.ok(&["update", "-m", "100m", "--memory-swap", "200m", "u1"]);
    assert_eq!(rig.inspect("u1", "{{.HostConfig.Memory}}"), "104857600");
    let memory =
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    assert_eq!(rig.ok(&["exec", "u1", "sh", "-c", memory]), "104857600");
    rig.fails(2, &["update", "-m", "1m", "u1"]);
    rig.fails(3, &["update", "-m", "64m", "nosuch"]);
}
