//! What a build makes beside files: images of several platforms, notes, statements, other packings.

use std::fs;

use serde_json::Value;

use crate::build::{BASE, build, file, id, rig, stderr};
use crate::rig::Rig;
use crate::rig::registry::{Guard, Registry};

const COPY: &str = "ARG TARGETARCH\nFROM scratch\nARG TARGETARCH\nCOPY busybox /bin-$TARGETARCH\n";

/// A blob of an OCI layout, parsed.
fn blob(layout: &std::path::Path, digest: &Value) -> Value {
    let name = digest.as_str().unwrap().replace(':', "/");
    serde_json::from_slice(&fs::read(layout.join("blobs").join(name)).unwrap()).unwrap()
}

/// The only entry of a layout's index.
fn top(layout: &std::path::Path) -> Value {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    blob(layout, &index["manifests"][0]["digest"])
}

fn layout(rig: &Rig, text: &str, flags: &str) -> std::path::PathBuf {
    let dir = rig.path("layout");
    let _ = fs::remove_dir_all(&dir);
    let output = build(rig, text, &format!("-o type=oci,tar=false,dest={} {flags}", dir.display()));
    assert!(output.status.success(), "{}", stderr(&output));
    dir
}

#[test]
fn several_platforms_make_an_index() {
    let (rig, registry) = (rig(), Registry::start(Guard::Plain));
    let flags = format!("--platform linux/amd64,linux/arm64/v8 -t {}/web:1 --push --load", registry.host);
    let output = build(&rig, COPY, &flags);
    assert!(output.status.success(), "{}", stderr(&output));
    let manifest: Value =
        serde_json::from_str(&rig.ok(&format!("manifest {}/web:1", registry.host))).unwrap();
    let arch = |at: usize| manifest["manifests"][at]["platform"]["architecture"].clone();
    assert_eq!((arch(0), arch(1)), ("amd64".into(), "arm64".into()));
    // The store has the same under the name, and lists it.
    assert!(rig.ok("images").contains("web"));
    let out = rig.path("files");
    id_of_files(&rig, &format!("--platform linux/amd64,linux/arm64 -o {}", out.display()));
    assert!(out.join("linux_arm64/bin-arm64").exists() && out.join("linux_amd64/bin-amd64").exists());
    // Programs of another machine do not run.
    let text = format!("{BASE}RUN [\"/bin/busybox\", \"true\"]\n");
    let output = build(&rig, &text, "--platform linux/s390x");
    assert!(stderr(&output).contains("programs of linux/s390x do not run"), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(7));
}

fn id_of_files(rig: &Rig, flags: &str) {
    let output = build(rig, COPY, flags);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn provenance_and_notes_go_with_the_image() {
    let rig = rig();
    let flags = "-t web:1 --provenance=mode=max --build-arg HUSH=1 --annotation a=1 --annotation index,manifest-descriptor:b=2";
    let dir = layout(&rig, COPY, flags);
    let index = top(&dir);
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!((entries.len(), &index["annotations"]["b"]), (2, &Value::from("2")));
    assert_eq!(entries[0]["annotations"]["b"], "2");
    assert_eq!(blob(&dir, &entries[0]["digest"])["annotations"]["a"], "1");
    assert_eq!(entries[1]["annotations"]["vnd.docker.reference.digest"], entries[0]["digest"]);
    assert_eq!(entries[1]["platform"]["os"], "unknown");
    let layer = &blob(&dir, &entries[1]["digest"])["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
    let statement = blob(&dir, &layer["digest"]);
    let digest = entries[0]["digest"].as_str().unwrap().replace("sha256:", "");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], digest.as_str());
    let request = &statement["predicate"]["buildDefinition"]["externalParameters"]["request"];
    assert_eq!(request["args"]["build-arg:HUSH"], "1");
    // Without a statement there is no index to note anything on, and no scanner for other statements.
    for (flags, code) in
        [("--annotation index:a=1", 2), ("--sbom", 7), ("--attest type=sbom", 7), ("--attest x", 2)]
    {
        assert_eq!(build(&rig, COPY, flags).status.code(), Some(code), "{flags}");
    }
    assert_eq!(build(&rig, COPY, "--sbom=false --provenance=false").status.code(), Some(0));
    let text = file(&rig, COPY, "--provenance", "provenance.json");
    assert!(text.contains("slsa.dev/provenance/v1") && !text.contains("Q09QWQ"), "{text}");
}

#[test]
fn an_epoch_gives_the_same_image_twice() {
    let text = format!(
        "{BASE}WORKDIR /new/dir\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"busybox mkdir /d; echo x >/d/f\"]\nCOPY <<A /h/\nx\nA\n"
    );
    let flags = "--build-arg SOURCE_DATE_EPOCH=1000 -o type=image,rewrite-timestamp=true";
    let (one, other) = (rig(), rig());
    let first = id(&one, &text, flags);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(id(&other, &text, flags), first);
    assert_eq!(id(&one, &text, &format!("--no-cache {flags}")), first);
    let output = build(&one, &text, "-o type=image,rewrite-timestamp=true");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn layers_are_packed_as_asked() {
    let rig = rig();
    let kinds = |flags: &str| {
        let dir = layout(&rig, COPY, flags);
        top(&dir)["layers"][0]["mediaType"].as_str().unwrap().to_owned()
    };
    assert!(kinds("-t web").ends_with("tar+gzip"));
    let dir = rig.path("zstd");
    let flags = format!("-o type=oci,tar=false,compression=zstd,dest={}", dir.display());
    assert!(build(&rig, COPY, &flags).status.success());
    assert!(top(&dir)["layers"][0]["mediaType"].as_str().unwrap().ends_with("tar+zstd"));
}

#[test]
fn named_contexts_stand_for_images_and_files() {
    let rig = rig();
    let layout = layout(&rig, "FROM scratch\nCOPY busybox /from-layout\n", "-t base:1");
    fs::create_dir(rig.path("more")).unwrap();
    fs::write(rig.path("more/f"), "more").unwrap();
    let text = "FROM docker.io/library/base:1\nCOPY --from=files f /f\nFROM files\nCOPY --from=0 / /base/\n";
    let out = rig.path("out");
    let flags = format!(
        "--build-context base:1=oci-layout://{} --build-context files={} -o {}",
        layout.display(),
        rig.path("more").display(),
        out.display()
    );
    id(&rig, text, &flags);
    assert_eq!(fs::read_to_string(out.join("f")).unwrap(), "more");
    assert!(out.join("base/from-layout").exists() && out.join("base/f").exists());
}

#[test]
fn steps_are_limited_and_know_more_hosts() {
    let rig = rig();
    let shell = "SHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n";
    let text = format!(
        "{BASE}{shell}RUN ulimit -n >/n; busybox cat /etc/hosts >/h; busybox df -k /dev/shm | busybox tail -1 >/s\n"
    );
    let flags = "--ulimit nofile=77:99 --shm-size 1m --add-host there:10.1.2.3";
    assert_eq!(file(&rig, &text, flags, "n"), "77\n");
    assert!(file(&rig, &text, flags, "h").contains("10.1.2.3\tthere\n"));
    assert!(file(&rig, &text, flags, "s").contains(" 1024 "));
    for flags in ["--ulimit x=1", "--shm-size 1x", "--add-host there", "--memory much"] {
        assert_eq!(build(&rig, &text, flags).status.code(), Some(2), "{flags}");
    }
}
