//! Engines side by side: a container of an image runs and goes, network included; a command runs in one that is there; and what
//! each engine keeps beside a container in which nothing happens. Each has a host (a network namespace) of its own.

mod engine;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns};
use serde_json::json;

use super::net::{self, median};
use super::{SHARES, order};
use crate::check::{self, Work};
use crate::cli::{Bench, View};
use crate::{kernel, view};
use engine::{Engine, Kind};

/// After so long a supervisor has nothing left to tidy up.
const SETTLED: Duration = Duration::from_secs(4);
/// How long wake-ups are counted.
const WATCHED: Duration = Duration::from_secs(10);

/// What was measured of one engine.
#[derive(Debug, Default)]
struct Samples {
    /// Milliseconds.
    run: Vec<f64>,
    exec: Vec<f64>,
    /// Milliseconds of processor time in all rounds, the engine's daemons included.
    run_processor: f64,
    exec_processor: f64,
    resting: Option<Resting>,
}

/// The process that looks after a container in which nothing happens.
#[derive(Debug)]
struct Resting {
    name: String,
    /// Proportional set size, KiB.
    pss: u64,
    /// What of it is in nobody else's, KiB.
    own: u64,
    wakeups: u64,
}

/// Measures; true when every engine could be measured.
///
/// # Errors
/// Nothing could be set up.
pub fn run(flags: &Bench) -> Result<bool> {
    // podman runs crun.
    let refused = check::find(Path::new("podman")).is_ok() && view::is_refused_by("crun");
    match flags.view.first() {
        None | Some(View::Auto) if refused => view::inside(View::V1only, Some(SHARES), || here(flags)),
        None | Some(View::Auto | View::Host) => here(flags),
        Some(view) => view::inside(*view, Some(SHARES), || here(flags)),
    }
}

fn here(flags: &Bench) -> Result<bool> {
    kernel::become_subreaper()?;
    let work = Work::in_memory(&flags.work)?;
    net::private_places(&work.dir)?;
    let mut rows = Vec::new();
    let mut good = true;
    for kind in Kind::all(flags) {
        let host = net::host()?;
        match Engine::prepare(kind, &work.dir) {
            Ok(engine) => rows.push((host, engine, Samples::default())),
            Err(err) => {
                writeln!(io::stderr(), "conformance: not measured: {}: {err:#}", kind.name())?;
                good = false;
            }
        }
    }
    ensure!(!rows.is_empty(), "nothing to measure: say where shim is (--tools DIR)");
    rounds(flags, &mut rows, |engine, samples, counted| {
        let (took, processor) = engine.timed(&engine.words(&["run", "--rm", engine::IMAGE, "/true"]))?;
        if counted {
            samples.run.push(took);
            samples.run_processor += processor;
        }
        Ok(())
    })?;
    for (host, engine, _) in &rows {
        enter(host)?;
        engine.timed(&engine.words(&["run", "-d", "--name", "resting", engine::IMAGE, "/pause"]))?;
    }
    rounds(flags, &mut rows, |engine, samples, counted| {
        let (took, processor) = engine.timed(&engine.words(&["exec", "resting", "/true"]))?;
        if counted {
            samples.exec.push(took);
            samples.exec_processor += processor;
        }
        Ok(())
    })?;
    look_at_rest(&mut rows)?;
    for (host, engine, _) in &rows {
        enter(host)?;
        engine.timed(&engine.words(&["rm", "-f", "resting"]))?;
    }
    print(flags, &rows)?;
    Ok(good)
}

type Row = (File, Engine, Samples);

/// All in each round, in an order of its own; the first one fills caches and is not counted.
fn rounds(
    flags: &Bench,
    rows: &mut [Row],
    mut measure: impl FnMut(&Engine, &mut Samples, bool) -> Result<()>,
) -> Result<()> {
    for round in 0..=flags.runs {
        for at in order(round, rows.len()) {
            let (host, engine, samples) = &mut rows[at];
            enter(host)?;
            sleep(Duration::from_millis(flags.idle));
            measure(engine, samples, round > 0).with_context(|| engine.name().to_owned())?;
        }
    }
    Ok(())
}

fn enter(host: &File) -> Result<()> {
    setns(host, CloneFlags::CLONE_NEWNET).context("enter an engine's host")
}

/// Memory and wake-ups of what looks after each engine's container, all in the same moments.
fn look_at_rest(rows: &mut [Row]) -> Result<()> {
    let mut pids = Vec::new();
    for (host, engine, _) in rows.iter() {
        enter(host)?;
        let payload = engine.said(&["inspect", "-f", "{{.State.Pid}}", "resting"])?;
        pids.push(parent(payload.trim())?);
    }
    sleep(SETTLED);
    let before: Vec<u64> = pids.iter().map(|pid| switches(pid)).collect::<Result<_>>()?;
    sleep(WATCHED);
    for (((_, _, samples), pid), before) in rows.iter_mut().zip(&pids).zip(before) {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"))?.trim().to_owned();
        let wakeups = switches(pid)?.saturating_sub(before);
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let own = field(&rollup, "Private_Clean:") + field(&rollup, "Private_Dirty:");
        samples.resting = Some(Resting { name, pss: field(&rollup, "Pss:"), own, wakeups });
    }
    Ok(())
}

fn parent(pid: &str) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("look at the payload {pid}"))?;
    Ok(field(&status, "PPid:").to_string())
}

/// How often the threads of a process were given a processor.
fn switches(pid: &str) -> Result<u64> {
    let mut all = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("look at {pid}"))? {
        let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        all += field(&status, "voluntary_ctxt_switches:") + field(&status, "nonvoluntary_ctxt_switches:");
    }
    Ok(all)
}

/// The number behind a word at the beginning of a line; 0 where there is none.
fn field(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn print(flags: &Bench, rows: &[Row]) -> Result<()> {
    let mut out = io::stdout().lock();
    if flags.json {
        let all: Vec<_> = rows
            .iter()
            .map(|(_, engine, all)| {
                let resting = all.resting.as_ref().map(|rest| {
                    json!({"process": rest.name, "pss_kib": rest.pss, "private_kib": rest.own, "wakeups": rest.wakeups})
                });
                json!({"name": engine.name(), "run_ms": all.run, "run_processor_ms": all.run_processor,
                    "exec_ms": all.exec, "exec_processor_ms": all.exec_processor, "resting": resting})
            })
            .collect();
        return writeln!(out, "{}", json!({"runs": flags.runs, "engines": all})).context("print");
    }
    writeln!(
        out,
        "median ms, and ratio of ours to it; mean processor ms with daemons; {} rounds",
        flags.runs
    )?;
    writeln!(out, "{:10}{:>16}{:>10}{:>16}{:>10}", "", "run --rm", "cpu", "exec", "cpu")?;
    let ours = rows.first().map(|(_, _, all)| (median(&all.run), median(&all.exec)));
    for (_, engine, all) in rows {
        let (run, exec) = (median(&all.run), median(&all.exec));
        let (of_run, of_exec) =
            ours.map_or((f64::NAN, f64::NAN), |(first, second)| (first / run, second / exec));
        let mean = |sum: f64| sum / f64::from(flags.runs.max(1));
        writeln!(
            out,
            "{:10}{run:>10.1}{of_run:>6.3}{:>10.1}{exec:>10.1}{of_exec:>6.3}{:>10.1}",
            engine.name(),
            mean(all.run_processor),
            mean(all.exec_processor)
        )?;
    }
    writeln!(out, "beside a container in which nothing happens (wake-ups in {} s):", WATCHED.as_secs())?;
    writeln!(out, "{:26}{:>10}{:>14}{:>10}", "", "PSS KiB", "private KiB", "wake-ups")?;
    for (_, engine, all) in rows {
        let Some(rest) = &all.resting else { continue };
        let name = format!("{} ({})", engine.name(), rest.name);
        writeln!(out, "{name:26}{:>10}{:>14}{:>10}", rest.pss, rest.own, rest.wakeups)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_of_proc() {
        let text = "Name:\tx\nPPid:\t12\nPss:   \t  34 kB\n";
        assert_eq!((field(text, "PPid:"), field(text, "Pss:"), field(text, "None:")), (12, 34, 0));
    }
}
