//! A container comes to be: id and name, bundle from the image, record.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use contracts::atomic;
use contracts::bundle::Report;
use contracts::container::Container;
use contracts::fault;
use contracts::lock::Lock;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Gid, Uid, fchown};
use sys::path::Root;

use super::{Store, claim, image_mounts, make_dir, names, remove};
use crate::cli::CreateFlags;
use crate::request::user_namespace::{self, Ids};
use crate::request::{self, mounts::Wish};
use crate::tools::NetworkUp;
use crate::{events, spec, tools, volume};

/// A container just made, still locked.
pub struct Created {
    /// Its record.
    pub record: Container,
    /// The lock: whoever starts it right away keeps it.
    pub lock: Lock,
    /// The network, already being made because the container will be started right away.
    pub network: Option<NetworkUp>,
}

/// Makes a container. With `will_start` its network is prepared while the image is.
pub fn create(store: &Store, flags: &CreateFlags, will_start: bool) -> Result<Created> {
    let (mut record, wishes) = request::read(store, flags)?;
    let ids = user_namespace::read(store, &flags.security)?;
    for warning in request::warnings(&mut record) {
        let _ = writeln!(io::stderr(), "WARNING: {warning}");
    }
    if let Some(path) = &flags.cidfile
        && path.exists()
    {
        fault!(
            Exists,
            "container ID file found, make sure the other container isn't running or delete {}",
            path.display()
        );
    }
    record.id = names::new_id()?;
    let dir = store.dir(&record.id);
    make_dir(&dir)?;
    let made = Lock::exclusive(&dir.join("lock")).and_then(|lock| {
        claim_name(store, flags, &mut record)?;
        // Ports of the image's are known only when the image is: then the network waits for it.
        let early = will_start && !flags.network.publish_all && !ids.need_image();
        if !ids.need_image() {
            take_ids(store, &mut record, &ids, 0)?;
        }
        let network = if early { Some(begin_network(store, &record)?) } else { None };
        if ids.need_image() {
            let users = ids_of_image(flags, &record, &store.bundle(&record.id))?;
            take_ids(store, &mut record, &ids, users)?;
        }
        fill(store, flags, &mut record, wishes)?;
        store.save(&record)?;
        if let Some(path) = &flags.cidfile {
            fs::write(path, &record.id).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(Created { record: record.clone(), lock, network })
    });
    if made.is_err() {
        undo(store, &record);
    } else {
        events::container(store, &record, "create", &[]);
    }
    made
}

/// Takes away what a container that could not be made has left.
pub fn undo(store: &Store, record: &Container) {
    names::release(store, &record.name, &record.id);
    if store.live(&record.id).exists() {
        let _ = tools::network_down(&record.id);
    }
    remove::anonymous_volumes(store, record);
    let _ = remove::files(store, &record.id);
}

fn claim_name(store: &Store, flags: &CreateFlags, record: &mut Container) -> Result<()> {
    if !flags.name.is_empty() {
        let name = flags.name.strip_prefix('/').unwrap_or(&flags.name);
        names::check(name)?;
        claim::name(store, name, &record.id)?;
        record.name = name.into();
    } else {
        let mut attempt = 0;
        record.name = loop {
            let name = names::made_up(attempt)?;
            match claim::name(store, &name, &record.id) {
                Ok(()) => break name,
                Err(err) if attempt > 100 => return Err(err),
                Err(_) => attempt += 1,
            }
        };
    }
    record.network.name.clone_from(&record.name);
    name_host(store, record)
}

/// Who shares a network has the host name that goes with its address.
fn name_host(store: &Store, record: &mut Container) -> Result<()> {
    let network = record.network.networks.first().map(|first| first.network.as_str()).unwrap_or_default();
    if let Some(other) = network.strip_prefix("container:") {
        if !record.config.hostname.is_empty() {
            fault!(Usage, "conflicting options: hostname and the network mode");
        }
        record.config.hostname = store.load(other)?.config.hostname;
        return Ok(());
    }
    if network == "host" && record.config.hostname.is_empty() {
        let name = nix::unistd::gethostname().context("read this machine's name")?;
        record.config.hostname = name.to_string_lossy().into_owned();
    }
    record.network.hostname = spec::hostname(record);
    record.network.domainname.clone_from(&record.config.domainname);
    Ok(())
}

fn begin_network(store: &Store, record: &Container) -> Result<NetworkUp> {
    super::start::own(store, &record.id)?;
    NetworkUp::start(&record.id, &spec::network_request(store, record)?)
}

/// Everything that needs the image: bundle, volumes, config.json.
fn fill(store: &Store, flags: &CreateFlags, record: &mut Container, wishes: Vec<Wish>) -> Result<()> {
    let bundle = store.bundle(&record.id);
    let source = Source::of(flags);
    let report = make_bundle(&source, record, &bundle)?;
    let own = record.config.env.clone();
    request::image::inherit(record, &report)?;
    request::podman::unset(flags, &own, &mut record.config.env);
    if record.config.hostname.is_empty() {
        record.config.hostname = spec::hostname(record);
    }
    if record.host_config.runtime.is_empty() {
        record.host_config.runtime = record.runtime.display().to_string();
    }
    let rootfs = Root::open(&bundle.join("rootfs")).context("open the root file system")?;
    record.mounts = volume::attach::resolve(store, record, wishes, &rootfs)?;
    image_mounts::make(&source, record, &bundle)?;
    let mut config = spec::read(&bundle)?;
    let linked = request::links::environment(store, record)?;
    record.config.env = request::env::merge(&linked, &record.config.env);
    spec::merge(store, record, &mut config, &rootfs)?;
    if !record.config.working_dir.is_empty() {
        make_working_dir(record, &rootfs)?;
    }
    let path = bundle.join("config.json");
    if record.host_config.auto_remove {
        return atomic::write_json_volatile(&path, &config, 0o600);
    }
    atomic::write_json(&path, &config, 0o600)
}

/// Where images come from.
pub struct Source<'a> {
    /// `missing`, `always` or `never`.
    pub pull: &'a str,
    /// The platform, where an image has several.
    pub platform: Option<&'a str>,
    /// Nothing is said of a pull.
    pub quiet: bool,
}

impl<'a> Source<'a> {
    fn of(flags: &'a CreateFlags) -> Self {
        Self { pull: &flags.pull, platform: flags.platform.as_deref(), quiet: flags.quiet }
    }

    /// `imgtool bundle` with what this means for it.
    pub fn bundle(&self) -> Command {
        let mut command = tools::imgtool("bundle");
        command.args(["--pull", self.pull]);
        if let Some(platform) = self.platform {
            command.args(["--platform", platform]);
        }
        if !self.quiet {
            command.arg("--progress-on-stdin");
        }
        command
    }

    /// Runs it.
    pub fn run(&self, command: &mut Command) -> Result<Vec<u8>> {
        if self.quiet { tools::run(command) } else { tools::run_shown(command) }
    }
}

/// The bundle of a container from its image.
pub fn make_bundle(source: &Source<'_>, record: &Container, bundle: &Path) -> Result<Report> {
    let mut command = source.bundle();
    command.args(["--format", "json", "--name", &record.id]);
    if record.host_config.auto_remove {
        command.arg("--volatile");
    }
    command.arg(&record.image).arg(bundle);
    tools::map_ids(&mut command, record);
    let report = source.run(&mut command)?;
    serde_json::from_slice(&report).context("imgtool bundle: its report is not what it promises")
}

/// A missing working directory is made, owned by root, as docker does.
pub fn make_working_dir(record: &Container, rootfs: &Root) -> Result<()> {
    let dir = Path::new(&record.config.working_dir);
    rootfs
        .mkdir_all(dir, Mode::from_bits_truncate(0o755))
        .with_context(|| format!("make the working directory {}", dir.display()))?;
    let Some(maps) = &record.host_config.id_mappings else { return Ok(()) };
    let (uid, gid) = maps.outside(0, 0);
    for above in dir.ancestors().filter(|above| above.file_name().is_some()) {
        let fd = rootfs.open_in(above, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
        // The image's have owners of the maps: this one has just been made.
        if fstat(&fd)?.st_uid == 0 && uid != 0 {
            fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .with_context(|| format!("chown {}", above.display()))?;
        }
    }
    Ok(())
}

fn take_ids(store: &Store, record: &mut Container, ids: &Ids, users: u32) -> Result<()> {
    record.host_config.id_mappings = ids.settle(store, &record.id, users)?;
    record.network.id_maps.clone_from(&record.host_config.id_mappings);
    if record.host_config.id_mappings.is_some() {
        let_through(&store.paths.store)?;
    }
    Ok(())
}

/// Lets others pass through the store's directory, as through docker's: runc and crun go to the root file system as the
/// container's root. What is in it has modes of its own.
fn let_through(store: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(store).with_context(|| format!("stat {}", store.display()))?.permissions().mode();
    if mode & 0o011 == 0o011 {
        return Ok(());
    }
    fs::set_permissions(store, fs::Permissions::from_mode((mode & 0o7777) | 0o011))
        .with_context(|| format!("chmod {}", store.display()))
}

/// How many ids the users and groups of the image need, and the container's own, as podman counts: 1024 at least.
fn ids_of_image(flags: &CreateFlags, record: &Container, bundle: &Path) -> Result<u32> {
    make_bundle(&Source::of(flags), record, bundle)?;
    let root = Root::open(&bundle.join("rootfs")).context("open the root file system")?;
    let mut size = 1024;
    for (file, names) in [("etc/passwd", &["nobody"][..]), ("etc/group", &["nobody", "nogroup"])] {
        let mut text = Vec::new();
        if let Ok(fd) = root.open_in(Path::new(file), OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty()) {
            File::from(fd)
                .take(4 << 20)
                .read_to_end(&mut text)
                .with_context(|| format!("read the image's {file}"))?;
        }
        for line in String::from_utf8_lossy(&text).lines() {
            let parts: Vec<&str> = line.split(':').collect();
            if !names.contains(&parts[0]) {
                let ids = parts.iter().skip(2).take(2).filter_map(|part| part.parse::<u32>().ok());
                size = ids.fold(size, |size, id| size.max(id.saturating_add(1)));
            }
        }
    }
    for id in record.config.user.split(':').filter_map(|part| part.parse::<u32>().ok()) {
        size = size.max(id.saturating_add(1));
    }
    drop(root);
    image_mounts::unbundle(bundle)?;
    if size > 65536 {
        fault!(
            Unsupported,
            "the container needs a user namespace with size {size} that is bigger than the maximum value allowed with \
             userns=auto 65536: say --userns auto:size={size}"
        );
    }
    Ok(size)
}
