//! `build`: the language on the real kernel, with a real runtime.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::rig::{Rig, names};

/// A rig with a context that holds busybox.
pub fn rig() -> Rig {
    let rig = Rig::new();
    fs::create_dir(rig.path("ctx")).unwrap();
    fs::copy("/bin/busybox", rig.path("ctx/busybox")).unwrap();
    rig
}

pub const BASE: &str = "FROM scratch AS base\nCOPY busybox /bin/busybox\nENV PATH=/bin\n";

pub fn command(rig: &Rig, dockerfile: &str, flags: &str) -> std::process::Command {
    fs::write(rig.path("Dockerfile"), dockerfile).unwrap();
    let (file, context) = (rig.path("Dockerfile"), rig.path("ctx"));
    let mut command = rig.command(&format!(
        "build --network none --progress plain {flags} -f {} {}",
        file.display(),
        context.display()
    ));
    let ours = Path::new(env!("CARGO_BIN_EXE_imgtool")).with_file_name("runtime");
    command.env("BULKHEAD_RUNTIME", if ours.exists() { ours } else { "runc".into() });
    command
}

pub fn build(rig: &Rig, dockerfile: &str, flags: &str) -> Output {
    command(rig, dockerfile, flags).output().unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The id of an image that must be built.
pub fn id(rig: &Rig, dockerfile: &str, flags: &str) -> String {
    let output = build(rig, dockerfile, flags);
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A file of the result of a build.
pub fn file(rig: &Rig, dockerfile: &str, flags: &str, name: &str) -> String {
    let out = rig.path("out");
    let _ = fs::remove_dir_all(&out);
    id(rig, dockerfile, &format!("{flags} -o {}", out.display()));
    fs::read_to_string(out.join(name)).unwrap()
}

#[test]
fn a_second_build_is_cached_and_a_second_machine_agrees() {
    let text = format!(
        "{BASE}RUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo $$ >/dev/null; echo made >/made\"]\nCMD [\"x\"]\n"
    );
    let flags = "--build-arg SOURCE_DATE_EPOCH=1600000000 -t web";
    let (one, other) = (rig(), rig());
    let first = id(&one, &text, flags);
    let again = build(&one, &text, flags);
    assert_eq!(stderr(&again).matches("CACHED").count(), 3, "{}", stderr(&again));
    assert_eq!(String::from_utf8_lossy(&again.stdout).trim(), first);
    assert_eq!(id(&other, &text, flags), first);
    // By content, not by time: touched files stay cached, changed ones do not.
    fs::copy("/bin/busybox", one.path("ctx/busybox")).unwrap();
    assert_eq!(stderr(&build(&one, &text, flags)).matches("CACHED").count(), 3);
    fs::write(one.path("ctx/busybox"), "other").unwrap();
    assert!(!build(&one, &text, flags).status.success());
}

#[test]
fn run_sees_its_mounts_and_leaves_only_what_it_made() {
    let rig = rig();
    fs::write(rig.path("secret"), "top").unwrap();
    let shell = "SHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n";
    let text = format!(
        "{BASE}{shell}RUN --mount=type=secret,id=s --mount=type=cache,target=/c --mount=type=tmpfs,target=/t \\\n \
         busybox cat /run/secrets/s >/got && echo hit >/c/f && echo x >/t/f\n\
         RUN --mount=type=cache,target=/c busybox cat /c/f >>/got; busybox ls -A / >/list\n"
    );
    let flags = format!("--secret id=s,src={}", rig.path("secret").display());
    assert_eq!(file(&rig, &text, &flags, "got"), "tophit\n");
    // What the steps were given to mount on is gone; what the second itself still sees is there.
    let out = names(&rig.path("out"));
    assert_eq!(out, ["bin", "got", "list"]);
}

#[test]
fn deletions_and_links_survive_layers() {
    let rig = rig();
    let shell = "SHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n";
    let text = format!(
        "{BASE}{shell}RUN b=busybox; $b mkdir /d; echo 1 >/d/a; $b ln /d/a /d/b; echo x >/f\n\
         RUN b=busybox; $b rm /f /d/a; $b mkdir /f; echo 2 >>/d/b; $b rm -r /d && $b mkdir /d && echo new >/d/n\n"
    );
    let out = rig.path("out");
    id(&rig, &text, &format!("-o {}", out.display()));
    assert_eq!(names(&out.join("d")), ["n"]);
    assert!(out.join("f").is_dir());
}

#[test]
fn wrong_files_are_shown_with_their_lines() {
    let rig = rig();
    for (text, code, place, why) in [
        (
            "FROM scratch\nCOPY --nope a /\n",
            2,
            "   2 | >>> COPY --nope a /\n     |          ^^^^^^",
            "unknown flag: --nope",
        ),
        ("FROM scratch\nCOPY nosuch /\n", 3, ">>> COPY nosuch /", "\"/nosuch\": not found"),
        ("FROM scratch\nEXPOSE x\n", 1, ">>> EXPOSE x", "invalid containerPort: x"),
        ("FROM scratch\nRUN --device=x y\n", 2, ">>> RUN --device=x y", "--device is not supported"),
    ] {
        let output = build(&rig, text, "");
        let shown = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{shown}");
        assert!(shown.contains(place) && shown.lines().last().unwrap().contains(why), "{shown}");
    }
}

#[test]
fn a_failed_step_names_its_code_and_leaves_nothing() {
    let rig = rig();
    let output =
        build(&rig, &format!("{BASE}RUN [\"/bin/busybox\", \"sh\", \"-c\", \"exit 3\"]\n"), "-t web");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("exit code: 3"), "{}", stderr(&output));
    assert_eq!(names(&rig.path("store/build/work")), Vec::<String>::new());
    rig.fails("inspect web", 3);
}

#[test]
fn the_build_after_a_killed_one_cleans_up() {
    let rig = rig();
    let text = format!("{BASE}RUN [\"/bin/busybox\", \"sh\", \"-c\", \"busybox sleep 600\"]\n");
    let mut child = command(&rig, &text, "").spawn().unwrap();
    let work = rig.path("store/build/work");
    let end = Instant::now() + Duration::from_secs(30);
    let running = || names(&work).iter().any(|name| work.join(name).join("config.json").exists());
    while !running() {
        assert!(Instant::now() < end, "the step does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!fs::read_to_string("/proc/mounts").unwrap().contains(work.to_str().unwrap()));
    id(&rig, "FROM scratch\nCOPY busybox /\n", "");
    assert_eq!(names(&work), Vec::<String>::new());
}

#[test]
fn a_context_link_or_pattern_stays_in_the_context() {
    let rig = rig();
    fs::write(rig.path("outside"), "secret").unwrap();
    std::os::unix::fs::symlink("../outside", rig.path("ctx/link")).unwrap();
    std::os::unix::fs::symlink("/", rig.path("ctx/root")).unwrap();
    for source in ["link", "root/outside", "../outside", "../../../etc/passwd"] {
        let output = build(&rig, &format!("FROM scratch\nCOPY {source} /x\n"), "");
        assert_eq!(output.status.code(), Some(3), "{source}: {}", stderr(&output));
    }
}

#[test]
fn a_copy_to_a_link_writes_where_it_points() {
    let rig = rig();
    fs::write(rig.path("ctx/new"), "new").unwrap();
    let text = format!(
        "{BASE}RUN [\"/bin/busybox\", \"sh\", \"-c\", \"b=busybox; $b mkdir /d; echo old >/d/f; $b ln -s d/f /a; $b ln -s /d/../../../none /b\"]\n\
         COPY new /a\nCOPY new /b\n"
    );
    let out = rig.path("out");
    id(&rig, &text, &format!("-o {}", out.display()));
    assert_eq!(fs::read_to_string(out.join("d/f")).unwrap(), "new");
    assert_eq!(fs::read_to_string(out.join("none")).unwrap(), "new");
    assert!(out.join("a").is_symlink() && out.join("b").is_symlink());
}

#[test]
fn copies_are_as_lenient_as_buildkits() {
    let rig = rig();
    for name in ["one", "two"] {
        fs::write(rig.path("ctx").join(name), name).unwrap();
    }
    // A directory that is not said to be one is a file, and an unknown owner is root.
    let text = "FROM scratch\nCOPY one two /dst\nCOPY --chown=nobody:nogroup one /owned\n";
    let archive = rig.path("out.tar");
    id(&rig, text, &format!("-o type=tar,dest={}", archive.display()));
    let mut tar = tar::Archive::new(fs::File::open(archive).unwrap());
    let owners: Vec<(String, u64, u64)> = tar
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            (path, entry.size(), entry.header().uid().unwrap() + entry.header().gid().unwrap())
        })
        .collect();
    assert_eq!(owners, [("dst".to_owned(), 3, 0), ("owned".to_owned(), 3, 0)]);
}

#[test]
fn the_size_of_an_image_is_its_files() {
    let rig = rig();
    fs::write(rig.path("ctx/zeros"), vec![0; 1 << 20]).unwrap();
    id(&rig, "FROM scratch\nCOPY zeros /\n", "-t zeros");
    let size = |rig: &Rig| rig.ok("images zeros --format {{.SizeBytes}}").trim().parse::<u64>().unwrap();
    assert_eq!(size(&rig), 1 << 20);
    // Elsewhere it is told from the packed layer first, and exactly once it was used.
    let other = Rig::new();
    let archive = rig.path("zeros.tar");
    rig.ok(&format!("save zeros -o {}", archive.display()));
    other.ok(&format!("load -i {}", archive.display()));
    assert!(size(&other).abs_diff(1 << 20) < 4096);
    other.ok(&format!("bundle zeros {}", other.path("b").display()));
    assert_eq!(size(&other), 1 << 20);
    other.ok(&format!("unbundle {}", other.path("b").display()));
}

#[test]
fn an_image_goes_to_an_archive_without_being_kept() {
    let rig = rig();
    let archive = rig.path("web.tar");
    for kind in ["oci", "docker"] {
        let flags = format!("-t web:{kind} -o type={kind},dest={}", archive.display());
        id(&rig, "FROM scratch\nCOPY busybox /\nCMD [\"x\"]\n", &flags);
        assert_eq!(rig.ok("images -q"), "");
        let other = Rig::new();
        other.ok(&format!("load -i {}", archive.display()));
        assert_eq!(other.ok(&format!("inspect web:{kind} -f {{{{.Config.Cmd}}}}")).trim(), "[x]");
    }
}

#[test]
fn another_ignore_file_hides_and_a_served_context_is_read() {
    crate::rig::registry::loopback_up();
    let rig = rig();
    fs::write(rig.path("ctx/hidden"), "").unwrap();
    fs::write(rig.path("ignore"), "hidden\n").unwrap();
    let flags = format!("--ignorefile {}", rig.path("ignore").display());
    assert_eq!(build(&rig, "FROM scratch\nCOPY hidden /\n", &flags).status.code(), Some(3));
    let context = crate::rig::image::tar(&[("Dockerfile", b"FROM scratch\nCOPY f /\n"), ("f", b"served")]);
    let out = rig.path("out");
    rig.feed(&format!("build - -o {}", out.display()), &context).ok();
    assert_eq!(fs::read_to_string(out.join("f")).unwrap(), "served");
    // A file of a server is read like stdin: an archive, or a Dockerfile.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/context.tar", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).unwrap() > 0);
        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", context.len())
            .unwrap();
        stream.write_all(&context).unwrap();
    });
    fs::remove_dir_all(&out).unwrap();
    rig.ok(&format!("build {url} -o {}", out.display()));
    server.join().unwrap();
    assert_eq!(fs::read_to_string(out.join("f")).unwrap(), "served");
}
