//! Timing runtimes side by side: each round measures every command of every contender once, in an order of its own, so
//! that whatever else the machine does hits all alike. Only ratios within one run mean anything.

pub mod bound;
mod config;
mod engines;
pub mod floor;
mod images;
mod logs;
pub mod measure;
mod names;
mod net;
mod table;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::check::{self, Work};
use crate::cli::{Bench, View};
use crate::kernel;
use crate::machine::Machine;
use crate::view;
use measure::Contender;
use table::Results;

/// A timing run outweighs its neighbours' load in the views that have a CPU controller.
const SHARES: u32 = 10_240;

/// Measures; true when every contender could be measured.
///
/// # Errors
/// Nothing could be set up.
pub fn run(flags: &Bench) -> Result<bool> {
    ensure!(nix::unistd::geteuid().is_root(), "this needs root");
    if flags.net {
        return net::run(flags);
    }
    if let Some(mib) = flags.logs {
        return logs::run(flags, mib);
    }
    if flags.images {
        return images::run(flags);
    }
    if flags.engines {
        return engines::run(flags);
    }
    if let Some(count) = flags.names {
        return names::run(flags, count);
    }
    let view = match flags.view.as_slice() {
        [] => View::Auto,
        [view] => *view,
        views => return each_view(views),
    };
    let peers = peers(flags)?;
    let refused = peers.iter().any(|(name, _)| view::is_refused_by(name));
    let view = if view == View::Auto && refused { View::V1only } else { view };
    match view {
        View::Host | View::Auto => here(flags, &peers, View::Host),
        view => view::inside(view, Some(SHARES), || here(flags, &peers, view)),
    }
}

/// Several views: a process for each, as one that has entered a view cannot leave it.
fn each_view(views: &[View]) -> Result<bool> {
    let mut good = true;
    for view in views {
        let mut args: Vec<std::ffi::OsString> = Vec::new();
        let mut given = std::env::args_os().skip(1);
        while let Some(arg) = given.next() {
            if arg == "--view" {
                given.next();
            } else if !arg.to_string_lossy().starts_with("--view=") {
                args.push(arg);
            }
        }
        args.extend(["--view".into(), view.name().into()]);
        good &= Command::new("/proc/self/exe").args(args).status().context("start the next view")?.success();
    }
    Ok(good)
}

/// Name and path of each runtime to measure.
fn peers(flags: &Bench) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let own = flags.runtime.clone().or_else(|| flags.tools.as_ref().map(|dir| dir.join("runtime")));
    let mut paths: Vec<PathBuf> = own.into_iter().map(|path| check::find(&path)).collect::<Result<_>>()?;
    if flags.peer.is_empty() {
        paths.extend(["runc", "crun"].iter().filter_map(|name| check::find(Path::new(name)).ok()));
    }
    for peer in &flags.peer {
        paths.push(check::find(peer)?);
    }
    for path in paths {
        let mut name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        while found.iter().any(|(taken, _)| *taken == name) {
            name.push('+');
        }
        found.push((name, path));
    }
    Ok(found)
}

/// Who comes when in a round: another order each time, and not merely turned, because the clean-up that one leaves to
/// the kernel falls on whoever comes next. The same in every run (Knuth's shuffle, driven by his MMIX generator).
fn order(round: u32, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut seed = u64::from(round);
    for last in (1..count).rev() {
        for _ in 0..4 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        }
        order.swap(last, usize::try_from(seed >> 33).unwrap_or(0) % (last + 1));
    }
    order
}

fn here(flags: &Bench, peers: &[(String, PathBuf)], view: View) -> Result<bool> {
    kernel::become_subreaper()?;
    let machine = Machine::look()?;
    let work = Work::in_memory(&flags.work)?;
    let pids = machine.lacks(crate::machine::Need::Controller("pids")).is_none();
    let mut contenders = Vec::new();
    for (name, path) in peers {
        contenders.push(Contender::runtime(name, path, &work.dir, pids)?);
    }
    contenders.push(Contender::floor(&work.probe, &work.dir)?);
    contenders.push(Contender::bound(&work.probe, &work.dir)?);
    for command in &flags.command {
        contenders.push(Contender::command(command, &work.dir)?);
    }
    let mut results = Results::new(&contenders, flags, view);
    for round in 0..flags.runs {
        for at in order(round, contenders.len()) {
            if results.has_failed(at) {
                continue;
            }
            match contenders[at].round(round, Duration::from_millis(flags.idle)) {
                // The first round fills caches: it warms up and is not counted.
                Ok(samples) if round > 0 || flags.runs == 1 => results.add(at, samples),
                Ok(_) => {}
                Err(err) => {
                    writeln!(io::stderr(), "conformance: {}: {err:#}", contenders[at].name)?;
                    results.fail(at);
                }
            }
        }
    }
    for (at, contender) in contenders.iter().enumerate() {
        if !results.has_failed(at) {
            results.sizes(at, contender.peak_rss(&work.probe)?, contender.program())?;
        }
    }
    results.print()
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn everybody_comes_once_and_after_everybody_else() {
        let mut followed = std::collections::BTreeSet::new();
        for round in 0..60 {
            let order = order(round, 5);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4]);
            followed.extend(order.windows(2).map(|pair| (pair[0], pair[1])));
        }
        assert_eq!(followed.len(), 20, "each follows each of the others at times: {followed:?}");
    }
}
