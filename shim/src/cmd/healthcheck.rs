//! `shim healthcheck run`

use anyhow::Result;
use contracts::container::State;
use contracts::exit::Exit;
use contracts::fault;

use crate::cli::HealthcheckVerb;
use crate::container::{Store, status};
use crate::spec;
use crate::tools;

/// Runs the check once; 0 healthy, 1 unhealthy.
pub fn run(store: &Store, verb: &HealthcheckVerb) -> Result<Exit> {
    let HealthcheckVerb::Run(name) = verb;
    let id = store.resolve(&name.container)?;
    let record = store.load(&id)?;
    let check = record.config.healthcheck.as_ref().map(|check| check.test.as_slice()).unwrap_or_default();
    let args = match check.split_first() {
        Some((word, rest)) if word == "CMD" => rest.to_vec(),
        Some((word, rest)) if word == "CMD-SHELL" => {
            let mut shell =
                record.config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
            shell.extend(rest.iter().cloned());
            shell
        }
        _ => fault!(WrongState, "container {id} has no defined healthcheck"),
    };
    if status::read(store, &id)?.state != State::Running {
        fault!(WrongState, "container {id} is not running");
    }
    let process = spec::exec::process(&spec::read(&store.bundle(&id))?, &args);
    let path = store.live(&id).join(format!("health.{}.json", std::process::id()));
    contracts::atomic::write_json_volatile(&path, &process, 0o600)?;
    let done = tools::run(tools::runtime(store, &record).arg("exec").arg("--process").arg(&path).arg(&id));
    let _ = std::fs::remove_file(&path);
    Ok(if done.is_ok() { Exit::Ok } else { Exit::Failed })
}
