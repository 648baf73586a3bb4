//! Name servers under load: one container with many names on a bridge network, asked by datagram from the host, a fixed
//! number of questions under way at any time. Each server has a host of its own; rounds take turns.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use serde_json::json;

use super::net::contender::{Contender, Kind};
use super::net::{host, installed, median, private_places};
use crate::check::{self, Work};
use crate::cli::Bench;
use crate::kernel;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 93, 0, 1);
/// Of one round.
const QUESTIONS: usize = 20_000;
/// Under way at once, as from a few busy containers.
const WINDOW: usize = 32;
/// A datagram that has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// One value per round.
#[derive(Debug, Default)]
struct Samples {
    per_second: Vec<f64>,
    /// Milliseconds.
    middle: Vec<f64>,
    p99: Vec<f64>,
    /// Microseconds of the server's processor time per answer.
    processor: Vec<f64>,
    /// KiB after the last round.
    resident: u64,
}

/// Measures; true when all could be.
///
/// # Errors
/// A server cannot be started or does not answer.
pub fn run(flags: &Bench, names: u32) -> Result<bool> {
    ensure!((1..=20_000).contains(&names), "--names takes 1 to 20000");
    kernel::become_subreaper()?;
    let work = Work::in_memory(&flags.work)?;
    private_places(&work.dir)?;
    let mut rows = Vec::new();
    for kind in contenders(flags) {
        let contender = Contender::new(kind, &work.dir)?;
        let place = host()?;
        contender.name_one(names)?;
        let server = find_server()?;
        rows.push((place, contender, server, Samples::default()));
    }
    ensure!(!rows.is_empty(), "nothing to measure: say where netctl is (--tools DIR)");
    for round in 0..flags.runs {
        let count = rows.len();
        for turn in 0..count {
            let (place, contender, server, samples) = &mut rows[(turn + usize::try_from(round)?) % count];
            setns(&*place, CloneFlags::CLONE_NEWNET).context("enter a server's host")?;
            let counted = round > 0 || flags.runs == 1;
            load(names, *server, samples, counted).with_context(|| contender.name())?;
        }
    }
    for (place, contender, server, samples) in &mut rows {
        samples.resident = resident(*server)?;
        setns(&*place, CloneFlags::CLONE_NEWNET).context("enter a server's host")?;
        contender.forget_one()?;
    }
    print(flags, names, &rows)?;
    Ok(true)
}

fn contenders(flags: &Bench) -> Vec<Kind> {
    let netctl = flags.tools.as_ref().map(|dir| dir.join("netctl")).and_then(|path| check::find(&path).ok());
    let ours = netctl.map(|netctl| Kind::Netctl { netctl, names: true });
    // Netavark starts aardvark-dns.
    let theirs =
        installed("/usr/lib/podman/aardvark-dns").and_then(|_| installed("/usr/lib/podman/netavark"));
    let theirs = theirs.map(|program| Kind::Netavark { program, ours: false, names: true });
    ours.into_iter().chain(theirs).collect()
}

/// The process that serves names in our network namespace: the only other one here.
fn find_server() -> Result<i32> {
    let own = fs::read_link("/proc/self/ns/net").context("read the network namespace")?;
    for entry in fs::read_dir("/proc").context("list processes")? {
        let entry = entry.context("list processes")?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let theirs = fs::read_link(entry.path().join("ns/net"));
        if pid != nix::unistd::getpid().as_raw() && theirs.is_ok_and(|theirs| theirs == own) {
            return Ok(pid);
        }
    }
    bail!("no name server was started")
}

fn load(names: u32, server: i32, samples: &mut Samples, counted: bool) -> Result<()> {
    let socket = UdpSocket::bind((SERVER, 0)).context("open a socket")?;
    socket.connect((SERVER, 53)).context("connect to the name server")?;
    socket.set_read_timeout(Some(PATIENCE)).context("set a time limit")?;
    let questions: Vec<Vec<u8>> = (0..names).map(question).collect();
    let mut asked = [Instant::now(); WINDOW];
    let mut took = Vec::with_capacity(QUESTIONS);
    let before = processor(server)?;
    let start = Instant::now();
    let mut next = 0;
    let mut ask = |slot: usize| -> Result<Instant> {
        let mut message = questions[next % questions.len()].clone();
        message[..2].copy_from_slice(&u16::try_from(slot)?.to_be_bytes());
        next += 1;
        let now = Instant::now();
        socket.send(&message).context("ask")?;
        Ok(now)
    };
    for (slot, time) in asked.iter_mut().enumerate() {
        *time = ask(slot)?;
    }
    let mut reply = [0; 1500];
    while took.len() < QUESTIONS {
        let length = socket.recv(&mut reply).context("no answer")?;
        let slot = usize::from(u16::from_be_bytes([reply[0], reply[1]]));
        ensure!(length > 12 && reply[3] & 15 == 0 && reply[7] == 1, "a wrong answer");
        let time = asked.get_mut(slot).context("an answer to nothing")?;
        took.push(time.elapsed().as_secs_f64() * 1000.0);
        *time = ask(slot)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let answers = f64::from(u32::try_from(QUESTIONS)?);
    if counted {
        took.sort_by(f64::total_cmp);
        samples.per_second.push(answers / seconds);
        samples.middle.push(took[QUESTIONS / 2]);
        samples.p99.push(took[QUESTIONS * 99 / 100]);
        samples.processor.push((processor(server)? - before) * 1e6 / answers);
    }
    // The last ones are on their way still: they must not meet the next round.
    for _ in 0..WINDOW {
        let _ = socket.recv(&mut reply);
    }
    Ok(())
}

fn question(number: u32) -> Vec<u8> {
    let name = format!("name{number}");
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(u8::try_from(name.len()));
    message.extend(name.as_bytes());
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Seconds of processor time of a process and all its threads.
fn processor(pid: i32) -> Result<f64> {
    let mut total = 0_u64;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("list threads")? {
        let path = thread.context("list threads")?.path().join("schedstat");
        let text = fs::read_to_string(&path).unwrap_or_default();
        total += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(total).as_secs_f64())
}

fn resident(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read its status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().context("read its memory")
}

fn print(flags: &Bench, names: u32, rows: &[(fs::File, Contender, i32, Samples)]) -> Result<()> {
    let mut out = io::stdout().lock();
    if flags.json {
        let all: Vec<_> = rows
            .iter()
            .map(|(_, contender, _, all)| {
                json!({"name": contender.name(), "answers_per_second": all.per_second, "p50_ms": all.middle,
                       "p99_ms": all.p99, "processor_us": all.processor, "rss_kib": all.resident})
            })
            .collect();
        return writeln!(out, "{}", json!({"names": names, "servers": all})).context("print");
    }
    writeln!(
        out,
        "medians of {} rounds of {QUESTIONS} questions, {WINDOW} at a time, {names} names",
        flags.runs
    )?;
    writeln!(
        out,
        "{:18}{:>12}{:>10}{:>10}{:>16}{:>10}",
        "", "answers/s", "p50 ms", "p99 ms", "cpu us/answer", "RSS KiB"
    )?;
    for (_, contender, _, all) in rows {
        let name = if contender.name() == "netavark, names" { "aardvark-dns" } else { "netctl" };
        let (middle, p99, processor) = (median(&all.middle), median(&all.p99), median(&all.processor));
        let per_second = median(&all.per_second);
        writeln!(
            out,
            "{name:18}{per_second:>12.0}{middle:>10.3}{p99:>10.3}{processor:>16.2}{:>10}",
            all.resident
        )?;
    }
    Ok(())
}
