//! `build --check` and `--call`: what is asked of a Dockerfile without building it; and how files are chosen.

use std::fs;

use crate::build::{BASE, build, file, id, rig, stderr};
use crate::rig::names;

#[test]
fn a_check_shows_rules_with_their_lines() {
    let rig = rig();
    let text = "FROM scratch AS Base\ncmd echo hi\nMAINTAINER me\nCOPY busybox /\nFROM base\nENV a b\n";
    let output = build(&rig, text, "--check");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.starts_with("Check complete, 5 warnings have been found!\n"), "{shown}");
    let part = "WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/\n\
                Stage name 'Base' should be lowercase\nDockerfile:1\n--------------------\n   1 | >>> FROM scratch AS Base\n";
    assert!(shown.contains(part), "{shown}");
    let output = build(&rig, "FROM scratch\nCOPY busybox /\n", "--check");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Check complete, no warnings found.\n");
    // A build tells them too, and stops where the file says so.
    let text = "# check=error=true\nFROM scratch\nMAINTAINER x\nCOPY busybox /\n";
    let output = build(&rig, text, "");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("lint violation found for rules: MaintainerDeprecated"));
    assert!(build(&rig, text, "--build-arg BUILDKIT_DOCKERFILE_CHECK=skip=all").status.success());
    let output = build(&rig, text, "--call=check,format=json");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["warnings"][0]["ruleName"], "MaintainerDeprecated");
}

#[test]
fn targets_and_arguments_are_listed() {
    let rig = rig();
    let text = "# base is below\nFROM scratch AS base\n# V is a version\nARG V=1\nFROM base AS last\n";
    let said = |flags: &str| String::from_utf8_lossy(&build(&rig, text, flags).stdout).into_owned();
    assert_eq!(
        said("--call=targets"),
        "TARGET           DESCRIPTION\nbase             is below\nlast (default)\n"
    );
    assert_eq!(
        said("--call=outline --build-arg V=2"),
        "TARGET: last\n\nBUILD ARG   VALUE   DESCRIPTION\nV           2       is a version\n"
    );
    assert_eq!(build(&rig, text, "--call=nothing").status.code(), Some(2));
}

#[test]
fn directories_are_made_as_buildkit_makes_them() {
    let rig = rig();
    fs::create_dir_all(rig.path("ctx/dir/sub")).unwrap();
    fs::write(rig.path("ctx/dir/sub/f"), "x").unwrap();
    let mode = |path: &std::path::Path| {
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777
    };
    for path in ["ctx/dir", "ctx/dir/sub"] {
        fs::set_permissions(rig.path(path), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }
    let text = format!(
        "{BASE}RUN [\"/bin/busybox\", \"ln\", \"-s\", \"none/here\", \"/link\"]\nCOPY dir /dest\nCOPY --parents dir/sub/f /parents/\n\
         COPY dir /link/more\nUSER 12\nWORKDIR /work/\n"
    );
    let out = rig.path("out");
    id(&rig, &text, &format!("-o {} --output type=image -t dirs", out.display()));
    // The top is new, what is below is copied; parents are copied too; a link to nowhere leads on.
    assert_eq!((mode(&out.join("dest")), mode(&out.join("dest/sub"))), (0o755, 0o700));
    assert_eq!((mode(&out.join("parents")), mode(&out.join("parents/dir"))), (0o755, 0o700));
    assert!(out.join("none/here/more/sub/f").exists());
    assert_eq!(rig.ok("inspect dirs -f {{.Config.WorkingDir}}").trim(), "/work/");
}

#[test]
fn a_hidden_directory_shows_only_with_what_it_shows() {
    let rig = rig();
    for path in ["ctx/a", "ctx/b/keep"] {
        fs::create_dir_all(rig.path(path)).unwrap();
    }
    fs::write(rig.path("ctx/b/keep/f"), "x").unwrap();
    fs::write(rig.path("ctx/.dockerignore"), "*\n!*/keep\n").unwrap();
    let out = rig.path("out");
    id(&rig, "FROM scratch\nCOPY . /\n", &format!("-o {}", out.display()));
    assert_eq!(names(&out), ["b"]);
    assert_eq!(build(&rig, "FROM scratch\nCOPY a /a\n", "").status.code(), Some(3));
}

#[test]
fn arguments_come_from_files_too() {
    let rig = rig();
    fs::write(rig.path("args"), "# comment\nA=file\nB=file\n").unwrap();
    let text = "FROM scratch\nARG A\nARG B\nCOPY <<E /f\n$A $B\nE\n";
    let flags = format!("--build-arg-file {} --build-arg B=flag", rig.path("args").display());
    assert_eq!(file(&rig, text, &flags, "f"), "file flag\n");
}
