//! Who is timed, and by which commands. `$LAYOUT` is an OCI layout with one image, `$NAME` the same image in a registry,
//! `$ARCHIVE` the same as docker saves it, `$CONTEXT` something to build.

use std::path::Path;

use crate::check;

/// One row's commands, as scripts run in an empty directory.
#[derive(Debug)]
pub struct Task {
    /// The row.
    pub row: &'static str,
    /// What must have happened; not timed.
    pub before: String,
    /// What is timed.
    pub timed: String,
}

/// A tool, or several that do together what imgtool does.
#[derive(Debug)]
pub struct Contender {
    /// Its name in the table.
    pub name: &'static str,
    /// What it can do.
    pub tasks: Vec<Task>,
}

/// Row, preparation, command.
type Line = (&'static str, &'static str, &'static str);

const OURS: [Line; 7] = [
    ("pull", "", "imgtool pull -q --no-unpack $NAME"),
    ("unpack", "imgtool copy -q oci:$LAYOUT store:it", "imgtool bundle it bundle"),
    ("pull, unpack", "", "imgtool bundle $NAME bundle"),
    ("save", "imgtool copy -q oci:$LAYOUT store:it", "imgtool save it -o archive"),
    ("load", "", "imgtool load -q -i $ARCHIVE"),
    ("build cold", "", "imgtool build -q --no-cache -t it $CONTEXT"),
    ("build cached", "imgtool build -q -t it $CONTEXT", "imgtool build -q -t it $CONTEXT"),
];

const SKOPEO: [Line; 5] = [
    ("pull", "", "skopeo copy -q --src-tls-verify=false docker://$NAME oci:layout:latest"),
    ("unpack", "", "umoci unpack --image $LAYOUT bundle"),
    (
        "pull, unpack",
        "",
        "skopeo copy -q --src-tls-verify=false docker://$NAME oci:layout:latest; umoci unpack --image layout:latest bundle",
    ),
    ("save", "", "skopeo copy -q oci:$LAYOUT docker-archive:archive:it:latest"),
    ("load", "", "skopeo copy -q docker-archive:$ARCHIVE oci:layout:latest"),
];

/// Its pull and its load unpack too.
const PODMAN: [Line; 3] = [
    ("pull, unpack", "", "podman --root $PWD/store --runroot $PWD/run pull -q --tls-verify=false $NAME"),
    (
        "save",
        "podman --root $PWD/store --runroot $PWD/run load -q -i $ARCHIVE; \
         podman --root $PWD/store --runroot $PWD/run images -q >id",
        "podman --root $PWD/store --runroot $PWD/run save -q -o archive $(cat id)",
    ),
    ("load", "", "podman --root $PWD/store --runroot $PWD/run load -q -i $ARCHIVE"),
];

/// With limits of processes that need no right to raise any, which containers lack.
const BUILDAH: [Line; 2] = [
    (
        "build cold",
        "",
        "buildah --root $PWD/store --runroot $PWD/run build -q --layers --no-cache --network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 -t it $CONTEXT",
    ),
    (
        "build cached",
        "buildah --root $PWD/store --runroot $PWD/run build -q --layers --network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 -t it $CONTEXT",
        "buildah --root $PWD/store --runroot $PWD/run build -q --layers --network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 -t it $CONTEXT",
    ),
];

impl Contender {
    /// Ours, and the peers that are installed.
    pub fn all(imgtool: &Path) -> Vec<Self> {
        let program = imgtool.display().to_string();
        let ours = |text: &str| text.replace("imgtool ", &format!("'{program}' "));
        let lines = |name, lines: &[Line], change: &dyn Fn(&str) -> String| Self {
            name,
            tasks: lines
                .iter()
                .map(|&(row, before, timed)| Task { row, before: change(before), timed: change(timed) })
                .collect(),
        };
        let here = |name: &str| check::find(Path::new(name)).is_ok();
        let mut all = vec![lines("imgtool", &OURS, &ours)];
        if here("skopeo") && here("umoci") {
            all.push(lines("skopeo, umoci", &SKOPEO, &str::to_owned));
        }
        if here("podman") {
            all.push(lines("podman", &PODMAN, &str::to_owned));
        }
        if here("buildah") {
            all.push(lines("buildah", &BUILDAH, &str::to_owned));
        }
        all
    }
}
