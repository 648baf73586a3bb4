//! What a case works with: a bundle, an id and a state directory of its own, and short words for the usual steps.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::bundle;
use crate::guard;
use crate::kernel;
use crate::machine::Machine;
use crate::tool::{Finished, LIMIT, Tool};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One container's world. Everything in it goes away with [`Rig::clean_up`].
#[derive(Debug)]
pub struct Rig<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The runtime under test.
    pub tool: &'a Tool,
    /// Holds the bundle, the state directory and the output files.
    pub dir: PathBuf,
    /// The container's id.
    pub id: String,
    /// config.json, written before `create` and `run`.
    pub config: Value,
    /// Container ids made besides [`Self::id`], to be deleted too.
    pub others: Vec<String>,
}

impl<'a> Rig<'a> {
    /// A fresh world under `work`, with `probe` as the container's program.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(machine: &'a Machine, tool: &'a Tool, work: &Path, probe: &Path) -> Result<Self> {
        let id = format!("c{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = work.join(&id);
        fs::create_dir_all(dir.join("state"))?;
        bundle::root_file_system(&dir.join("bundle/rootfs"), probe)?;
        let mut config = bundle::config(&["/probe", "facts"]);
        bundle::set(&mut config, "/linux/cgroupsPath", cgroups_path(tool, &id).into())?;
        Ok(Self { machine, tool, dir, id, config, others: Vec::new() })
    }

    /// The bundle's directory.
    #[must_use]
    pub fn bundle(&self) -> PathBuf {
        self.dir.join("bundle")
    }

    /// A path in the container's root file system, seen from the host.
    #[must_use]
    pub fn inside(&self, path: &str) -> PathBuf {
        self.dir.join("bundle/rootfs").join(path.trim_start_matches('/'))
    }

    /// Sets one value of config.json by its JSON pointer (`/linux/resources/-` appends to a list).
    ///
    /// # Errors
    /// The pointer does not fit.
    pub fn set(&mut self, pointer: &str, value: impl Into<Value>) -> Result<&mut Self> {
        bundle::set(&mut self.config, pointer, value.into())?;
        Ok(self)
    }

    /// Takes one key out of config.json.
    pub fn remove(&mut self, pointer: &str, key: &str) -> &mut Self {
        bundle::remove(&mut self.config, pointer, key);
        self
    }

    /// Takes a namespace out of the list.
    pub fn without_namespace(&mut self, kind: &str) -> &mut Self {
        if let Some(Value::Array(list)) = self.config.pointer_mut("/linux/namespaces") {
            list.retain(|namespace| namespace["type"] != kind);
        }
        self
    }

    /// What the container runs: a verb of the probe.
    ///
    /// # Errors
    /// config.json has no process any more.
    pub fn program(&mut self, verb: &[&str]) -> Result<&mut Self> {
        let args: Vec<&str> = std::iter::once("/probe").chain(verb.iter().copied()).collect();
        self.set("/process/args", json!(args))
    }

    /// Writes config.json.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_config(&self) -> Result<()> {
        fs::write(self.bundle().join("config.json"), self.config.to_string()).context("write config.json")
    }

    /// The runtime with its own state directory: `--root DIR args…`.
    ///
    /// # Errors
    /// It does not start or does not end.
    pub fn call(&self, args: &[&str]) -> Result<Finished> {
        self.call_with_input(args, None)
    }

    /// [`Self::call`] with a file as stdin.
    ///
    /// # Errors
    /// As there.
    pub fn call_with_input(&self, args: &[&str], stdin: Option<&Path>) -> Result<Finished> {
        let root = self.dir.join("state");
        let mut all = vec!["--root", root.to_str().context("the work directory is not UTF-8")?];
        all.extend(args);
        // The container keeps writing to the files of `create`: no later command may cut them off.
        let name = if matches!(args.first(), Some(&"create" | &"run")) { "container" } else { "call" };
        self.tool.run(&self.dir, name, &all, stdin)
    }

    /// `run` in the foreground with the config as it stands.
    ///
    /// # Errors
    /// It does not start or does not end.
    pub fn run(&self) -> Result<Finished> {
        self.write_config()?;
        self.call(&["run", "--bundle", &self.bundle().to_string_lossy(), &self.id])
    }

    /// Runs the probe's `facts` and gives them back.
    ///
    /// # Errors
    /// The run fails.
    pub fn facts(&mut self) -> Result<Value> {
        self.program(&["facts"])?.run()?.ok()?.json()
    }

    /// Runs the probe's operations inside: the outcomes by operation.
    ///
    /// # Errors
    /// The run fails.
    pub fn attempt(&mut self, operations: &[&str]) -> Result<Value> {
        let verb: Vec<&str> = std::iter::once("try").chain(operations.iter().copied()).collect();
        self.program(&verb)?.run()?.ok()?.json()
    }

    /// `create` with a pid file.
    ///
    /// # Errors
    /// It does not start or does not end.
    pub fn create(&self) -> Result<Finished> {
        self.create_with(&[])
    }

    /// [`Self::create`] with more flags.
    ///
    /// # Errors
    /// As there.
    pub fn create_with(&self, flags: &[&str]) -> Result<Finished> {
        self.write_config()?;
        let pid_file = self.dir.join("pid");
        let bundle = self.bundle();
        let (bundle, pid_file) = (bundle.to_string_lossy(), pid_file.to_string_lossy());
        let mut args = vec!["create", "--bundle", &bundle, "--pid-file", &pid_file];
        args.extend(flags);
        args.push(&self.id);
        self.call(&args)
    }

    /// `create` and `start` of a probe verb that lives until SIGTERM, ready to take signals.
    ///
    /// # Errors
    /// Either fails.
    pub fn running(&mut self, verb: &str) -> Result<()> {
        self.program(&[verb])?.create()?.ok()?;
        self.call(&["start", &self.id])?.ok()?;
        self.until("the program is ready", |rig| Ok(rig.output()?.contains("ready")))
    }

    /// What the created container has written to its stdout.
    ///
    /// # Errors
    /// Nothing was created yet.
    pub fn output(&self) -> Result<String> {
        fs::read_to_string(self.dir.join("container.out")).context("read the container's output")
    }

    /// `state` as JSON.
    ///
    /// # Errors
    /// It fails.
    pub fn state(&self) -> Result<Value> {
        self.call(&["state", &self.id])?.ok()?.json()
    }

    /// The init's pid from the pid file.
    ///
    /// # Errors
    /// There is none.
    pub fn pid(&self) -> Result<i32> {
        let text = fs::read_to_string(self.dir.join("pid")).context("read the pid file")?;
        text.trim().parse().with_context(|| format!("the pid file holds {text:?}"))
    }

    /// Waits for the end of a created container's init; its exit code.
    ///
    /// # Errors
    /// It does not end, or somebody else reaped it.
    pub fn wait(&self) -> Result<i32> {
        let pid = self.pid()?;
        Ok(kernel::reap_init(pid, LIMIT)
            .with_context(|| format!("wait for the container's init {pid}"))?
            .code)
    }

    /// `exec` of a probe verb, `flags` before the id.
    ///
    /// # Errors
    /// It does not start or does not end.
    pub fn exec(&self, flags: &[&str], verb: &[&str]) -> Result<Finished> {
        let mut args = vec!["exec"];
        args.extend(flags);
        args.extend([self.id.as_str(), "/probe"]);
        args.extend(verb);
        self.call(&args)
    }

    /// Waits for a condition.
    ///
    /// # Errors
    /// It does not come true in time, or cannot be asked.
    pub fn until(&self, what: &str, condition: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !condition(self)? {
            if Instant::now() > deadline {
                bail!("waited {} s in vain until {what}", LIMIT.as_secs());
            }
            thread::sleep(Duration::from_millis(3));
        }
        Ok(())
    }

    /// A file of the container's cgroup, trimmed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn cgroup(&self, controller: &str, file: &str) -> Result<String> {
        let path = self.cgroup_dir(controller)?.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// The container's cgroup under a controller.
    ///
    /// # Errors
    /// The controller or `linux.cgroupsPath` is missing.
    pub fn cgroup_dir(&self, controller: &str) -> Result<PathBuf> {
        let path =
            self.config.pointer("/linux/cgroupsPath").and_then(Value::as_str).context("no cgroupsPath")?;
        match path.split(':').collect::<Vec<_>>()[..] {
            [slice, prefix, name] => {
                self.machine.cgroup(controller, &format!("{slice}/{prefix}-{name}.scope"))
            }
            _ => self.machine.cgroup(controller, path),
        }
    }

    /// `linux.cgroupsPath` for the container `id`.
    #[must_use]
    pub fn cgroups_path(&self, id: &str) -> String {
        cgroups_path(self.tool, id)
    }

    /// Ends and removes everything, whatever state it is in. Failures are nobody's to hear: the case has its verdict.
    pub fn clean_up(&self) {
        let pid = self.pid().ok().filter(|&pid| pid > 1 && is_orphan_of_ours(pid));
        for id in self.others.iter().chain([&self.id]) {
            let _ = self.call(&["delete", "--force", id]);
        }
        if let Some(pid) = pid {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            let _ = kernel::reap_init(pid, Duration::from_secs(5));
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn cgroups_path(tool: &Tool, id: &str) -> String {
    let parent = cgroup_parent();
    if tool.flags.iter().any(|flag| flag == "--systemd-cgroup") {
        return format!("system.slice:{parent}:{id}");
    }
    format!("/{parent}/{id}")
}

/// The cgroup above those of all cases.
#[must_use]
pub fn cgroup_parent() -> String {
    format!("conformance-{}", guard::id())
}

/// A pid from a file may mean another process by now: only a child of this process is ended.
fn is_orphan_of_ours(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
    parent == Some(std::process::id())
}
