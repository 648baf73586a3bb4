//! cgroups on the real kernel: this machine's own hierarchies, and the unified one alone in a mount namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollTimeout, poll};
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use super::*;

/// A container's cgroup that goes with the test, its processes too.
struct Rig {
    cgroup: Cgroup,
    children: Vec<Child>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.cgroup.location.kill_all();
        for child in &mut self.children {
            let _ = child.wait();
        }
        let _ = self.cgroup.location.remove();
    }
}

fn path_for(test: &str) -> PathBuf {
    format!("/bulkhead-test-{}-{test}", std::process::id()).into()
}

fn create(test: &str, resources: Value) -> Result<Rig> {
    let resources: LinuxResources = serde_json::from_value(resources).unwrap();
    let path = path_for(test);
    let request = Request { path: Some(&path), id: test, resources: Some(&resources), ..Request::default() };
    Ok(Rig { cgroup: Cgroup::create(&request, |_| Ok(()))?, children: Vec::new() })
}

impl Rig {
    fn location(&self) -> &Location {
        &self.cgroup.location
    }

    fn file(&self, controller: &str, file: &str) -> String {
        let location = self.location();
        let dir = if location.is_v2() { location.unified() } else { location.with_controller(controller) };
        let path = dir.unwrap().path.join(file);
        fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display())).trim().to_owned()
    }

    /// Starts a shell script in the cgroup: it joins every hierarchy before its first word.
    fn shell(&mut self, script: &str) -> &mut Child {
        let join: String = self
            .location()
            .dirs
            .iter()
            .map(|dir| format!("echo $$ > '{}/cgroup.procs' || exit 99; ", dir.path.display()))
            .collect();
        let child =
            Command::new("/bin/sh").args(["-c", &(join + script)]).stdin(Stdio::null()).spawn().unwrap();
        self.children.push(child);
        self.children.last_mut().unwrap()
    }

    fn wait_for_processes(&self, count: usize) {
        for _ in 0..2000 {
            if self.location().pids().unwrap().len() == count {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{:?} instead of {count} processes", self.location().pids());
    }
}

/// Whether tests can make cgroups here; says so where not.
fn can() -> bool {
    let can = nix::unistd::geteuid().is_root() && layout::Layout::find().is_ok();
    if !can {
        eprintln!("SKIP: cgroups are not tested: that needs root and a mounted hierarchy");
    }
    can
}

/// Runs the ignored tests named `v2_…` with the unified hierarchy alone in sight.
#[test]
fn on_version_2() {
    if !can() {
        return;
    }
    let unified = Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists();
    let alone = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if !unified && !alone {
        eprintln!("SKIP: cgroup v2 is not tested: no unified hierarchy");
        return;
    }
    let bind = if alone { "" } else { "mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup && " };
    let script = format!("{bind}exec \"$0\" --ignored --test-threads 1 cgroup::tests::v2_");
    let exe = std::env::current_exe().unwrap();
    let run = Command::new("unshare")
        .args(["-m", "--propagation", "private", "/bin/sh", "-c", &script])
        .arg(exe)
        .output();
    let run = run.unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success() && text.contains("3 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

#[test]
#[ignore = "run by on_version_2"]
fn v2_life_and_death() {
    life_and_death("v2life");
}

#[test]
#[ignore = "run by on_version_2"]
fn v2_devices() {
    devices_are_kept_out("v2dev");
}

#[test]
#[ignore = "run by on_version_2"]
fn v2_missing_controllers_are_named() {
    let rig = create("v2lim", json!({}));
    assert!(rig.unwrap().location().is_v2());
    // A file that no kernel has.
    let err = create("v2lim", json!({"unified": {"bulkhead.max": "1"}})).err().unwrap();
    assert!(format!("{err:#}").contains("bulkhead.max"), "{err:#}");
    let path = Path::new("/sys/fs/cgroup").join(path_for("v2lim").strip_prefix("/").unwrap());
    assert!(!path.exists(), "nothing half-made is left");
}

#[test]
fn life_and_death_here() {
    if can() {
        life_and_death("life");
    }
}

#[test]
fn devices_are_kept_out_here() {
    if can() {
        devices_are_kept_out("dev");
    }
}

fn life_and_death(test: &str) {
    let mut rig = create(test, json!({})).unwrap();
    rig.shell("sleep 100 & sleep 100");
    rig.wait_for_processes(3);
    assert!(
        create(test, json!({})).err().is_some_and(|err| format!("{err:#}").contains("not empty: 3 process"))
    );
    assert!(!rig.location().is_frozen().unwrap());
    rig.location().freeze().unwrap();
    assert!(rig.location().is_frozen().unwrap());
    rig.location().thaw().unwrap();
    assert!(!rig.location().is_frozen().unwrap());
    assert!(rig.location().remove().is_err(), "busy");
    // A container's own cgroups below, and frozen: they go all the same.
    for dir in &rig.location().dirs {
        fs::create_dir_all(dir.path.join("nested/deeper")).unwrap();
    }
    rig.location().freeze().unwrap();
    rig.location().kill_all().unwrap();
    rig.location().remove().unwrap();
    rig.location().remove().unwrap();
    assert!(rig.location().dirs.iter().all(|dir| !dir.path.exists()));
    assert!(rig.location().pids().unwrap().is_empty());
}

fn devices_are_kept_out(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("kmsg");
    let made = Command::new("mknod").arg(&node).args(["c", "1", "11"]).status().unwrap();
    if !made.success() || fs::File::open(&node).is_err() {
        eprintln!("SKIP: device rules are not tested: nodes cannot be made or opened in /tmp");
        return;
    }
    let node = node.display();
    let script = format!("true </dev/null || exit 1; true 2>/dev/null <'{node}' && exit 2; exit 0");
    let mut rig = create(test, json!({"devices": [{"allow": false, "access": "rwm"}]})).unwrap();
    assert_eq!(rig.shell(&script).wait().unwrap().code(), Some(0));
    drop(rig);
    let allowed = json!({"devices": [{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]});
    let mut rig = create(test, allowed).unwrap();
    assert_eq!(rig.shell(&script).wait().unwrap().code(), Some(2));
}

#[test]
fn limits_and_their_change_on_version_1() {
    if !can() || matches!(layout::Layout::find(), Ok(layout::Layout::V2(_))) {
        return;
    }
    let rig = create(
        "limits",
        json!({
        "memory": {"limit": 67_108_864, "reservation": 33_554_432},
        "cpu": {"shares": 512, "quota": 50000, "period": 100_000, "cpus": "0"},
        "pids": {"limit": 20}}),
    )
    .unwrap();
    assert_eq!(rig.file("memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(rig.file("memory", "memory.soft_limit_in_bytes"), "33554432");
    assert_eq!(
        (rig.file("cpu", "cpu.shares").as_str(), rig.file("cpu", "cpu.cfs_quota_us").as_str()),
        ("512", "50000")
    );
    assert_eq!(
        (rig.file("cpuset", "cpuset.cpus").as_str(), rig.file("pids", "pids.max").as_str()),
        ("0", "20")
    );
    assert!(!rig.file("cpuset", "cpuset.mems").is_empty(), "taken from the parent");
    let update = |value: Value| rig.location().update(&serde_json::from_value(value).unwrap());
    // Up and down again: quota and period hold each other.
    update(json!({"cpu": {"quota": 200_000, "period": 400_000}, "pids": {"limit": -1}})).unwrap();
    assert_eq!(
        (rig.file("cpu", "cpu.cfs_period_us").as_str(), rig.file("pids", "pids.max").as_str()),
        ("400000", "max")
    );
    update(json!({"memory": {"limit": 134_217_728}})).unwrap();
    assert_eq!(rig.file("memory", "memory.limit_in_bytes"), "134217728");
    let err = update(json!({"cpu": {"period": 5}})).unwrap_err();
    assert!(format!("{err:#}").contains("cpu.cfs_period_us"), "{err:#}");
    assert_eq!(rig.location().stats().memory.usage.limit, 134_217_728);
}

#[test]
fn a_cpuset_made_on_the_way_hands_itself_on() {
    if !can() || matches!(layout::Layout::find(), Ok(layout::Layout::V2(_))) {
        return;
    }
    let above = path_for("above");
    for name in ["first", "second"] {
        let rig = create(&format!("above/{name}"), json!({})).unwrap();
        assert!(
            !rig.file("cpuset", "cpuset.cpus").is_empty() && !rig.file("cpuset", "cpuset.mems").is_empty()
        );
        let parent = rig.location().with_controller("cpuset").unwrap().path.parent().unwrap().to_owned();
        assert!(parent.ends_with(above.file_name().unwrap()));
        let flag = fs::read_to_string(parent.join("cgroup.clone_children")).unwrap();
        assert_eq!(flag.trim(), "1", "the kernel fills the {name}");
    }
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = fs::remove_dir(hierarchy.path().join(above.strip_prefix("/").unwrap()));
    }
}

#[test]
fn a_limit_that_fails_leaves_nothing() {
    if !can() || matches!(layout::Layout::find(), Ok(layout::Layout::V2(_))) {
        return;
    }
    let err = create("fails", json!({"cpu": {"cpus": "4000"}})).err().unwrap();
    assert!(format!("{err:#}").contains("cpuset.cpus"), "{err:#}");
    let name = path_for("fails");
    let left = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    assert!(!left.map(|dir| dir.path().join(name.strip_prefix("/").unwrap())).any(|path| path.exists()));
}

#[test]
fn out_of_memory_is_seen_on_version_1() {
    if !can() || matches!(layout::Layout::find(), Ok(layout::Layout::V2(_))) {
        return;
    }
    let mut rig = create("oom", json!({"memory": {"limit": 8_388_608}})).unwrap();
    let mut events = OomEvents::watch(rig.location()).unwrap();
    rig.shell("exec /bin/busybox dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null").wait().unwrap();
    let mut fds = [PollFd::new(events.as_fd(), events.interest())];
    assert_eq!(poll(&mut fds, PollTimeout::from(5000_u16)).unwrap(), 1);
    assert!(events.take().unwrap().is_some_and(|kills| kills > 0));
    rig.location().remove().unwrap();
    assert_eq!(events.take().unwrap(), None);
}

#[test]
fn exec_may_go_below_only() {
    let member = |controllers: &str| Member {
        controllers: controllers.into(),
        path: format!("/cg/{controllers}").into(),
    };
    let location = Location { dirs: vec![member("cpu,cpuacct"), member("memory")], ..Location::default() };
    let paths = |asked: &[&str]| {
        let asked: Vec<String> = asked.iter().map(|one| (*one).to_owned()).collect();
        location
            .below(&asked)
            .map(|location| location.dirs.into_iter().map(|dir| dir.path).collect::<Vec<_>>())
    };
    assert_eq!(paths(&["sub"]).unwrap(), [Path::new("/cg/cpu,cpuacct/sub"), Path::new("/cg/memory/sub")]);
    assert_eq!(paths(&["cpu:/sub"]).unwrap(), [Path::new("/cg/cpu,cpuacct/sub"), Path::new("/cg/memory")]);
    assert!(paths(&["../x"]).is_err() && paths(&["pids:x"]).is_err());
}
