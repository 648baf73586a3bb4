use crate::rig::{Rig, wait_until};

#[test]
fn a_life_in_events() {
    let rig = Rig::new();
    rig.ok(&["run", "--rm", "--name", "ev", "--network", "none", "busybox", "true"]);
    let actions = || {
        let args =
            ["events", "--since", "1h", "--until", "0s", "-f", "container=ev", "--format", "{{.Action}}"];
        rig.ok(&args).replace('\n', " ")
    };
    assert!(wait_until(|| actions() == "create start die destroy"), "{}", actions());
    rig.fails(2, &["events", "--until", "0s", "-f", "bogus=1"]);
}

#[test]
fn every_filter() {
    let rig = Rig::new();
    rig.ok(&["volume", "create", "vol"]);
    rig.sleeper("one", &["-l", "tier=web"]);
    rig.sleeper("two", &[]);
    rig.ok(&["kill", "two"]);
    rig.ok(&["wait", "two"]);
    let seen = |filters: &[&str]| {
        let mut args = vec!["events", "--since", "1h", "--until", "0s", "--format", "{{.Type}} {{.Action}}"];
        filters.iter().for_each(|filter| args.extend(["--filter", filter]));
        rig.ok(&args).replace('\n', ", ")
    };
    assert_eq!(seen(&["type=volume"]), "volume create");
    assert_eq!(seen(&["volume=vol"]), "volume create");
    assert_eq!(seen(&["container=one"]), "container create, container start");
    let id = rig.inspect("one", "{{.Id}}");
    assert_eq!(seen(&[&format!("container={}", &id[..12]), "event=start"]), "container start");
    assert_eq!(seen(&["label=tier=web"]), "container create, container start");
    assert_eq!(seen(&["label=tier", "event=start", "event=die"]), "container start");
    assert_eq!(seen(&["container=two", "event=kill", "event=die"]), "container kill, container die");
    rig.ok(&["restart", "-t", "0", "one"]);
    // SIGTERM does nothing to a first process without a handler: the second signal ends it.
    let restart =
        "container kill, container kill, container die, container stop, container start, container restart";
    assert_eq!(seen(&["container=one"]), format!("container create, container start, {restart}"));
    assert_eq!(seen(&["image=busybox", "event=create"]), "container create, container create");
    assert_eq!(seen(&["image=other"]), "");
    assert!(rig.fails(2, &["events", "--filter", "bogus=1"]).contains("bogus=1"));
}
