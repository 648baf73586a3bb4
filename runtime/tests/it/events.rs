//! `events`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::rig::{Rig, can_run};

#[test]
fn statistics_once() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]).with(|config| {
        config["linux"]["resources"]["pids"] = json!({"limit": 40});
    });
    rig.runtime(&["run", "-d", "@c"]).ok();
    let event: Value = serde_json::from_str(&rig.runtime(&["events", "--stats", "@c"]).ok()).unwrap();
    assert_eq!((event["type"].as_str(), event["id"].as_str()), (Some("stats"), Some(rig.id("c").as_str())));
    assert_eq!(event["data"]["pids"], json!({"current": 1, "limit": 40}));
    assert!(event["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    assert!(event["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    rig.runtime(&["events", "--interval", "0s", "@c"]).fails(2);
    rig.runtime(&["events", "--stats", "nobody"]).fails(3);
    rig.runtime(&["kill", "@c", "KILL"]).ok();
    rig.wait_for_status("c", "stopped");
    assert!(rig.runtime(&["events", "--stats", "@c"]).fails(4).contains("is not running"));
}

#[test]
fn a_kill_for_lack_of_memory_is_told_and_the_end_ends_it() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]).with(|config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 16_777_216});
    });
    rig.runtime(&["run", "-d", "@c"]).ok();
    let mut watch =
        rig.command(&["events", "--interval", "20ms", "@c"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut kind = || {
        let event: Value = serde_json::from_str(&lines.next().expect("it ended")).unwrap();
        event["type"].as_str().unwrap().to_owned()
    };
    assert_eq!(kind(), "stats", "it watches by now");
    let eater = ["exec", "@c", "/bin/busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"];
    assert_eq!(rig.runtime(&eater).code, 137);
    while kind() != "oom" {}
    rig.runtime(&["delete", "--force", "@c"]).ok();
    assert!(watch.wait().unwrap().success());
}
