//! The files and values of each kind of limit.

use super::*;
use serde_json::json;

fn lines(plan: Result<Writes>) -> Vec<String> {
    plan.unwrap().0.iter().map(|write| format!("{}={}", write.files[0], write.value)).collect()
}

fn both(resources: serde_json::Value) -> (Vec<String>, Vec<String>) {
    let resources: LinuxResources = serde_json::from_value(resources).unwrap();
    (lines(v1::plan(&resources)), lines(v2::plan(&resources)))
}

#[test]
fn memory() {
    let (v1, v2) = both(json!({"memory": {"limit": 100, "swap": 150, "reservation": 50}}));
    let want =
        ["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=150", "memory.soft_limit_in_bytes=50"];
    assert_eq!(v1, want);
    assert_eq!(v2, ["memory.swap.max=50", "memory.max=100", "memory.low=50"]);
    let (v1, v2) = both(json!({"memory": {"limit": -1}}));
    assert_eq!(v1, ["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"]);
    assert_eq!(v2, ["memory.swap.max=max", "memory.max=max"]);
    let (v1, v2) = both(json!({"memory": {"limit": 0, "swap": 0}}));
    assert!(v1.is_empty() && v2.is_empty());
}

#[test]
fn cpu() {
    let (v1, v2) =
        both(json!({"cpu": {"shares": 512, "quota": 50000, "period": 100_000, "cpus": "0-1", "burst": 10}}));
    let want =
        ["cpu.shares=512", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000", "cpu.cfs_burst_us=10"];
    assert_eq!(v1[..4], want);
    assert_eq!(v2, ["cpu.weight=59", "cpu.max=50000 100000", "cpu.max.burst=10", "cpuset.cpus=0-1"]);
    assert_eq!(both(json!({"cpu": {"quota": -1}})).1, ["cpu.max=max"]);
    assert_eq!(both(json!({"cpu": {"period": 5000}})).1, ["cpu.max=max 5000"]);
    assert_eq!(both(json!({"cpu": {"shares": 512, "idle": 1}})).0, ["cpu.idle=1"]);
}

#[test]
fn the_rest() {
    let (v1, v2) = both(json!({
        "pids": {"limit": -1},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4096}],
        "blockIO": {"weight": 1000, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 7}]},
        "rdma": {"mlx5_1": {"hcaHandles": 3}, "mlx5_2": {"hcaHandles": 1, "hcaObjects": 2}, "mlx5_3": {}}}));
    assert_eq!(
        v1,
        [
            "pids.max=max",
            "blkio.weight=1000",
            "blkio.throttle.read_bps_device=8:0 7",
            "hugetlb.2MB.limit_in_bytes=4096",
            "hugetlb.2MB.rsvd.limit_in_bytes=4096",
            "rdma.max=mlx5_1 hca_handle=3",
            "rdma.max=mlx5_2 hca_handle=1 hca_object=2"
        ]
    );
    assert_eq!(
        v2,
        [
            "pids.max=max",
            "io.bfq.weight=1000",
            "io.weight=10000",
            "io.max=8:0 rbps=7",
            "hugetlb.2MB.max=4096",
            "hugetlb.2MB.rsvd.max=4096",
            "rdma.max=mlx5_1 hca_handle=3",
            "rdma.max=mlx5_2 hca_handle=1 hca_object=2"
        ]
    );
}

#[test]
fn what_a_version_cannot_do_is_said() {
    let plan = |value| serde_json::from_value::<LinuxResources>(value).unwrap();
    assert!(v1::plan(&plan(json!({"unified": {"memory.max": "1"}}))).is_err());
    assert!(v2::plan(&plan(json!({"unified": {"../memory.max": "1"}}))).is_err());
    assert!(v2::plan(&plan(json!({"cpu": {"realtimeRuntime": 5}}))).is_err());
    assert!(v2::plan(&plan(json!({"network": {"classID": 5}}))).is_err());
    assert!(v1::plan(&plan(json!({"memory": {"swappiness": 101}}))).is_err());
    assert!(v1::plan(&plan(json!({"hugepageLimits": [{"pageSize": "../x", "limit": 1}]}))).is_err());
    assert!(v1::plan(&plan(json!({"memory": {"limit": 100, "swap": 50}}))).is_err());
}
