//! Networks timed side by side: one container joins a bridge network with two published ports, and leaves it. Each
//! contender has a host (a network namespace) of its own, so that their links and rules never meet.

pub mod contender;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use serde_json::json;

use crate::check::{self, Work};
use crate::cli::Bench;
use crate::kernel;
use contender::{Container, Contender, Kind};

/// For what a tool leaves to a child behind its answer: it counts as its processor time, and is over before the next
/// contender's turn.
const AFTERWARDS: Duration = Duration::from_millis(400);
/// Published by each of the containers that are there all the time.
const PORTS_OF_OTHERS: u16 = 10;

/// Milliseconds.
#[derive(Debug, Default)]
struct Samples {
    up: Vec<f64>,
    down: Vec<f64>,
    both: Vec<f64>,
    processor: Vec<f64>,
}

/// Measures; true when every contender could be measured.
///
/// # Errors
/// Nothing could be set up.
pub fn run(flags: &Bench) -> Result<bool> {
    kernel::become_subreaper()?;
    let work = Work::in_memory(&flags.work)?;
    private_places(&work.dir)?;
    let mut rows = Vec::new();
    for kind in contenders(flags) {
        if flags.filter.is_empty() || flags.filter.iter().any(|text| kind.name().contains(text)) {
            let contender = Contender::new(kind, &work.dir)?;
            rows.push((host()?, contender, Samples::default()));
        }
    }
    ensure!(!rows.is_empty(), "nothing to measure: say where netctl is (--tools DIR)");
    for (host, contender, _) in &rows {
        setns(host, CloneFlags::CLONE_NEWNET).context("enter a contender's host")?;
        for number in 0..flags.attached {
            let other =
                Container::new(number + 2, 10_000 + number * u32::from(PORTS_OF_OTHERS), PORTS_OF_OTHERS)?;
            contender.prepare(&other)?;
            contender
                .up(&other)
                .with_context(|| format!("{}: attach container {number}", contender.name()))?;
        }
    }
    let mut good = true;
    for round in 0..flags.runs {
        let count = rows.len();
        for turn in 0..count {
            let (host, contender, samples) = &mut rows[(turn + usize::try_from(round)?) % count];
            setns(&*host, CloneFlags::CLONE_NEWNET).context("enter a contender's host")?;
            std::thread::sleep(Duration::from_millis(flags.idle));
            // The first round fills caches and is not counted.
            if let Err(err) = measure(contender, samples, round > 0 || flags.runs == 1) {
                writeln!(io::stderr(), "conformance: {}: {err:#}", contender.name())?;
                good = false;
            }
        }
    }
    for (host, contender, _) in &rows {
        setns(host, CloneFlags::CLONE_NEWNET).context("enter a contender's host")?;
        contender.clear(flags.attached)?;
    }
    print(flags, &rows)?;
    Ok(good)
}

/// What the peers keep in fixed places belongs to this run alone.
///
/// # Errors
/// They cannot be mounted.
pub fn private_places(work: &Path) -> Result<()> {
    for place in ["/run/netns", "/var/lib/cni"] {
        let made = std::fs::create_dir_all(place);
        made.with_context(|| format!("make {place}"))?;
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .with_context(|| format!("mount a tmpfs on {place}"))?;
    }
    std::env::set_current_dir(work).context("enter the directory of this run")
}

fn contenders(flags: &Bench) -> Vec<Kind> {
    let mut kinds = Vec::new();
    if let Some(netctl) =
        flags.tools.as_ref().map(|dir| dir.join("netctl")).and_then(|path| check::find(&path).ok())
    {
        kinds.extend([false, true].map(|names| Kind::Netctl { netctl: netctl.clone(), names }));
        kinds.extend([false, true].map(|names| Kind::Netavark {
            program: netctl.clone(),
            ours: true,
            names,
        }));
        kinds.push(Kind::Cni { plugins: netctl, chain: false });
    }
    if let Some(program) = installed("/usr/lib/podman/netavark") {
        kinds.extend([false, true].map(|names| Kind::Netavark {
            program: program.clone(),
            ours: false,
            names,
        }));
    }
    if let Some(plugins) = installed("/usr/lib/cni").or_else(|| installed("/opt/cni/bin")) {
        kinds.push(Kind::Cni { plugins, chain: true });
    }
    // One container is all that this one's script knows.
    if flags.attached == 0 && check::find(Path::new("ip")).is_ok() && check::find(Path::new("nft")).is_ok() {
        kinds.push(Kind::ByHand);
    }
    kinds
}

/// That path, where it exists.
pub fn installed(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(path);
    path.exists().then_some(path)
}

/// A network namespace with loopback up, entered.
///
/// # Errors
/// The kernel's.
pub fn host() -> Result<File> {
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
    contender::quietly("ip", &["link", "set", "lo", "up"])?;
    File::open("/proc/self/ns/net").context("open the network namespace")
}

fn measure(contender: &Contender, samples: &mut Samples, counted: bool) -> Result<()> {
    let container = Container::new(1, 8080, 2)?;
    contender.prepare(&container)?;
    let processor = children_time()?;
    let start = Instant::now();
    contender.up(&container)?;
    let up = start.elapsed();
    let middle = Instant::now();
    contender.down(&container)?;
    let down = middle.elapsed();
    reap_the_rest();
    let processor = children_time()? - processor;
    contender.tidy(&container)?;
    reap_the_rest();
    if counted {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        samples.up.push(ms(up));
        samples.down.push(ms(down));
        samples.both.push(ms(up + down));
        samples.processor.push(processor);
    }
    Ok(())
}

/// User and system time of all reaped children, in milliseconds.
fn children_time() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?).as_secs_f64() * 1000.0)
}

/// Reaps what was left behind, for a while: a name server of other containers stays.
pub fn reap_the_rest() {
    let end = Instant::now() + AFTERWARDS;
    while Instant::now() < end {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(1)),
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

fn print(flags: &Bench, rows: &[(File, Contender, Samples)]) -> Result<()> {
    let mut out = io::stdout().lock();
    if flags.json {
        let all: Vec<_> = rows
            .iter()
            .map(|(_, contender, all)| {
                json!({"name": contender.name(), "up": all.up, "down": all.down, "processor": all.processor})
            })
            .collect();
        return writeln!(out, "{}", json!({"attached": flags.attached, "ms": all})).context("print");
    }
    let (runs, attached) = (flags.runs, flags.attached);
    writeln!(
        out,
        "median ms; processor time includes what is done after the answer; {runs} rounds, {attached} others attached"
    )?;
    let ratios: Vec<&str> = rows
        .iter()
        .map(|(_, contender, _)| contender.name())
        .filter(|name| !name.starts_with("netctl"))
        .collect();
    write!(out, "{:20}{:>8}{:>8}{:>8}{:>8}", "", "up", "down", "both", "cpu")?;
    for name in &ratios {
        write!(out, "{:>18}", format!("/{name}"))?;
    }
    writeln!(out)?;
    for (_, contender, all) in rows {
        write!(out, "{:20}", contender.name())?;
        for column in [&all.up, &all.down, &all.both, &all.processor] {
            write!(out, "{:>8.2}", median(column))?;
        }
        for name in &ratios {
            let other =
                rows.iter().find(|(_, other, _)| other.name() == *name).map(|(_, _, all)| median(&all.both));
            write!(out, "{:>18.3}", median(&all.both) / other.unwrap_or(f64::NAN))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The middle one.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
