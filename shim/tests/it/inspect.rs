use crate::rig::Rig;

#[test]
fn the_whole_object_and_templates() {
    let rig = Rig::new();
    let id = rig.sleeper("up1", &["-l", "k=v", "-m", "64m"]);
    let all: serde_json::Value = serde_json::from_str(&rig.ok(&["inspect", "up1"])).unwrap();
    let object = &all[0];
    assert_eq!(object["Id"], id.as_str());
    assert_eq!(object["Name"], "/up1");
    assert_eq!(object["State"]["Status"], "running");
    assert_eq!(object["HostConfig"]["MemorySwap"], 128 << 20);
    assert_eq!(object["Config"]["Labels"]["from"], "image");
    assert_eq!(object["Config"]["Labels"]["k"], "v");
    assert_eq!(object["Args"], serde_json::json!(["1000"]));
    assert_eq!(rig.inspect(&id[..8], "{{.Name}} {{json .Config.Cmd}}"), "/up1 [\"sleep\",\"1000\"]");
    let done = rig.run(&["inspect", "nosuch"]);
    assert_eq!((done.code, done.out.trim()), (3, "[]"));
}
