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

#[test]
fn every_limit_changes_while_it_runs() {
    let rig = Rig::new();
    rig.sleeper("lim", &["-m", "64m", "--memory-swap", "128m"]);
    let v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let read = |old: &str, new: &str| {
        let file = format!("/sys/fs/cgroup/{}", if v2 { new } else { old });
        rig.ok(&["exec", "lim", "cat", &file])
    };
    rig.ok(&["update", "--cpus", "0.5", "--pids-limit", "20", "--cpuset-cpus", "0", "lim"]);
    assert_eq!(read("cpu/cpu.cfs_quota_us", "cpu.max"), if v2 { "50000 100000" } else { "50000" });
    assert_eq!(read("pids/pids.max", "pids.max"), "20");
    assert_eq!(read("cpuset/cpuset.cpus", "cpuset.cpus"), "0");
    rig.ok(&["update", "--memory-reservation", "32m", "--memory-swap", "-1", "lim"]);
    assert_eq!(read("memory/memory.soft_limit_in_bytes", "memory.low"), "33554432");
    if !v2 {
        rig.ok(&["update", "-c", "512", "lim"]);
        assert_eq!(read("cpu/cpu.shares", ""), "512");
    }
    // The policy, too: what is killed from now on comes back.
    rig.ok(&["update", "--restart", "always", "lim"]);
    let pid = rig.inspect("lim", "{{.State.Pid}}");
    crate::rig::kill(pid.parse().unwrap());
    assert!(crate::rig::wait_until(
        || rig.inspect("lim", "{{.RestartCount}} {{.State.Status}}") == "1 running"
    ));
    // Limits hold for that run as well.
    assert_eq!(read("pids/pids.max", "pids.max"), "20");
    rig.sleeper("quota", &["--cpu-quota", "20000"]);
    rig.ok(&["update", "--cpu-period", "50000", "--cpu-quota", "10000", "quota"]);
    assert_eq!(rig.inspect("quota", "{{.HostConfig.CpuPeriod}} {{.HostConfig.CpuQuota}}"), "50000 10000");
}
