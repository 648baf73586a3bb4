//! `imgtool`: pull, push, build, inspect and unpack container images.
//!
//! Owns `STORE/images` (a standard OCI image layout), `STORE/layers` and `STORE/bundles`. Executes `runtime` for the
//! RUN steps of a build and credential helpers for registries, nothing else. Exit codes: `docs/exit-codes.md`.

mod build;
mod bundle;
mod cli;
mod cmd;
mod dispatch;
mod layer;
mod obtain;
mod place;
mod reference;
mod registry;
mod rootfs;
mod rootless;
mod stdout;
mod store;
mod transfer;

use std::process::ExitCode;

use clap::Parser as _;

// Most commands live for a few milliseconds: `sys::heap` says what musl's heap costs them.
#[global_allocator]
static HEAP: sys::heap::Heap<{ 4 << 10 }> = sys::heap::Heap::new();

fn main() -> ExitCode {
    #[cfg(feature = "self-doc")]
    if let Some(result) = contracts::self_doc::asked::<cli::Cli>("imgtool") {
        return contracts::report::finish("imgtool", result);
    }
    let cli = cli::Cli::parse();
    contracts::report::finish("imgtool", dispatch::run(cli.command))
}
