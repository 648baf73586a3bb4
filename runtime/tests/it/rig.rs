//! A bundle around busybox, a state root of its own, and the runtime on both.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A bundle with its own state root; containers left in it are deleted at the end.
pub struct Rig {
    dir: TempDir,
    /// config.json, written by [`Rig::save`].
    pub config: Value,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// The output of a command that must succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// The one line of errors of a command that must fail with this code.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.err.trim_end().lines().count(), 1, "one line of error: {self:?}");
        assert!(self.err.starts_with("runtime: "), "{self:?}");
        self.err
    }
}

/// Whether the tests can run here. Says so loudly where not.
pub fn can_run() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: needs root");
    }
    root
}

impl Rig {
    /// A bundle whose container runs `args`.
    pub fn new(args: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("rt-it-").tempdir().unwrap();
        // User namespaces have to get through.
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let rootfs = dir.path().join("bundle/rootfs");
        for name in ["bin", "etc", "tmp", "proc", "dev", "sys"] {
            fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("busybox-static");
        for name in [
            "sh", "true", "cat", "id", "sleep", "ls", "echo", "mount", "stat", "touch", "grep", "env",
            "readlink",
        ] {
            symlink("busybox", rootfs.join("bin").join(name)).unwrap();
        }
        fs::write(rootfs.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/evil:/bin/sh\n")
            .unwrap();
        let said = run(Command::new(runtime()).args(["spec", "-b"]).arg(dir.path().join("bundle")));
        said.ok();
        let path = dir.path().join("bundle/config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = json!(args);
        config["root"]["readonly"] = false.into();
        let rig = Self { dir, config };
        rig.save();
        rig
    }

    /// A bundle whose container runs a shell script.
    pub fn script(script: &str) -> Self {
        Self::new(&["/bin/sh", "-c", script])
    }

    /// Changes config.json.
    pub fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self.save();
        self
    }

    /// Writes config.json.
    pub fn save(&self) {
        fs::write(self.bundle().join("config.json"), self.config.to_string()).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn bundle(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    pub fn rootfs(&self) -> PathBuf {
        self.bundle().join("rootfs")
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// An id that no other test has: cgroups are named after it.
    pub fn id(&self, name: &str) -> String {
        let unique = self.dir.path().file_name().unwrap().to_str().unwrap();
        format!("{unique}-{name}")
    }

    /// `runtime ARGS…` on this rig, in the bundle. `@x` stands for the id `x`.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_of(runtime(), args)
    }

    /// The same of another file than [`runtime`].
    pub fn command_of(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.bundle()).arg("--root").arg(self.root()).stdin(Stdio::null());
        for arg in args {
            match arg.strip_prefix('@') {
                Some(name) => command.arg(self.id(name)),
                None => command.arg(arg),
            };
        }
        command
    }

    /// Runs it.
    pub fn runtime(&self, args: &[&str]) -> Said {
        run(&mut self.command(args))
    }

    /// Runs it where all cgroups are of version 2, the root file system is a shared mount, and the umask another.
    pub fn on_version_2(&self, args: &[&str]) -> Said {
        let inner = self.command(args);
        let script = "umount -R -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup \
                      && mount --bind rootfs rootfs && mount --make-shared rootfs && umask 077 && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--cgroup", "sh", "-c", script, "sh"]).arg(inner.get_program());
        run(command.args(inner.get_args()).current_dir(self.bundle()).stdin(Stdio::null()))
    }

    /// The container's status, as `state` says.
    pub fn status(&self, name: &str) -> String {
        let said = self.runtime(&["state", &format!("@{name}")]).ok();
        let state: Value = serde_json::from_str(&said).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    /// Waits until it has that status.
    #[track_caller]
    pub fn wait_for_status(&self, name: &str, status: &str) {
        wait_until(&format!("{name} to be {status}"), || self.status(name) == status);
    }

    /// Names of cgroups that this rig's containers have left.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let unique = self.dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        let mut found = Vec::new();
        let mut tops: Vec<PathBuf> = fs::read_dir("/sys/fs/cgroup")
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        tops.push("/sys/fs/cgroup".into());
        for top in tops {
            for entry in fs::read_dir(&top).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(&unique) {
                    found.push(entry.path());
                }
            }
        }
        found
    }

    /// Nothing of any container is left.
    #[track_caller]
    pub fn is_clean(&self) {
        let left: Vec<_> =
            fs::read_dir(self.root()).into_iter().flatten().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "state left: {left:?}");
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new(), "cgroups left");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.root()).into_iter().flatten().flatten() {
            let id = entry.file_name();
            let _ = self.command(&["delete", "--force"]).arg(id).output();
        }
    }
}

/// The program under test.
pub fn runtime() -> &'static str {
    env!("CARGO_BIN_EXE_runtime")
}

/// Runs any command to its end. Its output goes through files: a container that it leaves running would keep a pipe
/// open.
pub fn run(command: &mut Command) -> Said {
    let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    let status = loop {
        match command.status() {
            // A program that a test has just written may still be open in a process that another one is starting.
            Err(err) if err.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                sleep(Duration::from_millis(1))
            }
            other => break other.unwrap(),
        }
    };
    let read = |file: &mut fs::File| {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Said { code: status.code().unwrap_or(-1), out: read(&mut out), err: read(&mut err) }
}

/// A process of a test's own, which ends with the test, also one that fails.
pub struct Background(pub Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a condition.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        sleep(Duration::from_millis(5));
    }
}
