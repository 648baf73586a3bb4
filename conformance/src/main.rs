//! Black-box checks and benchmarks for container tools: any runtime, by its path.
//!
//! - Owns on disk: a directory `conformance-PID` under `--work`, and cgroups `conformance-PID`; both gone at the end, whatever
//!   ends it.
//! - Executes: the tools under test, and inside their containers itself as `/probe`.
//! - Exit codes: 0 all passed, 1 a case failed or a tool could not be measured, 2 wrong usage, 128 and a signal's number.

mod bench;
mod bundle;
mod case;
mod cases;
mod check;
mod cli;
mod guard;
mod kernel;
mod known;
mod machine;
mod output;
mod probe;
mod rig;
mod tool;
mod view;

use std::env;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

fn main() -> ExitCode {
    // The hidden verbs come before everything else: they are timed, or run where nothing works.
    let args: Vec<String> = env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let called = args.first().and_then(|name| Path::new(name).file_name()).unwrap_or_default();
    match (called.to_str(), args.get(1).map(String::as_str)) {
        (_, Some("probe")) => return probe::run(&args[2..]),
        (_, Some("rss")) => return bench::measure::rss(&args[2..]),
        (_, Some("floor")) => return bench::floor::run(&args[2..]),
        (_, Some("bound")) => return bench::bound::run(&args[2..]),
        (Some("probe"), _) => return probe::run(args.get(1..).unwrap_or_default()),
        _ => {}
    }
    let cli = cli::Cli::parse();
    let (dir, makes_something) = match &cli.command {
        None => (&cli.check.work, !cli.check.list),
        Some(cli::Command::Bench(flags)) => (&flags.work, true),
    };
    let work = || match &cli.command {
        None => verdict(check::run(&cli.check)),
        Some(cli::Command::Bench(flags)) => verdict(bench::run(flags)),
    };
    if !makes_something || !nix::unistd::geteuid().is_root() {
        return work().into();
    }
    guard::run(dir, work).unwrap_or_else(|err| verdict(Err(err))).into()
}

fn verdict(result: Result<bool>) -> u8 {
    match result {
        Ok(good) => u8::from(!good),
        Err(err) => {
            let _ = writeln!(io::stderr(), "conformance: {err:#}");
            1
        }
    }
}
