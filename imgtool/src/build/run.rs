//! RUN: a command in a container of the stage so far; what it changed becomes a layer.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use anyhow::{Context as _, Result, bail};
use contracts::{fault, passwd, sandbox, tool};
use serde_json::{Value, json};
use sys::path::Root;

use super::Builder;
use super::dockerfile::instruction::{Command, Run};
use super::mounting::Ready;
use super::mounts::Spec;
use super::network::Network;
use super::progress::Vertex;
use super::state::State;
use super::stubs::Stubs;
use super::sweep;
use super::work::Work;
use crate::bundle::config::{self, environment};
use crate::store::document::Platform;

/// Variables for proxies: given by `--build-arg`, seen by RUN, part of nothing.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// A RUN step made ready to be looked up or executed.
pub struct Planned {
    words: Vec<String>,
    script: Option<String>,
    env: Vec<String>,
    specs: Vec<Spec>,
    network: String,
    insecure: bool,
    /// What the cache key holds.
    pub key: Value,
    /// What the history says.
    pub history: String,
}

impl Builder<'_> {
    /// Works out what a RUN step runs and depends on.
    ///
    /// # Errors
    /// A bad `--mount`, a missing bind source.
    pub(super) fn plan_run(&self, state: &State, run: &Run) -> Result<Planned> {
        let (words, script) = command(state, run);
        let mut env: Vec<String> = state.env().iter().map(|(key, value)| format!("{key}={value}")).collect();
        let known =
            |env: &[String], name: &str| env.iter().any(|entry| entry.split('=').next() == Some(name));
        let mut given = Vec::new();
        for (name, value) in &state.args {
            if !known(&env, name) {
                given.push(format!("{name}={value}"));
            }
        }
        env.extend(given.iter().cloned());
        emulated(&state.config.platform())?;
        let specs: Vec<Spec> =
            run.mounts.iter().map(|text| Spec::parse(text, state)).collect::<Result<_>>()?;
        let network = run.network.as_deref().unwrap_or("default");
        let network = if network == "default" { self.options.network.clone() } else { network.to_owned() };
        let insecure = run.security.as_deref() == Some("insecure");
        if insecure && !self.options.allow.iter().any(|allowed| allowed == "security.insecure") {
            bail!("--security=insecure is not allowed: build with --allow security.insecure");
        }
        let keys: Vec<Value> = specs.iter().map(|spec| spec.key(self)).collect::<Result<_>>()?;
        let key = json!({
            "run": words, "script": script, "env": env, "cwd": state.workdir(), "user": state.user(),
            "mounts": keys, "network": network, "insecure": insecure, "hosts": self.options.hosts,
            "limits": self.options.limits,
        });
        let shown = words.join(" ");
        let history = if given.is_empty() {
            format!("RUN {shown} # buildkit")
        } else {
            format!("RUN |{} {} {shown} # buildkit", given.len(), given.join(" "))
        };
        for (name, value) in &self.options.build_args {
            let upper = name.to_ascii_uppercase();
            if PROXIES.contains(&upper.as_str()) && !known(&env, name) {
                env.push(format!("{name}={value}"));
            }
        }
        Ok(Planned { words, script, env, specs, network, insecure, key, history })
    }

    /// Runs it on the mounted rootfs of `work`.
    ///
    /// # Errors
    /// The command fails, or cannot be started.
    pub(super) fn execute(
        &self,
        state: &State,
        planned: &Planned,
        work: &Work,
        vertex: &Vertex<'_>,
    ) -> Result<()> {
        let root = Root::open(&work.path().join("rootfs")).context("open the rootfs")?;
        let mut ready = self.ready(&planned.specs, work)?;
        if let Some(script) = &planned.script {
            add_script(script, &planned.words[0], work, &mut ready)?;
        }
        let user = passwd::resolve(&root, &state.user())?;
        let mut env = environment(planned.env.clone(), &user.home);
        env.extend(ready.env.iter().cloned());
        let process =
            config::Process { args: planned.words.clone(), env, cwd: plain(&state.workdir())?, user };
        let capabilities: Vec<&str> = sandbox::CAPABILITIES.to_vec();
        let mut spec = config::runtime_config(&process, &capabilities);
        spec["hostname"] = json!("buildkitsandbox");
        if planned.insecure {
            loosen(&mut spec);
        }
        self.options.limits.apply(&mut spec, work.id());
        let mut files = self.connect(&planned.network, &mut spec, work)?;
        self.add_hosts(&mut files, work)?;
        let mut stubs = Stubs::default();
        if let Some(mounts) = spec["mounts"].as_array_mut() {
            for (target, source) in &files {
                mounts.push(json!({"destination": target, "type": "bind", "source": source, "options": ["rbind", "ro"]}));
            }
            mounts.append(&mut ready.mounts);
        }
        let directories = ["/proc", "/dev", "/sys"].map(|path| (PathBuf::from(path), true));
        let wanted = directories
            .into_iter()
            .chain(files.into_iter().map(|(target, _)| (target, false)))
            .chain(ready.targets);
        let wanted: Vec<(PathBuf, bool)> = wanted.collect();
        for (at, (target, directory)) in wanted.iter().enumerate() {
            // Below another mount nothing of the image is seen.
            if !wanted.iter().take(at).any(|(above, _)| target != above && target.starts_with(above)) {
                stubs
                    .make(&root, target, *directory)
                    .with_context(|| format!("mount point {}", target.display()))?;
            }
        }
        let path = work.path().join("config.json");
        fs::write(&path, serde_json::to_vec(&spec).context("encode config.json")?)
            .context("write config.json")?;
        let ran = start(work, planned, vertex);
        // By which a sweep knows that there may be a container.
        if !work.is_left() {
            fs::remove_file(&path).context("remove config.json")?;
        }
        stubs.remove()?;
        ran
    }
}

/// Whether the kernel can execute programs of `platform`.
fn emulated(platform: &Platform) -> Result<()> {
    let host = Platform::host();
    let same = platform.architecture == host.architecture
        || (platform.architecture == "386" && host.architecture == "amd64")
        || (platform.architecture == "arm" && host.architecture == "arm64");
    if same || platform.architecture.is_empty() {
        return Ok(());
    }
    let program = match platform.architecture.as_str() {
        "amd64" => "x86_64",
        "386" => "i386",
        "arm64" => "aarch64",
        other => other,
    };
    let registered = fs::read_to_string(format!("/proc/sys/fs/binfmt_misc/qemu-{program}"));
    if registered.is_ok_and(|text| text.starts_with("enabled")) {
        return Ok(());
    }
    fault!(
        Unsupported,
        "programs of {platform} do not run on {host}: register an emulator (qemu-{program}) with binfmt_misc, or \
         run this step in a stage FROM --platform=$BUILDPLATFORM"
    )
}

/// A working directory as the runtime wants it: WORKDIR keeps what was written.
fn plain(dir: &str) -> Result<String> {
    Ok(format!("/{}", crate::layer::tree::clean(dir.as_bytes())?.display()))
}

/// The words to execute, and a script that goes with them.
fn command(state: &State, run: &Run) -> (Vec<String>, Option<String>) {
    let (Command::Shell(text), [first, ..]) = (&run.command, run.heredocs.as_slice()) else {
        return (state.words(&run.command), None);
    };
    if run.heredocs.len() == 1 && text.trim() == first.word {
        if first.content.starts_with("#!") {
            return (vec![format!("/dev/pipes/{}", first.name)], Some(first.content.clone()));
        }
        return (state.words(&Command::Shell(first.content.clone())), None);
    }
    let mut all = text.clone();
    for doc in &run.heredocs {
        all = format!("{all}\n{}{}", doc.content, doc.name);
    }
    all.push('\n');
    (state.words(&Command::Shell(all)), None)
}

fn add_script(script: &str, name: &str, work: &Work, ready: &mut Ready) -> Result<()> {
    let path = work.path().join("script");
    fs::write(&path, script).context("write the script")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    ready
        .mounts
        .push(json!({"destination": name, "type": "bind", "source": path, "options": ["rbind", "ro"]}));
    Ok(())
}

/// `--security=insecure`: everything that a privileged container has.
fn loosen(spec: &mut Value) {
    let all: Vec<String> = caps();
    for set in ["bounding", "effective", "permitted"] {
        spec["process"]["capabilities"][set] = json!(all);
    }
    spec["linux"]["maskedPaths"] = json!([]);
    spec["linux"]["readonlyPaths"] = json!([]);
    spec["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
    if let Some(linux) = spec["linux"].as_object_mut() {
        linux.remove("seccomp");
    }
}

/// Every capability, by its number (capabilities(7)).
const ALL: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE \
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE \
    SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL \
    SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";

/// The capabilities of this process: nobody can give more than they have.
fn caps() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = held.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let all = ALL.split_ascii_whitespace().enumerate();
    all.filter(|(bit, _)| held >> bit & 1 == 1).map(|(_, name)| format!("CAP_{name}")).collect()
}

fn start(work: &Work, planned: &Planned, vertex: &Vertex<'_>) -> Result<()> {
    let runtime = tool::find("runtime");
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    let mut child = Process::new(&runtime)
        .args(["run", "--bundle"])
        .arg(work.path())
        .arg(work.id())
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("copy a pipe")?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("execute {}", runtime.display()))?;
    lines(reader, |line| vertex.line(line));
    let status = child.wait().context("wait for the runtime")?;
    if status.success() {
        return Ok(());
    }
    let shown = planned.words.join(" ");
    match status.code() {
        Some(code) => bail!("process \"{shown}\" did not complete successfully: exit code: {code}"),
        None => {
            // The runtime was killed, and with it nobody is left who would remove the container.
            if !sweep::delete_container(work.id()) {
                work.leave();
            }
            bail!("process \"{shown}\" did not complete successfully: {status}")
        }
    }
}

/// Calls `each` with every line; a last one without its end counts, and a line without end is cut.
fn lines(reader: impl Read, mut each: impl FnMut(&str)) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(64 << 10).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => each(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r'])),
        }
    }
}

impl Builder<'_> {
    /// Gives the step its network, and the files that go with it: target and source.
    fn connect(&self, network: &str, spec: &mut Value, work: &Work) -> Result<Vec<(PathBuf, PathBuf)>> {
        let mut files = Vec::new();
        if network == "host" {
            if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
                namespaces.retain(|namespace| namespace["type"] != "network");
            }
            for name in ["/etc/resolv.conf", "/etc/hosts"] {
                if Path::new(name).is_file() {
                    files.push((PathBuf::from(name), PathBuf::from(name)));
                }
            }
            return Ok(files);
        }
        if network == "default"
            && let Some(up) = self.network.get_or_init(|| self.join_network())
        {
            if let (Some(path), Some(namespaces)) =
                (&up.status.netns, spec["linux"]["namespaces"].as_array_mut())
            {
                for namespace in namespaces.iter_mut().filter(|namespace| namespace["type"] == "network") {
                    namespace["path"] = json!(path);
                }
            }
            for (name, file) in
                [("/etc/hosts", &up.status.hosts), ("/etc/resolv.conf", &up.status.resolv_conf)]
            {
                files.extend(file.clone().map(|file| (PathBuf::from(name), file)));
            }
            return Ok(files);
        }
        let hosts = work.path().join("hosts");
        fs::write(&hosts, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")?;
        files.push((PathBuf::from("/etc/hosts"), hosts));
        Ok(files)
    }

    /// `--add-host`: further lines in the step's hosts file.
    fn add_hosts(&self, files: &mut Vec<(PathBuf, PathBuf)>, work: &Work) -> Result<()> {
        if self.options.hosts.is_empty() {
            return Ok(());
        }
        let at = files.iter().position(|(target, _)| target == Path::new("/etc/hosts"));
        let mut text = match at {
            Some(at) => fs::read_to_string(&files[at].1).context("read the hosts file")?,
            None => String::new(),
        };
        for (name, address) in &self.options.hosts {
            text.push_str(&format!("{address}\t{name}\n"));
        }
        let path = work.path().join("more-hosts");
        fs::write(&path, text).context("write the hosts file")?;
        match at {
            Some(at) => files[at].1 = path,
            None => files.push((PathBuf::from("/etc/hosts"), path)),
        }
        Ok(())
    }

    /// A build without network is better than none: most steps need none, and those that do say so.
    fn join_network(&self) -> Option<Network> {
        match Network::up(self.store.paths()) {
            Ok(network) => Some(network),
            Err(err) => {
                let why = contracts::report::one_line(&err);
                self.progress.note(&format!("WARN: RUN steps have no network: {why} (see --network)"));
                None
            }
        }
    }
}
