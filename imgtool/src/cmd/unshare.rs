//! `imgtool unshare [COMMAND...]`: a command in the user's own namespaces, where bundles are mounted.

use std::env;
use std::ffi::OsString;

use anyhow::Result;
use contracts::exit::Exit;

use crate::rootless;

/// Flags of `unshare`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "For ordinary users. Inside, the user is root and owns the ids that /etc/subuid and /etc/subgid give; what \
                  `bundle` and `mount` mount is seen there and goes with the last process.\n\
                  Example: imgtool unshare sh -c 'imgtool bundle web b && runtime run --bundle b c1'"
)]
pub struct Args {
    /// What to run [default: $SHELL]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// # Errors
/// The machine gives no user namespaces; the command cannot be executed.
pub fn run(args: &Args) -> Result<Exit> {
    let shell = || env::var_os("SHELL").filter(|path| !path.is_empty()).unwrap_or_else(|| "/bin/sh".into());
    let mut words = args.command.iter().cloned();
    let program = words.next().unwrap_or_else(shell);
    rootless::execute(&program, words.collect())?;
    Ok(Exit::Ok)
}
