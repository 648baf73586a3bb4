//! A store of one's own with a busybox image, and commands that are one line long.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Everything one test has; all of it goes with it.
pub struct Rig {
    dir: tempfile::TempDir,
}

pub fn tool(name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(format!("BULKHEAD_{}", name.to_uppercase())) {
        return path.into();
    }
    Path::new(env!("CARGO_BIN_EXE_shim")).with_file_name(name)
}

/// An archive of the test image, built once per test binary, which keeps it open: nothing static is dropped at the end.
fn image() -> File {
    static IMAGE: OnceLock<File> = OnceLock::new();
    let archive = IMAGE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let context = dir.path().join("context");
        std::fs::create_dir_all(context.join("etc")).unwrap();
        std::fs::create_dir_all(context.join("tmp")).unwrap();
        std::fs::create_dir_all(context.join("bin")).unwrap();
        std::fs::copy("/bin/busybox", context.join("bin/busybox")).unwrap();
        for applet in
            Command::new("/bin/busybox").arg("--list").output().unwrap().stdout.split(|&b| b == b'\n')
        {
            let applet = String::from_utf8_lossy(applet).into_owned();
            if !applet.is_empty() && applet != "busybox" {
                std::os::unix::fs::symlink("busybox", context.join("bin").join(applet)).unwrap();
            }
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\n";
        std::fs::write(context.join("etc/passwd"), passwd).unwrap();
        std::fs::write(context.join("etc/group"), "root:x:0:\nwww-data:x:33:\n").unwrap();
        std::fs::write(
            context.join("Dockerfile"),
            "FROM scratch\nCOPY bin /bin\nCOPY etc /etc\nCOPY tmp /tmp\nLABEL from=image\nCMD [\"sh\"]\n",
        )
        .unwrap();
        let path = dir.path().join("image.tar");
        let store = dir.path().join("store");
        let imgtool = |args: &[&str]| {
            let output = Command::new(tool("imgtool"))
                .args(args)
                .env("BULKHEAD_STORE", &store)
                .env("BULKHEAD_STATE", &store)
                .output();
            let output = output.unwrap();
            assert!(output.status.success(), "imgtool {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        imgtool(&["build", "-t", "busybox", context.to_str().unwrap()]);
        imgtool(&["save", "-o", path.to_str().unwrap(), "busybox"]);
        File::open(path).unwrap()
    });
    // With a place to read from of its own.
    File::open(format!("/proc/self/fd/{}", archive.as_raw_fd())).unwrap()
}

/// What a command did.
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A network namespace for this case's thread and all that it executes: two installations (each rig has its own state)
/// in one namespace would share one bridge and one firewall table.
fn own_network() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
}

impl Rig {
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests need root");
        own_network();
        let rig = Self { dir: tempfile::tempdir().unwrap() };
        let mut load = rig.command(&tool("imgtool"));
        let output = load.args(["load", "-q"]).stdin(image()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        rig
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("BULKHEAD_STATE", self.state()).env("BULKHEAD_STORE", self.store());
        command.env("BULKHEAD_CONFIG", self.dir.path().join("config")).current_dir(self.dir.path());
        command.stdin(Stdio::null());
        command
    }

    /// `shim` with the words of `line`.
    pub fn shim(&self, args: &[&str]) -> Command {
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_shim")));
        command.args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Done {
        done(self.shim(args).output().unwrap())
    }

    /// Succeeds; its stdout without the last newline.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, 0, "shim {args:?}: {}{}", done.out, done.err);
        done.out.trim_end_matches('\n').to_owned()
    }

    /// Fails with this code; its stderr.
    #[track_caller]
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, code, "shim {args:?}: {}{}", done.out, done.err);
        assert!(done.err.lines().all(|line| !line.contains("panicked")), "{}", done.err);
        done.err
    }

    /// `netctl`, which succeeds.
    #[track_caller]
    pub fn netctl(&self, args: &[&str]) {
        let done = done(self.command(&tool("netctl")).args(args).output().unwrap());
        assert_eq!(done.code, 0, "netctl {args:?}: {}{}", done.out, done.err);
    }

    /// An image of this Dockerfile.
    #[track_caller]
    pub fn build(&self, name: &str, dockerfile: &str) {
        let context = self.dir.path().join(format!("context-{name}"));
        std::fs::create_dir(&context).unwrap();
        std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        let done = done(
            self.command(&tool("imgtool")).args(["build", "-q", "-t", name]).arg(context).output().unwrap(),
        );
        assert_eq!(done.code, 0, "imgtool build {name}: {}{}", done.out, done.err);
    }

    /// A container that sleeps, without network.
    #[track_caller]
    pub fn sleeper(&self, name: &str, more: &[&str]) -> String {
        let mut args = vec!["run", "-d", "--name", name, "--network", "none"];
        args.extend(more);
        args.extend(["busybox", "sleep", "1000"]);
        self.ok(&args)
    }

    #[track_caller]
    pub fn inspect(&self, name: &str, template: &str) -> String {
        self.ok(&["inspect", "-f", template, name])
    }

    /// The supervisor's pid.
    pub fn supervisor(&self, id: &str) -> i32 {
        let text = std::fs::read_to_string(self.state().join("shim").join(id).join("status.json")).unwrap();
        let status: serde_json::Value = serde_json::from_str(&text).unwrap();
        i32::try_from(status["owner"]["pid"].as_i64().unwrap()).unwrap()
    }

    /// Whether a process of ours still lives.
    fn has_processes(&self) -> bool {
        let own = format!("BULKHEAD_STATE={}", self.state().display());
        let mut environments =
            std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("environ"));
        environments.any(|path| {
            std::fs::read(path)
                .is_ok_and(|text| text.split(|&byte| byte == 0).any(|line| line == own.as_bytes()))
        })
    }

    /// What is left of containers: directories, sockets, mounts.
    pub fn left(&self) -> Vec<String> {
        let list = |path: PathBuf| {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>()
        };
        let mut left = list(self.store().join("containers"));
        left.extend(list(self.store().join("names")));
        left.extend(list(self.state().join("shim")));
        left.extend(list(self.state().join("runtime")));
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let own = self.store().join("containers").display().to_string();
        left.extend(mounts.lines().filter(|line| line.contains(&own)).map(str::to_owned));
        left
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let ids = self.run(&["ps", "-aq"]).out;
        for id in ids.lines() {
            self.run(&["rm", "-f", "-v", id]);
        }
        // What still clears away would make the directory anew.
        wait_until(|| self.left().is_empty() && !self.has_processes());
    }
}

/// A bundle with busybox in it, for a runtime without any of our records; `change` has the last word on its config.
pub fn bundle(dir: &Path, args: &[&str], change: impl FnOnce(&mut serde_json::Value)) {
    let bin = dir.join("rootfs/bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(dir.join("rootfs/proc")).unwrap();
    std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
    for applet in ["sh", "cat", "seq", "sleep", "stty", "echo"] {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
    assert!(Command::new(tool("runtime")).args(["spec", "-b"]).arg(dir).status().unwrap().success());
    let path = dir.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["process"]["args"] = args.into();
    config["process"]["terminal"] = false.into();
    config["process"]["rlimits"] = serde_json::json!([]);
    change(&mut config);
    std::fs::write(path, config.to_string()).unwrap();
}

pub fn done(output: Output) -> Done {
    Done {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Looks until it is so, for at most a minute; whether it became so.
pub fn wait_until(mut so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        if so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

pub fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}
