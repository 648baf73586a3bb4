//! `netctl dns-server`: what `up` starts.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::paths::Paths;

use super::print;
use crate::dns::{server::Server, start::OK};

/// Answers names until no network is left. The first line on stdout says whether it listens.
///
/// # Errors
/// An address is taken.
pub fn run() -> Result<Exit> {
    // Not ended with the terminal or the job of whoever was first to need it.
    let _ = nix::unistd::setsid();
    let server = match Server::new(Paths::from_env().net()) {
        Ok(server) => server,
        Err(err) => {
            print(&format!("{}\n", contracts::report::one_line(&err)))?;
            return Err(err);
        }
    };
    print(&format!("{OK}\n"))?;
    let null = std::fs::File::options().write(true).open("/dev/null").context("open /dev/null")?;
    sys::clone::place_fd(null.as_fd(), 1).context("close stdout")?;
    server.run()?;
    Ok(Exit::Ok)
}
