//! import.

use crate::rig::Rig;
use crate::rig::image::{archive, sha256, tar};
use crate::rig::peer::{Peer, ok, status};

#[test]
fn an_archive_becomes_an_image_of_one_layer() {
    let rig = Rig::new();
    let rootfs = tar(&[("bin/sh", b"x"), ("etc/passwd", b"root:x:0:0::/:/bin/sh\n")]);
    let mut command = vec!["import", "-c", "CMD [\"/bin/sh\"]", "-c", "ENV A=1 B=two", "-m", "by hand"];
    command.extend(["--platform", "linux/arm64", "-", "flat:1"]);
    let mut child = rig.command("");
    child.args(&command).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = child.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &rootfs).unwrap();
    let output = child.wait_with_output().unwrap();
    let id = String::from_utf8(output.stdout).unwrap();
    let shown = rig
        .ok("inspect flat:1 -f {{.Id}}|{{.Config.Cmd}}|{{.Config.Env}}|{{.Architecture}}|{{.RootFS.Layers}}");
    assert_eq!(shown.trim(), format!("{}|[/bin/sh]|[A=1 B=two]|arm64|[{}]", id.trim(), sha256(&rootfs)));
    assert!(rig.ok("history flat:1").contains("by hand"));
    rig.verify();
}

#[test]
fn compressed_archives_and_urls_are_read() {
    let rig = Rig::new();
    let rootfs = tar(&[("f", b"x")]);
    let packed = zstd::encode_all(&rootfs[..], 1).unwrap();
    std::fs::write(rig.path("rootfs.tar.zst"), &packed).unwrap();
    rig.ok(&format!("import {} a:1", rig.path("rootfs.tar.zst").display()));
    let peer =
        Peer::start(move |asked, _| if asked.path == "/rootfs.tar" { ok(&rootfs) } else { status(404) });
    rig.ok(&format!("import http://{}/rootfs.tar b:1", peer.host));
    let layers = "{{.RootFS.Layers}}";
    assert_eq!(rig.ok(&format!("inspect a:1 -f {layers}")), rig.ok(&format!("inspect b:1 -f {layers}")));
    rig.fails(&format!("import http://{}/nosuch c:1", peer.host), 3);
}

#[test]
fn what_is_no_archive_leaves_nothing() {
    let rig = Rig::new();
    let rootfs = archive(&["x:1"], &[("f", &[7; 5000])]);
    for bad in [&b""[..], b"junk", &[0; 400], &rootfs[..3000]] {
        let ended = rig.feed("import - bad:1", bad);
        let code = ended.output.status.code().unwrap();
        assert!([1, 7].contains(&code), "{code}");
        ended.fails(code);
        assert!(rig.blobs().is_empty() && rig.partials().is_empty());
    }
    rig.fails("import /nosuch", 1);
    rig.fails("import -c RUN /nosuch", 2);
    assert_eq!(rig.ok("images -q"), "");
    // An archive of nothing is one.
    rig.feed("import - empty", &[0; 10240]).ok();
    assert_eq!(rig.ok("images --format {{.Repository}}={{.Size}}"), "empty=0B\n");
    let dir = rig.path("b");
    rig.ok(&format!("bundle empty {}", dir.display()));
    assert!(crate::rig::names(&dir.join("rootfs")).is_empty());
    rig.ok(&format!("unbundle {}", dir.display()));
}
