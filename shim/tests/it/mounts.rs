use crate::rig::Rig;

fn run(rig: &Rig, flags: &[&str], script: &str) -> (i32, String) {
    let mut args = vec!["run", "--rm", "--network", "none"];
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", script]);
    let done = rig.run(&args);
    (done.code, done.out.trim().to_owned())
}

#[test]
fn binds_volumes_and_tmpfs() {
    let rig = Rig::new();
    let host = rig.path().join("h");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("f"), "host").unwrap();
    let bind = format!("{}:/d", host.display());
    assert_eq!(run(&rig, &["-v", &bind], "cat /d/f"), (0, "host".into()));
    assert_eq!(run(&rig, &["-v", &format!("{bind}:ro")], "touch /d/g").0, 1);
    assert_eq!(run(&rig, &["-v", "v1:/d"], "echo keep > /d/f").0, 0);
    assert_eq!(run(&rig, &["-v", "v1:/d"], "cat /d/f"), (0, "keep".into()));
    assert_eq!(run(&rig, &["-v", "v3:/etc"], "true").0, 0);
    assert!(run(&rig, &["-v", "v3:/mnt"], "ls /mnt").1.contains("passwd"), "filled from the image");
    assert_eq!(run(&rig, &["-v", "v4:/etc:nocopy"], "ls /etc/passwd").0, 1);
    let (code, df) = run(&rig, &["--mount", "type=tmpfs,dst=/t,tmpfs-size=1m"], "df /t | tail -1");
    assert!(code == 0 && df.contains(" 1024 "), "{df}");
    assert!(run(&rig, &["--shm-size", "8m"], "df /dev/shm").1.contains(" 8192 "));
}

#[test]
fn missing_host_directories() {
    let rig = Rig::new();
    let made = rig.path().join("made");
    assert_eq!(run(&rig, &["-v", &format!("{}:/d", made.display())], "true").0, 0);
    assert!(made.is_dir());
    assert_eq!(run(&rig, &["--mount", "type=bind,src=/nosuch,dst=/d"], "true").0, 125);
}

#[test]
fn volumes_from_another_container() {
    let rig = Rig::new();
    rig.sleeper("web", &["-v", "/data"]);
    rig.ok(&["exec", "web", "sh", "-c", "echo shared > /data/s"]);
    assert_eq!(run(&rig, &["--volumes-from", "web"], "cat /data/s"), (0, "shared".into()));
    assert_eq!(run(&rig, &["--volumes-from", "web:ro"], "touch /data/t").0, 1);
    let name = rig.inspect("web", "{{range .Mounts}}{{.Name}}{{end}}");
    assert!(rig.fails(5, &["volume", "rm", &name]).contains("in use"));
    rig.ok(&["rm", "-f", "-v", "web"]);
    assert_eq!(rig.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn mounts_below_a_bind_and_labels_of_a_volume() {
    let rig = Rig::new();
    let inner = rig.path().join("h/inner");
    std::fs::create_dir_all(&inner).unwrap();
    nix::mount::mount(Some("t"), &inner, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>).unwrap();
    std::fs::write(inner.join("f"), "below").unwrap();
    let source = rig.path().join("h").display().to_string();
    let with = |more: &str, script| {
        run(&rig, &["--mount", &format!("type=bind,src={source},dst=/d,{more}")], script)
    };
    assert_eq!(with("readonly", "cat /d/inner/f; touch /d/inner/g 2>/dev/null"), (1, "below".into()));
    assert_eq!(with("readonly,bind-recursive=writable", "touch /d/g 2>/dev/null || touch /d/inner/g").0, 0);
    assert_eq!(with("bind-nonrecursive", "ls /d/inner"), (0, String::new()));
    nix::mount::umount(&inner).unwrap();
    assert_eq!(run(&rig, &["--mount", "src=labelled,dst=/d,volume-label=a=b"], "true").0, 0);
    assert_eq!(rig.ok(&["volume", "inspect", "-f", "{{.Labels.a}}", "labelled"]), "b");
}

#[test]
fn an_image_mounted() {
    let rig = Rig::new();
    let at = |more: &str| format!("type=image,source=busybox,target=/i{more}");
    assert_eq!(run(&rig, &["--mount", &at("")], "cat /i/etc/group | head -n 1"), (0, "root:x:0:".into()));
    assert_eq!(run(&rig, &["--mount", &at(",image-subpath=etc")], "ls /i"), (0, "group\npasswd".into()));
    assert_eq!(run(&rig, &["--mount", &at("")], "touch /i/x 2>/dev/null").0, 1);
    // What is written is the container's alone, and stays with it.
    let script = "cat /i/x; echo kept >/i/x";
    rig.run(&[
        "run",
        "--name",
        "c1",
        "--network",
        "none",
        "--mount",
        &at(",rw=true"),
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(rig.ok(&["start", "-a", "c1"]), "kept");
    assert_eq!(
        rig.inspect("c1", "{{range .Mounts}}{{.Type}} {{.Name}} {{.RW}}{{end}}"),
        "image busybox true"
    );
    assert_eq!(run(&rig, &["--mount", &at("")], "ls /i/x 2>/dev/null").0, 1);
    let fails = |mount: &str, word: &str| {
        let args = ["run", "--pull", "never", "--rm", "--mount", mount, "busybox", "true"];
        let err = rig.fails(125, &args);
        assert!(err.contains(word), "{err}");
    };
    fails(&at(",image-subpath=nosuch"), "no such subpath");
    fails("type=image,source=nosuch,target=/i", "nosuch");
    assert_eq!(rig.ok(&["ps", "-aq"]).lines().count(), 1);
    rig.ok(&["rm", "c1"]);
    assert!(rig.left().is_empty(), "{:?}", rig.left());
}
