//! What people see on a terminal.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::rig::registry::{Guard, Registry};
use crate::rig::{Ended, Rig, image};

/// What a terminal of 60 columns gets of a command that works.
fn seen(rig: &Rig, arguments: &str) -> String {
    typed(rig, arguments, "").ok()
}

/// The same of one at whose terminal somebody types.
fn typed(rig: &Rig, arguments: &str, text: &str) -> Ended {
    let line = format!("stty cols 60 rows 30 && {} {arguments}", env!("CARGO_BIN_EXE_imgtool"));
    let mut command = Command::new("script");
    rig.furnish(&mut command);
    let ours = Path::new(env!("CARGO_BIN_EXE_imgtool")).with_file_name("runtime");
    command.env("BULKHEAD_RUNTIME", if ours.exists() { ours } else { "runc".into() });
    command.env("TERM", "xterm").args(["-qec", &line, "/dev/null"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("script, of bsdutils");
    // One that ended without reading is nobody's to type to.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    Ended::of(&line, child.wait_with_output().unwrap())
}

/// The texts between the movements of the cursor.
fn lines(text: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            // Up to the letter that ends it.
            rest.by_ref().skip(1).find(|c| c.is_ascii_alphabetic());
            plain.push('\n');
        } else {
            plain.push(if c == '\r' { '\n' } else { c });
        }
    }
    plain.lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn bars_of_pull_and_push_fit_the_terminal() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Plain));
    rig.feed("load", &image::archive(&["bb:1"], &[("file", &image::noise(300_000))])).ok();
    for (arguments, word) in [
        (format!("push bb:1 {}/bb:1", registry.host), "Pushed"),
        (format!("pull {}/bb:1", registry.host), "Pull complete"),
    ] {
        if word == "Pull complete" {
            rig.ok("rmi bb:1");
            rig.ok("prune -a");
        }
        let text = seen(&rig, &arguments);
        let lines = lines(&text);
        assert!(text.contains(&format!(": {word}")), "{text}");
        // A line at its end is padded to the whole width instead of ended.
        let bars: Vec<_> = lines.iter().filter(|line| line.contains(" [") && !line.contains(word)).collect();
        assert!(bars.iter().any(|line| line.contains("KiB")), "{text}");
        assert!(bars.iter().all(|line| line.chars().count() <= 60), "{bars:?}");
    }
}

#[test]
fn a_build_shows_its_steps_at_work() {
    let rig = Rig::new();
    let context = rig.path("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::copy("/usr/bin/busybox", context.join("busybox")).expect("busybox: make setup");
    let script = "for i in 1 2 3 4 5 6; do echo line $i; busybox sleep 0.2; done";
    let dockerfile = format!(
        "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"{script}\"]\n"
    );
    std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let text = seen(&rig, &format!("build --network none -t t {}", context.display()));
    assert!(text.contains("⠋ [3/3] RUN") && text.contains("   => # line 1 "), "{text}");
    // At the end one line stands for the step, and none of its output.
    let end = text.rfind(" => [3/3] RUN").expect("the step's own line");
    assert!(text.rfind("=> # line").is_some_and(|last| last < end), "{text}");
    assert_eq!(rig.ok("images -q").lines().count(), 1);
}

#[test]
fn a_short_name_is_chosen_at_the_terminal() {
    let (rig, first, second) = (Rig::new(), Registry::start(Guard::Plain), Registry::start(Guard::Plain));
    rig.load("bb:1", "x");
    rig.ok(&format!("push bb:1 {}/both:1", first.host));
    rig.ok(&format!("push bb:1 {}/both:1", second.host));
    rig.ok("rmi bb:1");
    let text = format!(
        "unqualified-search-registries = ['{}', '{}']\nshort-name-mode = 'enforcing'\n",
        first.host, second.host
    );
    std::fs::write(rig.path("registries.conf"), text).unwrap();
    let said = typed(&rig, "pull both:1", "2\n").ok();
    for line in [
        "both:1 may be any of".to_owned(),
        format!("  1  {}/both:1", first.host),
        format!("  2  {}/both:1", second.host),
        "Which one? [1-2]".to_owned(),
    ] {
        assert!(said.contains(&line), "{said}");
    }
    let listed = rig.ok("images --format {{.Repository}}:{{.Tag}}");
    assert_eq!(listed, format!("{}/both:1\n", second.host));
    for wrong in ["3\n", "0\n", "x\n", "\n"] {
        let ended = typed(&rig, "pull both:1", wrong);
        assert!(ended.stdout().contains("is none of the choices for both:1"), "{}", ended.stdout());
        assert_eq!(ended.output.status.code(), Some(2));
    }
}
