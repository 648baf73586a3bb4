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

#[test]
fn every_filter() {
    let rig = Rig::new();
    let ports = ["-p", "127.0.0.1:8090:80", "--expose", "90-91/udp", "-v", "data:/d", "--health-cmd", "true"];
    rig.ok(&[&["run", "-d", "--name", "web-1"], &ports[..], &["busybox", "sleep", "1000"]].concat());
    rig.sleeper("web-20", &[]);
    rig.ok(&["create", "--name", "db", "busybox"]);
    let id = rig.inspect("db", "{{.Id}}");
    for (filter, want) in [
        ("name=web", "web-20 web-1"),
        ("name=^web-.$", "web-1"),
        ("name=^/web-1$", "web-1"),
        ("name=web-[12]", "web-20 web-1"),
        ("name=b$", "db"),
        ("name=[", ""),
        (&format!("id={}", &id[..8]), "db"),
        ("publish=8090", "web-1"),
        ("publish=8000-9000/tcp", "web-1"),
        ("publish=80", ""),
        ("expose=91/udp", "web-1"),
        ("expose=85-95/udp", "web-1"),
        ("expose=80", "web-1"),
        ("volume=data", "web-1"),
        ("volume=/d", "web-1"),
        ("network=none", "web-20"),
        ("network=bridge", "db web-1"),
        ("health=none", "db web-20"),
        ("isolation=default", "db web-20 web-1"),
        ("is-task=false", "db web-20 web-1"),
        ("is-task=true", ""),
    ] {
        assert_eq!(names(&rig, &["-a", "-f", filter]), want, "{filter}");
    }
    assert_eq!(names(&rig, &["-a", "-f", "name=web", "-f", "name=db", "-f", "network=none"]), "web-20");
    for wrong in ["exited=x", "publish=x", "expose=1-", "health=odd", "isolation=hyperv", "name"] {
        assert!(rig.fails(2, &["ps", "-f", wrong]).contains(wrong), "{wrong}");
    }
    rig.ok(&["stop", "-t", "0", "web-1", "web-20"]);
    assert_eq!(names(&rig, &["-a", "-f", "exited=137", "-f", "publish=8090"]), "web-1");
}
