//! Limits that few use, as the kernel has them once the container runs.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::rig::{Rig, can_run};

/// Where this machine has the memory controller of version 1, and we may limit.
fn has_v1() -> bool {
    let has = fs::metadata("/sys/fs/cgroup/memory/memory.limit_in_bytes").is_ok();
    if !has {
        eprintln!("SKIPPED: no cgroup version 1 (version 2: tests/vm/21-rare-limits)");
    }
    can_run() && has
}

fn limited(resources: &Value) -> Rig {
    Rig::new(&["/bin/sleep", "1000"]).with(|config| {
        for (name, value) in resources.as_object().unwrap() {
            config["linux"]["resources"][name] = value.clone();
        }
    })
}

/// The container's cgroup in the hierarchy of a version 1 controller.
fn cgroup(rig: &Rig, controller: &str) -> PathBuf {
    let state = rig.root().join(rig.id("c")).join("state.json");
    let state: Value = serde_json::from_slice(&fs::read(state).unwrap()).unwrap();
    let dirs = state["cgroup"]["dirs"].as_array().unwrap();
    let has = |dir: &&Value| dir["controllers"].as_str().unwrap().split(',').any(|one| one == controller);
    dirs.iter().find(has).unwrap()["path"].as_str().unwrap().into()
}

/// One of its files.
fn file(rig: &Rig, controller: &str, name: &str) -> String {
    let path = cgroup(rig, controller).join(name);
    fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display())).trim().to_owned()
}

#[test]
fn memory_in_all_its_parts() {
    if !has_v1() {
        return;
    }
    // `kernel` and `useHierarchy` mean nothing to today's kernels, and say nothing.
    let rig = limited(&json!({ "memory": {
        "limit": 67_108_864, "reservation": 33_554_432, "kernel": 50_000_000, "kernelTCP": 1_048_576,
        "swappiness": 17, "disableOOMKiller": true, "useHierarchy": true } }));
    rig.runtime(&["run", "-d", "@c"]).ok();
    assert_eq!(file(&rig, "memory", "memory.kmem.tcp.limit_in_bytes"), "1048576");
    assert_eq!(file(&rig, "memory", "memory.swappiness"), "17");
    assert!(file(&rig, "memory", "memory.oom_control").starts_with("oom_kill_disable 1"));
    assert_eq!(file(&rig, "memory", "memory.use_hierarchy"), "1");
}

#[test]
fn processors_in_all_their_parts() {
    if !has_v1() {
        return;
    }
    let rig = limited(&json!({ "cpu": {
        "quota": 50_000, "period": 100_000, "burst": 20_000, "realtimePeriod": 500_000, "realtimeRuntime": 1_000 } }));
    rig.runtime(&["run", "-d", "@c"]).ok();
    assert_eq!(file(&rig, "cpu", "cpu.cfs_burst_us"), "20000");
    assert_eq!(file(&rig, "cpu", "cpu.rt_period_us"), "500000");
    assert_eq!(file(&rig, "cpu", "cpu.rt_runtime_us"), "1000");
    let idle = limited(&json!({ "cpu": { "idle": 1 } }));
    idle.runtime(&["run", "-d", "@c"]).ok();
    assert_eq!(file(&idle, "cpu", "cpu.idle"), "1");
}

#[test]
fn rates_of_block_devices() {
    if !has_v1() {
        return;
    }
    let devices = fs::read_dir("/sys/block").unwrap().flatten();
    let Some(device) = devices.filter_map(|entry| fs::read_to_string(entry.path().join("dev")).ok()).next()
    else {
        eprintln!("SKIPPED: no block device");
        return;
    };
    let (major, minor) = device.trim().split_once(':').unwrap();
    let at = |rate: u64| json!([{ "major": major.parse::<u32>().unwrap(), "minor": minor.parse::<u32>().unwrap(), "rate": rate }]);
    let rig = limited(&json!({ "blockIO": {
        "throttleReadBpsDevice": at(1_048_576), "throttleWriteBpsDevice": at(2_097_152),
        "throttleReadIOPSDevice": at(100), "throttleWriteIOPSDevice": at(200) } }));
    rig.runtime(&["run", "-d", "@c"]).ok();
    for (name, rate) in
        [("read_bps", 1_048_576), ("write_bps", 2_097_152), ("read_iops", 100), ("write_iops", 200)]
    {
        let line = format!("{major}:{minor} {rate}");
        assert_eq!(file(&rig, "blkio", &format!("blkio.throttle.{name}_device")), line);
    }
}

#[test]
fn each_limit_of_update() {
    if !has_v1() {
        return;
    }
    let rig = limited(&json!({ "memory": { "limit": 67_108_864 }, "cpu": { "quota": 50_000 } }));
    rig.runtime(&["run", "-d", "@c"]).ok();
    for (flag, value, controller, name, wanted) in [
        ("--cpu-share", "300", "cpu", "cpu.shares", "300"),
        ("--cpu-period", "50000", "cpu", "cpu.cfs_period_us", "50000"),
        ("--cpu-quota", "25000", "cpu", "cpu.cfs_quota_us", "25000"),
        ("--cpuset-cpus", "0", "cpuset", "cpuset.cpus", "0"),
        ("--cpuset-mems", "0", "cpuset", "cpuset.mems", "0"),
        ("--memory-swap", "256m", "memory", "memory.memsw.limit_in_bytes", "268435456"),
        ("--memory", "128m", "memory", "memory.limit_in_bytes", "134217728"),
        ("--memory-reservation", "16m", "memory", "memory.soft_limit_in_bytes", "16777216"),
        ("--pids-limit", "9", "pids", "pids.max", "9"),
    ] {
        rig.runtime(&["update", flag, value, "@c"]).ok();
        assert_eq!(file(&rig, controller, name), wanted, "{flag}");
    }
    // Which schedulers of block devices there are is the kernel's matter.
    let said = rig.runtime(&["update", "--blkio-weight", "300", "@c"]);
    let files = ["blkio.weight", "blkio.bfq.weight"].map(|name| cgroup(&rig, "blkio").join(name));
    if files.iter().any(|path| path.exists()) {
        said.ok();
        assert!(files.iter().any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("300"))));
    } else {
        assert!(said.fails(7).contains("blkio.weight"));
    }
}

/// What this kernel has not is named, and nothing starts without it.
#[test]
fn what_is_missing_is_named() {
    if !has_v1() {
        return;
    }
    let has = |path: &str| fs::metadata(format!("/sys/fs/cgroup/{path}")).is_ok();
    for (resources, word, there) in [
        (json!({ "network": { "classID": 1_048_577 } }), "net_cls", has("net_cls/net_cls.classid")),
        (
            json!({ "network": { "priorities": [{ "name": "lo", "priority": 3 }] } }),
            "net_prio",
            has("net_prio/net_prio.ifpriomap"),
        ),
        (json!({ "blockIO": { "leafWeight": 300 } }), "blkio.leaf_weight", has("blkio/blkio.leaf_weight")),
        (
            json!({ "blockIO": { "weightDevice": [{ "major": 0, "minor": 77, "weight": 300 }] } }),
            "weight_device",
            false,
        ),
        (json!({ "memory": { "swappiness": 101 } }), "swappiness", false),
    ] {
        if there {
            continue;
        }
        let rig = limited(&resources);
        let line = rig.runtime(&["run", "-d", "@c"]).fails(125);
        assert!(line.contains(word), "{line}");
        rig.is_clean();
    }
}

/// /proc/self/cgroup speaks of all of version 2's tree, so that is what is there to see; of version 1 the container's own.
#[test]
fn cgroups_without_a_namespace() {
    if !can_run() {
        return;
    }
    let rig = Rig::script(
        "path=$(sed -n 's/^0:://p' /proc/self/cgroup); at=/sys/fs/cgroup; [ -e $at/cgroup.controllers ] || at=$at/unified
         [ -e $at$path ] && echo whole; [ -e $at/cgroup.procs ] && echo there",
    )
    .with(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "cgroup");
    });
    std::os::unix::fs::symlink("busybox", rig.rootfs().join("bin/sed")).unwrap();
    let whole = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let wanted = if whole { "whole\nthere\n" } else { "there\n" };
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), wanted);
}
