//! The process that prolongs leases, one for a directory of them. It sleeps until the next one is due.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use contracts::atomic;
use contracts::lock::Lock;
use contracts::paths::Paths;
use contracts::process::Process;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::exchange::Exchange;
use super::lease::{self, Lease};
use super::with_ending;
use crate::attach::leased;
use crate::state::{self, State};

/// A server that does not answer is asked again in half the time that is left, but no sooner than this.
const SOONEST: Duration = Duration::from_secs(5);
/// One conversation; then a pause.
const TRY: Duration = Duration::from_secs(12);
/// How often is looked whether containers are still there whose networks nobody has taken down.
const ROUND: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes sure that a keeper runs for this directory.
///
/// # Errors
/// It cannot be started: what it said.
pub fn start(dir: &Path) -> Result<()> {
    if is_running(dir) {
        return Ok(());
    }
    let program = std::env::current_exe().context("find netctl itself")?;
    let mut child = Command::new(program)
        .arg("dhcp")
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .current_dir("/")
        .spawn()
        .context("start the keeper of DHCP leases")?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said).context("wait for the keeper of DHCP leases")?;
    }
    match said.trim_end() {
        "ready" => Ok(()),
        "" => bail!("the keeper of DHCP leases ended before it was ready: {}", child.wait()?),
        why => bail!("{why}"),
    }
}

fn is_running(dir: &Path) -> bool {
    let process: Option<Process> = atomic::read_json(&with_ending(dir, "pid")).ok().flatten();
    process.is_some_and(|process| process.is_running())
}

/// The keeper itself: `netctl dhcp DIR`.
///
/// # Errors
/// The file system's; said on stdout as well, for whoever started it.
pub fn run(dir: &Path) -> Result<()> {
    let _ = nix::unistd::setsid();
    let mut stdout = std::io::stdout();
    let begun = begin(dir);
    let said = match &begun {
        Ok(_) => "ready".to_owned(),
        Err(err) => contracts::report::one_line(err),
    };
    let _ = writeln!(stdout, "{said}").and_then(|()| stdout.flush());
    let Some((mut keeper, _lock)) = begun? else { return Ok(()) };
    let null = File::open("/dev/null").context("open /dev/null")?;
    nix::unistd::dup2_stdout(null).context("close stdout")?;
    let pid_file = with_ending(dir, "pid");
    loop {
        keeper.work()?;
        // Whoever writes a lease looks at the pid file afterwards: take it away first, then look once more.
        state::remove(&pid_file)?;
        keeper.reload();
        if keeper.held.is_empty() {
            return Ok(());
        }
        atomic::write_json_volatile(&pid_file, &Process::current()?, 0o600)?;
    }
}

fn begin(dir: &Path) -> Result<Option<(Keeper, Lock)>> {
    let patience = Instant::now() + PATIENCE;
    let lock = loop {
        if let Some(lock) = Lock::try_exclusive(&with_ending(dir, "lock"))? {
            break lock;
        }
        if is_running(dir) {
            return Ok(None);
        }
        if Instant::now() > patience {
            bail!("{}: another keeper neither works nor leaves", dir.display());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let keeper = Keeper::new(dir)?;
    atomic::write_json_volatile(&with_ending(dir, "pid"), &Process::current()?, 0o600)?;
    Ok(Some((keeper, lock)))
}

/// A lease, and what is being done about it.
#[derive(Debug)]
struct Held {
    lease: Lease,
    exchange: Option<(Exchange, Instant)>,
    /// When to do something about it next.
    due: Instant,
}

#[derive(Debug)]
struct Keeper {
    dir: PathBuf,
    changes: Inotify,
    held: BTreeMap<String, Held>,
    round: Instant,
}

impl Keeper {
    fn new(dir: &Path) -> Result<Self> {
        state::make_dir(dir)?;
        let changes =
            Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).context("watch for changes")?;
        let mut keeper =
            Self { dir: dir.into(), changes, held: BTreeMap::new(), round: Instant::now() + ROUND };
        keeper.reload();
        Ok(keeper)
    }

    /// Until there is no lease any more.
    fn work(&mut self) -> Result<()> {
        while !self.held.is_empty() {
            self.wait()?;
            while self.changes.read_events().is_ok_and(|events| !events.is_empty()) {}
            self.reload();
            let is_round = Instant::now() >= self.round;
            if is_round {
                self.round = Instant::now() + ROUND;
            }
            let dir = self.dir.clone();
            self.held.retain(|_, held| {
                if is_round && matches!(held.lease.open(), Ok(None)) {
                    // The container has gone with its namespace.
                    let _ = lease::remove(&dir, &held.lease);
                    return false;
                }
                // One that fails is tried again, and keeps none of the others waiting.
                if held.step(&dir).is_err() {
                    (held.exchange, held.due) = (None, Instant::now() + SOONEST);
                }
                true
            });
        }
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        let next = self.held.values().map(Held::next).min().unwrap_or(self.round).min(self.round);
        let mut fds = vec![PollFd::new(self.changes.as_fd(), PollFlags::POLLIN)];
        for (exchange, _) in self.held.values().filter_map(|held| held.exchange.as_ref()) {
            fds.push(PollFd::new(exchange.as_fd(), PollFlags::POLLIN));
        }
        let wait = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        match poll(&mut fds, PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(err) => Err(err).context("wait"),
        }
    }

    /// Takes in which leases there are now.
    fn reload(&mut self) {
        // Again each time: the directory goes with the last lease, and comes with the next.
        let flags = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_DELETE_SELF;
        let _ = self.changes.add_watch(&self.dir, flags);
        let names = state::list(&self.dir).unwrap_or_default();
        self.held.retain(|name, _| names.contains(name));
        for name in names.into_iter().filter(|name| name.ends_with(".json")) {
            let Ok(Some(lease)) = atomic::read_json::<Lease>(&self.dir.join(&name)) else { continue };
            let is_known = self.held.get(&name).is_some_and(|held| held.lease == lease);
            if !is_known {
                let due = due(&lease);
                self.held.insert(name, Held { lease, exchange: None, due });
            }
        }
    }
}

/// Seconds that a lease has been ours, at most for ever.
fn age(lease: &Lease) -> u32 {
    let now = lease::now().unwrap_or(0);
    u32::try_from(now.saturating_sub(lease.since)).unwrap_or(u32::MAX)
}

fn after(lease: &Lease, seconds: u32) -> Duration {
    Duration::from_secs(seconds.saturating_sub(age(lease)).into())
}

/// When its server is to be asked.
fn due(lease: &Lease) -> Instant {
    match lease.lifetime {
        // A month; then it is looked at again.
        None => Instant::now() + Duration::from_secs(30 * 86_400),
        Some(_) => Instant::now() + after(lease, lease.renewal),
    }
}

impl Held {
    fn next(&self) -> Instant {
        self.exchange.as_ref().map_or(self.due, |(exchange, end)| exchange.next().min(*end))
    }

    /// Does what is to be done now.
    fn step(&mut self, dir: &Path) -> Result<()> {
        let now = Instant::now();
        if self.exchange.is_none() {
            if now < self.due {
                return Ok(());
            }
            if self.lease.lifetime.is_none() && self.lease.address.is_some() {
                self.due = due(&self.lease);
                return Ok(());
            }
            let Some((namespace, index)) = self.lease.open()? else { return lease::remove(dir, &self.lease) };
            let client = self.lease.client(index)?;
            let age = age(&self.lease);
            let exchange = match self.lease.own() {
                Some(own) if age < self.lease.rebinding => {
                    Exchange::keep(&namespace.file, client, own, self.lease.server())?
                }
                Some(own) if self.lease.lifetime.is_some_and(|life| age < life) => {
                    Exchange::keep(&namespace.file, client, own, None)?
                }
                own => {
                    if own.is_some() {
                        // Perhaps somebody else's by now.
                        self.change(dir, None)?;
                    }
                    Exchange::search(&namespace.file, self.lease.client(index)?, own)?
                }
            };
            // Then others are asked, or the address is no longer ours.
            let end = self.lease.own().map_or(TRY, |_| self.left().min(TRY));
            self.exchange = Some((exchange, now + end));
        }
        let Some((exchange, end)) = &mut self.exchange else { return Ok(()) };
        // The interface's index does not change while it lives; without one there is nobody to speak for.
        let Some((_, index)) = self.lease.open()? else { return lease::remove(dir, &self.lease) };
        let client = self.lease.client(index)?;
        match exchange.hear(client) {
            Some(Some(grant)) => {
                self.exchange = None;
                return self.change(dir, Some(&grant));
            }
            Some(None) => {
                self.exchange = None;
                self.change(dir, None)?;
                self.due = now;
                return Ok(());
            }
            None => {}
        }
        if now >= *end {
            self.exchange = None;
            self.due = now + self.pause();
        } else if exchange.next() <= now {
            exchange.ask(client);
        }
        Ok(())
    }

    /// Until other servers are asked, or until the lease ends.
    fn left(&self) -> Duration {
        let is_early = age(&self.lease) < self.lease.rebinding;
        let end = if is_early { self.lease.rebinding } else { self.lease.lifetime.unwrap_or(u32::MAX) };
        after(&self.lease, end)
    }

    /// Half of what is left; all of it where that is little, and a moment where nothing is.
    fn pause(&self) -> Duration {
        let left = self.left();
        match left / 2 {
            half if half > SOONEST => half,
            _ if left.is_zero() && self.lease.own().is_none() => SOONEST,
            _ => left,
        }
    }

    /// Takes in a new grant, or that the address is ours no longer.
    fn change(&mut self, dir: &Path, grant: Option<&super::exchange::Grant>) -> Result<()> {
        let before = self.lease.clone();
        match grant {
            Some(grant) => self.lease.take(grant)?,
            None => (self.lease.address, self.lease.routes) = (None, Vec::new()),
        }
        self.due = due(&self.lease);
        if !lease::rewrite(dir, &self.lease)? {
            return Ok(());
        }
        let links = |lease: &Lease| (lease.address, lease.routes.clone());
        if links(&before) != links(&self.lease)
            && let Some((namespace, index)) = self.lease.open()?
        {
            self.lease.apply((&namespace, index), Some(&before))?;
        }
        let told = |lease: &Lease| (lease.address, lease.router, lease.names.clone(), lease.domain.clone());
        if told(&before) == told(&self.lease) { Ok(()) } else { self.tell(dir) }
    }

    /// Has the container's files, and the record, say what the lease says. Podman keeps its containers' files itself.
    fn tell(&self, dir: &Path) -> Result<()> {
        let paths = Paths::from_env();
        if dir.parent() != Some(&paths.net()) {
            return Ok(());
        }
        let state = State::lock(paths.net(), paths.networks(), "bulkhead")?;
        leased::follow(&state, &self.lease)
    }
}
