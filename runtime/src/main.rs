//! An OCI container runtime with the command line of runc.

mod cgroup;
mod cli;
mod seccomp;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let _cli = cli::Cli::parse();
    ExitCode::FAILURE
}
