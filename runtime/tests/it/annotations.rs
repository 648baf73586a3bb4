//! `run.oci.*`, and the flags that only crun has.

use std::fs;
use std::os::unix::net::UnixListener;

use serde_json::json;

use crate::rig::{Rig, can_run, run};

#[test]
fn hooks_print_into_the_files_of_the_annotations() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    let (out, err) = (rig.path().join("out"), rig.path().join("err"));
    let hook = |word: &str| json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("cat >/dev/null; echo {word}; echo bad-{word} >&2")] }]);
    let rig = rig.with(|c| {
        c["annotations"] = json!({ "run.oci.hooks.stdout": out, "run.oci.hooks.stderr": err });
        c["hooks"] = json!({ "createRuntime": hook("first"), "createContainer": [], "poststart": hook("second"), "poststop": hook("third") });
    });
    let said = rig.runtime(&["run", "@c"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""), "{said:?}");
    assert_eq!(fs::read_to_string(out).unwrap(), "first\nsecond\nthird\n");
    assert_eq!(fs::read_to_string(err).unwrap(), "bad-first\nbad-second\nbad-third\n");
}

#[test]
fn a_pidfd_goes_to_the_receiver() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "100"]);
    let socket = rig.path().join("receiver");
    let listener = UnixListener::bind(&socket).unwrap();
    let rig = rig.with(|c| c["annotations"] = json!({ "run.oci.pidfd_receiver": socket }));
    rig.runtime(&["run", "-d", "@c"]).ok();
    let (stream, _) = listener.accept().unwrap();
    let (_, fd) = sys::pass_fd::receive(&stream, &mut [0; 64]).unwrap();
    sys::pidfd::send_signal(fd.expect("a descriptor"), 9).unwrap();
    rig.wait_for_status("c", "stopped");
}

#[test]
fn groups_of_the_caller_are_kept_where_asked() {
    if !can_run() {
        return;
    }
    let grouped = |rig: &Rig| {
        let mut command = rig.command(&["run", "@c"]);
        let program = command.get_program().to_owned();
        let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        command = std::process::Command::new("setpriv");
        command.current_dir(rig.bundle()).args(["--groups", "77,78", "--"]).arg(program).args(args);
        run(&mut command).ok()
    };
    let rig = Rig::script("grep Groups /proc/self/status");
    assert_eq!(grouped(&rig).split_whitespace().count(), 1, "dropped");
    let rig = rig.with(|c| c["annotations"] = json!({ "run.oci.keep_original_groups": "1" }));
    assert_eq!(grouped(&rig).split_whitespace().collect::<Vec<_>>(), ["Groups:", "77", "78"]);
}

#[test]
fn what_only_crun_does_is_refused_by_name() {
    if !can_run() {
        return;
    }
    for (name, value) in [("run.oci.handler", "krun"), ("run.oci.nosuch", "1")] {
        let rig = Rig::new(&["/bin/true"]).with(|c| c["annotations"] = json!({ name: value }));
        let said = rig.runtime(&["run", "@c"]);
        assert!(said.code == 125 && said.err.contains(name), "{said:?}");
        rig.is_clean();
    }
}

#[test]
fn a_container_without_a_cgroup_of_its_own() {
    if !can_run() {
        return;
    }
    let limits = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    let rig = Rig::new(&["/bin/cat", "/proc/self/cgroup"]).with(|c| {
        c["linux"]["resources"] = limits;
        let list = c["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|one| one["type"] != "cgroup");
    });
    let said = rig.runtime(&["--cgroup-manager", "disabled", "run", "@c"]).ok();
    assert_eq!(said, fs::read_to_string("/proc/self/cgroup").unwrap());
    let rig = rig.with(|c| c["linux"]["resources"] = json!({ "pids": { "limit": 7 } }));
    let said = rig.runtime(&["--cgroup-manager", "disabled", "run", "@c"]);
    assert!(said.code == 125 && said.err.contains("limits are asked for"), "{said:?}");
    rig.is_clean();
}

#[test]
fn logs_go_where_they_are_sent() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    let log = format!("file:{}", rig.path().join("log").display());
    rig.runtime(&["--log", &log, "state", "nobody"]).fails(3);
    assert!(fs::read_to_string(rig.path().join("log")).unwrap().contains("nobody"));
    assert!(rig.runtime(&["--log", "syslog:", "state", "nobody"]).fails(2).contains("identifier"));
}
