use std::fs;
use std::os::unix::fs::symlink;

use crate::rig::Rig;

#[test]
fn both_ways_and_streams() {
    let rig = Rig::new();
    rig.sleeper("k1", &[]);
    fs::create_dir_all(rig.path().join("d/s")).unwrap();
    fs::write(rig.path().join("d/a"), "1").unwrap();
    fs::write(rig.path().join("d/s/b"), "2").unwrap();
    symlink("a", rig.path().join("d/l")).unwrap();
    rig.ok(&["cp", "d", "k1:/tmp"]);
    assert_eq!(rig.ok(&["exec", "k1", "sh", "-c", "cd /tmp/d; cat a s/b; readlink l"]), "12a");
    rig.ok(&["cp", "d/.", "k1:/tmp"]);
    assert_eq!(rig.ok(&["exec", "k1", "cat", "/tmp/a"]), "1");
    rig.ok(&["cp", "d", "k1:/nodir"]);
    assert_eq!(rig.ok(&["exec", "k1", "cat", "/nodir/s/b"]), "2");
    assert!(rig.fails(3, &["cp", "d", "k1:/no/dir"]).contains("/no in container k1"));
    rig.ok(&["cp", "k1:/tmp/d", "out1"]);
    assert_eq!(fs::read_to_string(rig.path().join("out1/s/b")).unwrap(), "2");
    let tar = rig.run(&["cp", "k1:/tmp/d/a", "-"]).out;
    assert!(tar.starts_with("a\0"), "{tar:?}");
    assert!(rig.fails(3, &["cp", "k1:/nosuch", "."]).contains("/nosuch"));
    assert!(rig.fails(2, &["cp", "a", "b"]).contains("at least one container"));
    assert!(rig.fails(2, &["cp", "k1:/a", "k1:/b"]).contains("between containers"));
}

#[test]
fn links_in_a_container_do_not_lead_out_of_it() {
    let rig = Rig::new();
    rig.sleeper("evil", &[]);
    rig.ok(&["exec", "evil", "ln", "-s", rig.path().to_str().unwrap(), "/out"]);
    fs::write(rig.path().join("file"), "x").unwrap();
    // The link's target does not exist inside.
    rig.fails(3, &["cp", "file", "evil:/out/stolen"]);
    assert!(!rig.path().join("stolen").exists());
    rig.fails(3, &["cp", "evil:/out/file", "got"]);
}

#[test]
fn stopped_containers_too() {
    let rig = Rig::new();
    rig.ok(&["run", "--name", "st", "--network", "none", "busybox", "sh", "-c", "echo kept > /kept"]);
    rig.ok(&["cp", "st:/kept", "kept"]);
    assert_eq!(fs::read_to_string(rig.path().join("kept")).unwrap(), "kept\n");
}
