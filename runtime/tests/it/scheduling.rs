//! Processors, priorities, memory nodes and the execution domain.

use serde_json::json;

use crate::rig::{Rig, can_run};

#[test]
fn scheduler_and_priorities() {
    if !can_run() {
        return;
    }
    // Fields 19 and 41 of stat: the nice value and the policy (3 is SCHED_BATCH). No field is an I/O priority.
    let rig =
        Rig::script("set -- $(cat /proc/self/stat); echo ${19} ${41}; busybox ionice -p $$").with(|config| {
            config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 5 });
            config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
        });
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), "5 3\nbest-effort: prio 6\n");
    let rig = rig.with(|config| config["process"]["ioPriority"]["priority"] = 9.into());
    let line = rig.runtime(&["run", "@e"]).fails(125);
    assert!(line.contains("9 is not between 0 and 7"), "{line}");
    let rig = rig.with(|config| config["process"]["ioPriority"]["priority"] = 6.into());
    let rig = rig.with(|config| config["process"]["scheduler"]["policy"] = "SCHED_FANCY".into());
    let line = rig.runtime(&["run", "@d"]).fails(125);
    assert!(line.contains("process.scheduler.policy: unknown value \"SCHED_FANCY\""), "{line}");
}

#[test]
fn a_32_bit_personality() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/cat", "/proc/self/personality"])
        .with(|config| config["linux"]["personality"] = json!({ "domain": "LINUX32" }));
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), "00000008\n");
}

#[test]
fn a_memory_policy() {
    if !can_run() {
        return;
    }
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        eprintln!("SKIPPED: a kernel without NUMA");
        return;
    }
    let rig = Rig::new(&["/bin/cat", "/proc/self/numa_maps"])
        .with(|config| config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "0" }));
    let out = rig.runtime(&["run", "@c"]).ok();
    let bound = |line: &str| line.split(' ').any(|word| word == "bind:0" || word == "bind=static:0");
    assert!(out.lines().count() > 0 && out.lines().all(bound), "{out}");
    let rig = rig.with(|config| config["linux"]["memoryPolicy"]["mode"] = "MPOL_FANCY".into());
    rig.runtime(&["run", "@d"]).fails(125);
}

#[test]
fn processors_of_exec() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"])
        .with(|config| config["process"]["execCPUAffinity"] = json!({ "initial": "0", "final": "0" }));
    rig.runtime(&["run", "-d", "@c"]).ok();
    let grep = ["/bin/grep", "Cpus_allowed_list", "/proc/self/status"];
    let out = rig.runtime(&[&["exec", "@c"], &grep[..]].concat()).ok();
    assert_eq!(out, "Cpus_allowed_list:\t0\n");
    let rig = Rig::new(&["/bin/sleep", "1000"])
        .with(|config| config["process"]["execCPUAffinity"] = json!({ "final": "7-3" }));
    rig.runtime(&["run", "-d", "@c"]).ok();
    let line = rig.runtime(&["exec", "@c", "/bin/true"]).fails(125);
    assert!(line.contains("process.execCPUAffinity: wrong list"), "{line}");
}

#[test]
fn a_memory_policy_without_nodes() {
    if !can_run() {
        return;
    }
    for (mode, nodes) in [("MPOL_DEFAULT", None), ("MPOL_LOCAL", Some("")), ("MPOL_PREFERRED", None)] {
        let rig = Rig::new(&["/bin/true"]).with(|config| {
            config["linux"]["memoryPolicy"] = json!({ "mode": mode });
            if let Some(nodes) = nodes {
                config["linux"]["memoryPolicy"]["nodes"] = nodes.into();
            }
        });
        rig.runtime(&["run", "@c"]).ok();
    }
}
