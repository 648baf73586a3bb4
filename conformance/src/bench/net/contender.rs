//! Who is timed, and how each of them attaches and detaches a container.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// One container: its address and ports.
#[derive(Debug)]
pub struct Container {
    id: String,
    netns: String,
    /// Counts the addresses of the network.
    place: u32,
    ports: Vec<u16>,
    /// Further names.
    aliases: Vec<String>,
}

impl Container {
    /// Number `place` on its network, with so many published ports from `first` on.
    ///
    /// # Errors
    /// Ports beyond the last one.
    pub fn new(place: u32, first: u32, ports: u16) -> Result<Self> {
        let first = u16::try_from(first).context("too many ports")?;
        let ports = (first..first.checked_add(ports).context("too many ports")?).collect();
        Ok(Self {
            id: format!("{place:064x}"),
            netns: format!("c{place}"),
            place,
            ports,
            aliases: Vec::new(),
        })
    }

    fn address(&self) -> String {
        format!("10.93.{}.{}", (self.place + 1) / 256, (self.place + 1) % 256)
    }
}

/// What is timed.
#[derive(Debug)]
pub enum Kind {
    /// `netctl up` and `down`, which make the namespace, too; `names`: on a network that answers names.
    Netctl { netctl: PathBuf, names: bool },
    /// `netavark setup` and `teardown`.
    Netavark { program: PathBuf, ours: bool, names: bool },
    /// ADD and DEL, of one plugin that does all, or of bridge, host-local and portmap in a directory.
    Cni { plugins: PathBuf, chain: bool },
    /// `ip -batch` twice and `nft -f`, and back.
    ByHand,
}

impl Kind {
    /// Its name in the table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Netctl { names: false, .. } => "netctl",
            Self::Netctl { names: true, .. } => "netctl, names",
            Self::Netavark { ours: true, names: false, .. } => "netctl as netavark",
            Self::Netavark { ours: true, names: true, .. } => "netctl as nv, names",
            Self::Netavark { ours: false, names: false, .. } => "netavark",
            Self::Netavark { ours: false, names: true, .. } => "netavark, names",
            Self::Cni { chain: false, .. } => "netctl as CNI",
            Self::Cni { chain: true, .. } => "CNI chain",
            Self::ByHand => "ip and nft",
        }
    }
}

/// A contender with files of its own.
#[derive(Debug)]
pub struct Contender {
    kind: Kind,
    dir: PathBuf,
}

impl Contender {
    /// Makes its directory and, where it has to be told, its network.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(kind: Kind, work: &Path) -> Result<Self> {
        let dir = work.join(kind.name().replace([' ', ','], "-"));
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let contender = Self { kind, dir };
        match &contender.kind {
            Kind::Netctl { names, .. } => {
                let mut args = vec!["create", "bench", "--subnet", "10.93.0.0/16"];
                args.extend((!names).then_some("--disable-dns"));
                contender.netctl(&args)?;
            }
            Kind::Netavark { program, ours: true, .. } => {
                let copy = contender.dir.join("netavark");
                fs::copy(program, &copy).with_context(|| format!("copy {}", program.display()))?;
            }
            Kind::ByHand => contender.scripts()?,
            _ => {}
        }
        Ok(contender)
    }

    /// Its name in the table.
    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn needs_netns(&self) -> bool {
        !matches!(self.kind, Kind::Netctl { .. })
    }

    /// What somebody else does before, for those who need it: the namespace. Not timed.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn prepare(&self, container: &Container) -> Result<()> {
        if !self.needs_netns() {
            return Ok(());
        }
        quietly("ip", &["netns", "add", &self.netns(container)])?;
        if matches!(self.kind, Kind::ByHand) {
            let host = format!(
                "link add brb0 type bridge\naddr add 10.93.0.1/16 dev brb0\nlink set brb0 up\n\
                 link add vb0 type veth peer name eth0 netns {}\nlink set vb0 master brb0 up\n",
                self.netns(container)
            );
            fs::write(self.dir.join("host"), host).context("write the batch for ip")?;
        }
        Ok(())
    }

    /// Takes the namespace away again. Not timed.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn tidy(&self, container: &Container) -> Result<()> {
        if self.needs_netns() { quietly("ip", &["netns", "del", &self.netns(container)]) } else { Ok(()) }
    }

    /// Attaches.
    ///
    /// # Errors
    /// What the tool said.
    pub fn up(&self, container: &Container) -> Result<()> {
        match &self.kind {
            Kind::Netctl { .. } => {
                let ports: Vec<String> =
                    container.ports.iter().map(|port| format!("-p{port}:{port}")).collect();
                let mut args = vec!["up", container.id.as_str(), "--network", "bench"];
                args.extend(ports.iter().map(String::as_str));
                args.extend(container.aliases.iter().flat_map(|alias| ["--alias", alias]));
                self.netctl(&args)
            }
            Kind::Netavark { .. } => self.netavark("setup", container),
            Kind::Cni { chain: false, .. } => self.cni("ADD", container, "bridge", None).map(|_| ()),
            Kind::Cni { chain: true, .. } => {
                let answer = self.cni("ADD", container, "bridge", None)?;
                self.cni("ADD", container, "portmap", Some(&answer))?;
                fs::write(self.dir.join(&container.id), answer).context("keep the result")
            }
            Kind::ByHand => {
                self.by_hand("ip", &["-batch", "host"])?;
                self.by_hand("ip", &["-n", &self.netns(container), "-batch", "inside"])?;
                self.by_hand("nft", &["-f", "rules"])
            }
        }
    }

    /// Detaches.
    ///
    /// # Errors
    /// What the tool said.
    pub fn down(&self, container: &Container) -> Result<()> {
        match &self.kind {
            Kind::Netctl { .. } => self.netctl(&["down", &container.id]),
            Kind::Netavark { .. } => self.netavark("teardown", container),
            Kind::Cni { chain: false, .. } => self.cni("DEL", container, "bridge", None).map(|_| ()),
            Kind::Cni { chain: true, .. } => {
                let answer = fs::read_to_string(self.dir.join(&container.id)).context("read the result")?;
                self.cni("DEL", container, "portmap", Some(&answer))?;
                self.cni("DEL", container, "bridge", Some(&answer)).map(|_| ())
            }
            Kind::ByHand => {
                self.by_hand("nft", &["-f", "no-rules"])?;
                self.by_hand("ip", &["-batch", "undo"])
            }
        }
    }

    /// Detaches the containers that were there all the time, so that no process and no mount stays.
    ///
    /// # Errors
    /// What the tool said.
    pub fn clear(&self, attached: u32) -> Result<()> {
        for number in 0..attached {
            let other = Container::new(number + 2, 10_000 + number * 10, 10)?;
            self.down(&other)?;
            self.tidy(&other)?;
        }
        Ok(())
    }

    /// Attaches one container that has so many names, `name0` and so on.
    ///
    /// # Errors
    /// What the tool said.
    pub fn name_one(&self, names: u32) -> Result<()> {
        let aliases = (0..names).map(|number| format!("name{number}")).collect();
        let container = Container { aliases, ..Container::new(1, 1, 0)? };
        self.prepare(&container)?;
        self.up(&container)
    }

    /// Detaches it.
    ///
    /// # Errors
    /// What the tool said.
    pub fn forget_one(&self) -> Result<()> {
        let container = Container::new(1, 1, 0)?;
        self.down(&container)?;
        self.tidy(&container)
    }

    /// Two contenders never have one at a time, but those that stay are all in one directory.
    fn netns(&self, container: &Container) -> String {
        format!("{}-{}", self.dir.file_name().unwrap_or_default().to_string_lossy(), container.netns)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("BULKHEAD_STATE", self.dir.join("state")).env("BULKHEAD_STORE", self.dir.join("store"));
        command.current_dir(&self.dir);
        command
    }

    fn netctl(&self, args: &[&str]) -> Result<()> {
        let Kind::Netctl { netctl, .. } = &self.kind else { return Ok(()) };
        said(self.command(netctl).args(args), None).map(|_| ())
    }

    fn netavark(&self, verb: &str, container: &Container) -> Result<()> {
        let Kind::Netavark { program, ours, names } = &self.kind else { return Ok(()) };
        let program = if *ours { self.dir.join("netavark") } else { program.clone() };
        let ports: Vec<Value> = container
            .ports
            .iter()
            .map(|port| json!({"host_ip": "", "host_port": port, "container_port": port, "range": 1, "protocol": "tcp"}))
            .collect();
        let input = json!({
            "container_id": container.id, "container_name": container.netns, "port_mappings": ports,
            "networks": {"bench": {"interface_name": "eth0", "static_ips": [container.address()],
                                   "aliases": container.aliases}},
            "network_info": {"bench": {
                "name": "bench", "id": format!("{:064x}", 7), "driver": "bridge", "network_interface": "brb0",
                "subnets": [{"subnet": "10.93.0.0/16", "gateway": "10.93.0.1"}], "ipv6_enabled": false,
                "internal": false, "dns_enabled": names, "ipam_options": {"driver": "host-local"},
            }},
        });
        let mut command = self.command(&program);
        command.arg("--config").arg(&self.dir).args(["--rootless=false", "--aardvark-binary"]);
        command.args(["/usr/lib/podman/aardvark-dns", verb]);
        command.arg(Path::new("/run/netns").join(self.netns(container)));
        said(&mut command, Some(input.to_string())).map(|_| ())
    }

    fn cni(&self, verb: &str, container: &Container, plugin: &str, previous: Option<&str>) -> Result<String> {
        let Kind::Cni { plugins, chain } = &self.kind else { return Ok(String::new()) };
        let program = if *chain { plugins.join(plugin) } else { plugins.clone() };
        let path = if *chain { plugins.as_path() } else { Path::new("/") };
        let mut config = json!({
            "cniVersion": "1.0.0", "name": "bench", "type": plugin, "bridge": "brb0", "isGateway": true, "ipMasq": true,
            "capabilities": {"portMappings": true},
            "ipam": {"type": "host-local", "dataDir": self.dir, "ranges": [[{"subnet": "10.93.0.0/16"}]],
                     "routes": [{"dst": "0.0.0.0/0"}]},
        });
        if !chain || plugin == "portmap" {
            let ports: Vec<Value> = container
                .ports
                .iter()
                .map(|port| json!({"hostPort": port, "containerPort": port, "protocol": "tcp"}))
                .collect();
            config["runtimeConfig"] = json!({"portMappings": ports});
        }
        if let Some(previous) = previous {
            config["prevResult"] = serde_json::from_str(previous).context("read the result")?;
        }
        let mut command = self.command(&program);
        command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", &container.id).env("CNI_IFNAME", "eth0");
        command.env("CNI_NETNS", Path::new("/run/netns").join(self.netns(container))).env("CNI_PATH", path);
        said(&mut command, Some(config.to_string()))
    }

    fn scripts(&self) -> Result<()> {
        let rules = "table ip bench {\n chain pre { type nat hook prerouting priority dstnat; \
            tcp dport 8080 dnat to 10.93.0.2:8080\n tcp dport 8081 dnat to 10.93.0.2:8081\n }\n \
            chain out { type nat hook output priority dstnat; \
            fib daddr type local tcp dport 8080 dnat to 10.93.0.2:8080\n \
            fib daddr type local tcp dport 8081 dnat to 10.93.0.2:8081\n }\n \
            chain post { type nat hook postrouting priority srcnat; \
            ip saddr 10.93.0.0/16 oifname != \"brb0\" masquerade\n }\n}\n";
        for (name, text) in [
            ("rules", rules),
            ("no-rules", "delete table ip bench\n"),
            ("undo", "link del vb0\nlink del brb0\n"),
            (
                "inside",
                "link set lo up\naddr add 10.93.0.2/16 dev eth0\nlink set eth0 up\nroute add default via 10.93.0.1\n",
            ),
        ] {
            fs::write(self.dir.join(name), text).with_context(|| format!("write {name}"))?;
        }
        Ok(())
    }

    fn by_hand(&self, program: &str, args: &[&str]) -> Result<()> {
        said(self.command(Path::new(program)).args(args), None).map(|_| ())
    }
}

/// Runs a helper that is not timed.
///
/// # Errors
/// What it said.
pub fn quietly(program: &str, args: &[&str]) -> Result<()> {
    said(Command::new(program).args(args), None).map(|_| ())
}

fn said(command: &mut Command, input: Option<String>) -> Result<String> {
    let shown = format!("{command:?}");
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("start")?;
    if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
        // A tool that ends without reading says why.
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().context("wait")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{shown}: {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}
