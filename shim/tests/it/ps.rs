use crate::rig::Rig;

fn names(rig: &Rig, more: &[&str]) -> String {
    let mut args = vec!["ps", "--format", "{{.Names}}"];
    args.extend(more);
    rig.ok(&args).replace('\n', " ")
}

#[test]
fn filters_formats_and_order() {
    let rig = Rig::new();
    rig.ok(&["create", "--name", "made", "-l", "k=v", "busybox"]);
    assert_eq!(
        rig.run(&["run", "--name", "done3", "--network", "none", "busybox", "sh", "-c", "exit 3"]).code,
        3
    );
    rig.sleeper("up1", &["-l", "k=v"]);
    assert_eq!(names(&rig, &[]), "up1");
    assert_eq!(names(&rig, &["-a"]), "up1 done3 made");
    assert_eq!(names(&rig, &["-a", "-f", "exited=3"]), "done3");
    assert_eq!(names(&rig, &["-f", "status=created"]), "made");
    assert_eq!(names(&rig, &["-a", "-f", "label=k=v"]), "up1 made");
    assert_eq!(names(&rig, &["-a", "-f", "before=up1"]), "done3 made");
    assert_eq!(names(&rig, &["-a", "-f", "since=made"]), "up1 done3");
    assert_eq!(names(&rig, &["-a", "-f", "name=done"]), "done3");
    assert_eq!(names(&rig, &["-n", "2"]), "up1 done3");
    assert_eq!(names(&rig, &["-l"]), "up1");
    assert_eq!(names(&rig, &["-a", "-f", "ancestor=busybox"]), "up1 done3 made");
    rig.fails(2, &["ps", "-f", "bogus=1"]);
    assert!(rig.fails(2, &["ps", "-f", "status=exit"]).contains("must be one of"));
    let table = rig.ok(&["ps"]);
    assert!(table.starts_with("CONTAINER ID   IMAGE     COMMAND        CREATED"), "{table}");
    assert!(table.contains("\"sleep 1000\""), "{table}");
    let row: serde_json::Value = serde_json::from_str(&rig.ok(&["ps", "--format", "json"])).unwrap();
    assert_eq!((row["Names"].as_str(), row["State"].as_str()), (Some("up1"), Some("running")));
}
