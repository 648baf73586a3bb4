//! Images timed side by side: fetched from a registry on loopback, unpacked, built, saved and loaded by imgtool and by the
//! tools that users have for it. Everything is in memory, each command begins with nothing of its own.

mod contender;
mod material;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MntFlags, umount2};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde_json::json;

use super::net::median;
use super::order;
use crate::check::{self, Work};
use crate::cli::Bench;
use crate::kernel;
use contender::{Contender, Task};
use material::Material;

/// One row of one contender: milliseconds, milliseconds, MiB.
#[derive(Debug, Default)]
struct Samples {
    wall: Vec<f64>,
    processor: Vec<f64>,
    memory: Vec<f64>,
}

/// Something to time, and what it gave.
struct Row {
    contender: &'static str,
    task: Task,
    samples: Samples,
    failed: bool,
}

/// Measures; true when nothing failed.
///
/// # Errors
/// Nothing could be set up.
pub fn run(flags: &Bench) -> Result<bool> {
    let tools = flags.tools.as_deref().context("say where imgtool is: --tools DIR")?;
    let imgtool = check::find(&tools.join("imgtool"))?;
    kernel::become_subreaper()?;
    let work = Work::in_memory(&flags.work)?;
    let material = Material::make(&imgtool, flags.image.as_deref(), &work.dir)?;
    if material.registry.is_none() {
        writeln!(io::stderr(), "conformance: not measured: pulls: no docker-registry in PATH")?;
    }
    let mut rows = Vec::new();
    for contender in Contender::all(&imgtool) {
        for task in contender.tasks {
            let chosen = flags.filter.is_empty() || flags.filter.iter().any(|text| task.row.contains(text));
            if chosen && (material.registry.is_some() || !task.row.contains("pull")) {
                let samples = Samples::default();
                rows.push(Row { contender: contender.name, task, samples, failed: false });
            }
        }
    }
    ensure!(!rows.is_empty(), "no row is chosen");
    // One row after the other, so that those who are compared come close in time.
    let mut names: Vec<&str> = Vec::new();
    for row in &rows {
        if !names.contains(&row.task.row) {
            names.push(row.task.row);
        }
    }
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    for round in 0..flags.runs {
        for name in &names {
            let at: Vec<usize> = (0..rows.len()).filter(|&at| rows[at].task.row == name).collect();
            for turn in order(round, at.len()) {
                let row = &mut rows[at[turn]];
                if row.failed {
                    continue;
                }
                // The first round fills caches and is not counted.
                let counted = round > 0 || flags.runs == 1;
                if let Err(err) = measure(row, &material, &work.dir.join("round"), counted) {
                    writeln!(io::stderr(), "conformance: {}: {}: {err:#}", row.contender, row.task.row)?;
                    row.failed = true;
                }
            }
        }
    }
    print(flags, &names, &rows)?;
    Ok(rows.iter().all(|row| !row.failed))
}

fn measure(row: &mut Row, material: &Material, dir: &Path, counted: bool) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let outcome = (|| {
        if !row.task.before.is_empty() {
            script(&row.task.before, material, dir)?;
        }
        let processor = children_time()?;
        let start = Instant::now();
        let memory = script(&row.task.timed, material, dir)?;
        let wall = start.elapsed();
        if counted {
            row.samples.wall.push(wall.as_secs_f64() * 1000.0);
            row.samples.processor.push(children_time()? - processor);
            row.samples.memory.push(f64::from(i32::try_from(memory)?) / 1024.0);
        }
        Ok(())
    })();
    clear(dir)?;
    outcome
}

/// Runs a script in `dir`; the peak resident set of its largest process in KiB.
fn script(text: &str, material: &Material, dir: &Path) -> Result<i64> {
    let log = dir.join("stderr");
    let mut command = Command::new("sh");
    command.args(["-euc", text]).current_dir(dir).envs(material.environment());
    command.env("BULKHEAD_STORE", dir.join("store")).env("BULKHEAD_STATE", dir.join("state"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
    let child = command.spawn().context("start sh")?;
    let ended = kernel::reap(i32::try_from(child.id())?)?;
    if ended.code != 0 {
        let said = fs::read_to_string(log).unwrap_or_default();
        bail!("exit code {}: {}: {}", ended.code, text, said.lines().last().unwrap_or_default());
    }
    Ok(ended.peak_rss)
}

/// User and system time of all reaped children, in milliseconds.
fn children_time() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(std::time::Duration::from_micros(u64::try_from(micros)?).as_secs_f64() * 1000.0)
}

/// Unmounts what is mounted below `dir` and removes it.
fn clear(dir: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
    let mut below: Vec<&Path> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(Path::new)
        .filter(|mount| mount.starts_with(dir))
        .collect();
    below.sort_unstable();
    for mount in below.iter().rev() {
        umount2(*mount, MntFlags::MNT_DETACH).with_context(|| format!("unmount {}", mount.display()))?;
    }
    fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))
}

fn print(flags: &Bench, names: &[String], rows: &[Row]) -> Result<()> {
    let mut out = io::stdout().lock();
    if flags.json {
        let all: Vec<_> = rows
            .iter()
            .map(|row| {
                let Samples { wall, processor, memory } = &row.samples;
                json!({"row": row.task.row, "name": row.contender, "ms": wall, "processor": processor, "mib": memory})
            })
            .collect();
        return writeln!(out, "{}", json!({"runs": flags.runs, "images": all})).context("print");
    }
    let heads = ["ms", "cpu ms", "peak MiB", "ours / it", "cpu"];
    write!(out, "medians of {} rounds\n{:13}{:14}", flags.runs.max(2) - 1, "", "")?;
    for head in heads {
        write!(out, "{head:>11}")?;
    }
    writeln!(out)?;
    for name in names {
        let of = |row: &&Row| row.task.row == name && !row.samples.wall.is_empty();
        let first = rows.iter().find(|row| of(row) && row.contender == "imgtool");
        for row in rows.iter().filter(of) {
            let Samples { wall, processor, memory } = &row.samples;
            write!(out, "{name:13}{:14}", row.contender)?;
            write!(out, "{:>11.1}{:>11.1}{:>11.1}", median(wall), median(processor), median(memory))?;
            if let Some(first) = first {
                let ratio = |ours: &[f64], its: &[f64]| median(ours) / median(its);
                write!(out, "{:>11.3}", ratio(&first.samples.wall, wall))?;
                write!(out, "{:>11.3}", ratio(&first.samples.processor, processor))?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}
