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
