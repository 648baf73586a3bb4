//! What the cases stand on: a store of their own, the program, images, registries.

pub mod image;
pub mod peer;
pub mod registry;
pub mod relay;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A world of its own: store, state, home.
pub struct Rig {
    dir: TempDir,
}

impl Rig {
    /// An empty one.
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program with some arguments, separated by spaces, not yet started.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgtool"));
        self.furnish(&mut command);
        command.args(arguments.split_whitespace());
        command
    }

    /// The environment of a command.
    pub fn furnish(&self, command: &mut Command) {
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        for (key, name) in [
            ("BULKHEAD_STORE", "store"),
            ("BULKHEAD_STATE", "state"),
            ("BULKHEAD_CONFIG", "config"),
            ("HOME", "home"),
            ("XDG_RUNTIME_DIR", "run"),
            ("CONTAINERS_REGISTRIES_CONF", "registries.conf"),
        ] {
            command.env(key, self.path(name));
        }
        command.stdin(Stdio::null());
    }

    /// Runs to the end.
    pub fn run(&self, arguments: &str) -> Ended {
        Ended::of(arguments, self.command(arguments).output().unwrap())
    }

    /// Runs and must succeed; its stdout.
    pub fn ok(&self, arguments: &str) -> String {
        self.run(arguments).ok()
    }

    /// Runs and must fail with `code` and one line; that line.
    pub fn fails(&self, arguments: &str, code: i32) -> String {
        self.run(arguments).fails(code)
    }

    /// Runs with `input` on stdin.
    pub fn feed(&self, arguments: &str, input: &[u8]) -> Ended {
        let mut command = self.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // The program may end before it has read everything.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Ended::of(arguments, output)
    }

    /// Starts and leaves running.
    pub fn start(&self, arguments: &str) -> Child {
        self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Loads an image of [`image::archive`] under `name`; its id.
    pub fn load(&self, name: &str, content: &str) -> String {
        let archive = image::archive(&[name], &[("file", content.as_bytes())]);
        self.feed("load", &archive).ok();
        self.ok(&format!("inspect {name} -f {{{{.Id}}}}")).trim().to_owned()
    }

    /// The blobs of the store, by hexadecimal digest, sorted.
    pub fn blobs(&self) -> Vec<String> {
        names(&self.path("store/images/blobs/sha256"))
    }

    /// What was left half-received.
    pub fn partials(&self) -> Vec<String> {
        names(&self.path("store/images/partial"))
    }

    /// Every blob must be what its name says.
    pub fn verify(&self) {
        for hex in self.blobs() {
            let bytes = std::fs::read(self.path("store/images/blobs/sha256").join(&hex)).unwrap();
            assert_eq!(image::sha256(&bytes), format!("sha256:{hex}"), "damaged blob");
        }
    }
}

/// The names in a directory, sorted; none where it is missing.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// How a command ended.
pub struct Ended {
    what: String,
    pub output: Output,
}

impl Ended {
    pub fn of(what: impl AsRef<OsStr>, output: Output) -> Self {
        Self { what: what.as_ref().to_string_lossy().into_owned(), output }
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// It must have succeeded.
    pub fn ok(self) -> String {
        assert!(self.output.status.success(), "{}: {:?}: {}", self.what, self.output.status, self.stderr());
        self.stdout()
    }

    /// It must have failed with `code`, with one line of error.
    pub fn fails(self, code: i32) -> String {
        let stderr = self.stderr();
        assert_eq!(self.output.status.code(), Some(code), "{}: {stderr}", self.what);
        let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("imgtool: ")).collect();
        assert_eq!(errors.len(), 1, "{}: not one line of error: {stderr}", self.what);
        errors[0].to_owned()
    }
}
