//! An OCI container runtime with the command line of runc.
//!
//! On disk it owns `ROOT/<id>/` (see `container`) and the container's cgroups; it executes hooks, and
//! newuidmap/newgidmap where it has no privileges. Exit codes: docs/exit-codes.md; `run` and `exec` end with the
//! program's own code, or 125 to 127 where it could not be started.
#![cfg_attr(not(test), no_main)]

mod cgroup;
mod cli;
mod cmd;
mod console;
mod container;
mod criu;
mod hooks;
mod init;
mod intel_rdt;
mod lifecycle;
mod log;
mod namespace;
mod own_exe;
mod rootfs;
mod seccomp;
mod security;
mod spec;

use anyhow::Result;
use contracts::exit::Exit;
use contracts::report;

use cli::{Cli, LogLevel, Verb};

// Tests have threads, and some of them copy the process while another thread may hold the heap's lock.
#[cfg(not(test))]
#[global_allocator]
static HEAP: sys::heap::Heap<{ 64 << 10 }, { 16 << 10 }> = sys::heap::Heap::new();

#[cfg(not(test))]
sys::main!(run);

#[cfg_attr(test, allow(dead_code, reason = "tests have a `main` of their own"))]
fn run() -> u8 {
    #[cfg(feature = "self-doc")]
    if let Some(result) = contracts::self_doc::asked::<cli::Cli>("runtime") {
        return report::settle("runtime", result).code();
    }
    own_exe::protect_early();
    let cli = cli::parse();
    let result = prepare(&cli).and_then(|()| dispatch(&cli));
    if let Err(err) = &result {
        log::error(&report::one_line(err));
    }
    let exit = match cli.verb {
        Verb::Run(_) | Verb::Exec(_) | Verb::Restore(_) => report::settle_payload("runtime", result),
        _ => report::settle("runtime", result),
    };
    exit.code()
}

fn prepare(cli: &Cli) -> Result<()> {
    let level = if cli.global.debug { LogLevel::Debug } else { cli.global.log_level };
    log::open(cli.global.log.as_deref(), cli.global.log_format, level)?;
    if let Some(path) = &cli.global.criu {
        log::warn(&format!("--criu {}: ignored, criu is looked for in $PATH", path.display()));
    }
    log::debug(format_args!("runtime {}, process {}", env!("CARGO_PKG_VERSION"), std::process::id()));
    Ok(())
}

fn dispatch(cli: &Cli) -> Result<Exit> {
    let context = cmd::Context::new(&cli.global);
    match &cli.verb {
        Verb::Create(flags) => cmd::create::run(&context, flags),
        Verb::Start(flags) => cmd::start::run(&context, flags),
        Verb::Run(flags) => cmd::run::run(&context, flags),
        Verb::Exec(flags) => cmd::exec::run(&context, flags),
        Verb::State(flags) => cmd::state::run(&context, flags),
        Verb::List(flags) => cmd::list::run(&context, flags),
        Verb::Kill(flags) => cmd::kill::run(&context, flags),
        Verb::Checkpoint(flags) => cmd::checkpoint::run(&context, flags),
        Verb::Restore(flags) => cmd::restore::run(&context, flags),
        Verb::Delete(flags) => cmd::delete::run(&context, flags),
        Verb::Mounts(flags) => cmd::mounts::run(&context, flags),
        Verb::Pause(flags) => cmd::pause::run(&context, flags),
        Verb::Resume(flags) => cmd::resume::run(&context, flags),
        Verb::Ps(flags) => cmd::ps::run(&context, flags),
        Verb::Events(flags) => cmd::events::run(&context, flags),
        Verb::Update(flags) => cmd::update::run(&context, flags),
        Verb::Features => cmd::features::run(),
        Verb::Spec(flags) => cmd::spec::run(flags),
    }
}
