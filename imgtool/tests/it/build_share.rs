//! `build --cache-to` and `--cache-from`: steps done on one machine are found on another.

use std::fs;

use crate::build::{BASE, build, id, rig, stderr};
use crate::rig::registry::{Guard, Registry};
use crate::rig::{Rig, names};

const RUN: &str = "RUN [\"/bin/busybox\", \"sh\", \"-c\", \"busybox head -c 16 /dev/urandom >/random\"]\n";

/// Two stages, of which the result only copies from one.
fn text() -> String {
    format!("{BASE}{RUN}FROM scratch\nCOPY --from=base /random /random\n")
}

/// How many steps of a build in `rig` are cached, its bases included; and the image.
fn cached(rig: &Rig, flags: &str) -> (usize, String) {
    let output = build(rig, &text(), flags);
    assert!(output.status.success(), "{}", stderr(&output));
    (stderr(&output).matches("CACHED").count(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[test]
fn a_directory_carries_all_steps_or_those_of_the_result() {
    let (one, other, third) = (rig(), rig(), rig());
    let (max, min) = (one.path("max"), one.path("min"));
    let made = id(&one, &text(), &format!("--cache-to type=local,dest={},mode=max", max.display()));
    id(&one, &text(), &format!("--cache-to type=local,dest={}", min.display()));
    // Two bases, and all three steps.
    let from = |dir: &std::path::Path| format!("--cache-from type=local,src={}", dir.display());
    assert_eq!(cached(&other, &from(&max)), (5, made.clone()));
    // Known from now on without it.
    assert_eq!(cached(&other, ""), (5, made.clone()));
    // The random file is another, so the step of the result is too.
    let (count, id) = cached(&third, &from(&min));
    assert!(count == 2 && id != made, "{count}");
    // Another content is another key: nothing false is found.
    let fourth = rig();
    fs::write(fourth.path("ctx/more"), "").unwrap();
    let text = text().replace("COPY busybox", "COPY busybox more");
    let text = text.replace("/bin/busybox\nENV", "/bin/\nENV");
    let output = build(&fourth, &text, &from(&max));
    assert_eq!(stderr(&output).matches("CACHED").count(), 2, "{}", stderr(&output));
}

#[test]
fn a_registry_and_an_image_carry_steps() {
    let registry = Registry::start(Guard::Plain);
    let (one, other, third) = (rig(), rig(), rig());
    let host = &registry.host;
    let flags = format!(
        "--cache-to type=registry,ref={host}/cache:1,mode=max --cache-to type=inline -t {host}/web:1 --push"
    );
    let made = id(&one, &text(), &flags);
    let (count, from_cache) = cached(&other, &format!("--cache-from {host}/cache:1"));
    // The image that lists its own steps has another config.
    assert!(count == 5 && from_cache != made, "{count}");
    // The image's own list has the step of the result, which waits for the file that it copies.
    let text =
        "FROM scratch\nCOPY busybox /\nRUN [\"/busybox\", \"sh\", \"-c\", \"exec /busybox touch /made\"]\n";
    let flags = format!("--cache-to type=inline -t {host}/own --push");
    let output = build(&one, text, &flags);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(names(&one.path("store/images/blobs/sha256")).len() > 3);
    let output = build(&third, text, &format!("--cache-from type=registry,ref={host}/own"));
    assert_eq!(stderr(&output).matches("CACHED").count(), 3, "{}", stderr(&output));
}

#[test]
fn a_missing_cache_costs_nothing_and_a_bad_place_is_named() {
    let rig = rig();
    let output = build(&rig, "FROM scratch\nCOPY busybox /\n", "--cache-from type=local,src=/none");
    assert!(
        output.status.success() && stderr(&output).contains("WARN: cache /none is not used"),
        "{}",
        stderr(&output)
    );
    for (flags, code, why) in [
        ("--cache-to type=gha", 7, "type=gha is not supported"),
        ("--cache-to type=local", 2, "needs dest="),
        ("--cache-to type=local,dest=/proc/none", 1, "/proc/none"),
    ] {
        let output = build(&rig, "FROM scratch\nCOPY busybox /\n", flags);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
    }
    let output = build(
        &rig,
        "FROM scratch\nCOPY busybox /\n",
        "--cache-to type=local,dest=/proc/none,ignore-error=true",
    );
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_kept_cache_is_told_apart_by_owner_and_used_alone_where_private() {
    let rig = rig();
    let shell = "SHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n";
    let mount = |options: &str| format!("RUN --mount=type=cache,target=/c,{options} ");
    let text = format!(
        "{BASE}{shell}{}busybox touch /c/ten\n{}busybox touch /c/root\n{}busybox ls /c >/ten\n{}busybox ls /c >/root\n\
         {}busybox touch /c/own; busybox ls /c >/private\n",
        mount("uid=10"),
        mount("id=/c"),
        mount("uid=10"),
        mount("sharing=locked"),
        mount("sharing=private"),
    );
    let out = rig.path("out");
    id(&rig, &text, &format!("-o {}", out.display()));
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(
        (read("ten"), read("root"), read("private")),
        ("ten\n".into(), "root\n".into(), "own\nroot\n".into())
    );
    for (options, why) in [
        ("type=tmpfs,target=/t,mode=0700", "mode not allowed"),
        ("type=bind,target=/t,size=1m", "unexpected key 'size'"),
        ("type=ssh,uid=1", "uid of an ssh mount is not supported"),
        ("type=cache,target=/t,sharing=some", "unsupported sharing"),
        ("type=secret,id=a,source=b", "both source and id"),
    ] {
        let output = build(&rig, &format!("{BASE}RUN --mount={options} x\n"), "");
        assert!(!output.status.success() && stderr(&output).contains(why), "{options}: {}", stderr(&output));
    }
}
