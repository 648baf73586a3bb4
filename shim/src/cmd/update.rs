//! `shim update`

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use contracts::container::State;

use crate::attach::client;
use crate::attach::wire::Request;
use crate::cli::UpdateFlags;
use crate::container::{Store, status};
use crate::request::{self, env, health, resources as flags_resources};
use crate::spec::{self, resources};
use crate::{events, tools};

pub fn run(store: &Store, name: &str, flags: &UpdateFlags) -> Result<Option<String>> {
    let id = store.resolve(name)?;
    let lock = store.lock(&id)?;
    let mut record = store.load(&id)?;
    let before = resources::of(&record.host_config)?;
    flags_resources::apply(&flags.resources, &mut record.host_config)
        .with_context(|| format!("Cannot update container {id}"))?;
    if let Some(warning) = request::weight_warning(&mut record) {
        let _ = writeln!(std::io::stderr(), "WARNING: {warning}");
    }
    if let Some(policy) = &flags.restart {
        if record.host_config.auto_remove && policy != "no" {
            bail!("Restart policy cannot be updated because AutoRemove is enabled for the container");
        }
        record.host_config.restart_policy = health::restart_policy(policy)?;
    }
    health::change(&flags.health, &mut record).with_context(|| format!("Cannot update container {id}"))?;
    let after = resources::of(&record.host_config)?;
    let env = env::collect(&[], &flags.env)?;
    let status = status::read_locked(store, &id, &lock)?;
    if before != after && matches!(status.state, State::Initialized | State::Running | State::Paused) {
        apply(store, &record, &after)?;
    }
    if before != after || !env.is_empty() || !flags.unsetenv.is_empty() {
        // For the next start.
        let bundle = store.bundle(&id);
        let mut config = spec::read(&bundle)?;
        spec::set_resources(&mut config, after);
        let kept = |known: &String| !flags.unsetenv.iter().any(|name| known.split('=').next() == Some(name));
        record.config.env = env::merge(&record.config.env, &env).into_iter().filter(kept).collect();
        spec::process::change_environment(&mut config, |now| {
            env::merge(now, &env).into_iter().filter(kept).collect()
        });
        contracts::atomic::write_json(&bundle.join("config.json"), &config, 0o600)?;
    }
    store.save(&record)?;
    if status.state.is_live() {
        client::request(store, &id, &Request::Reload)?;
    }
    events::container(store, &record, "update", &[]);
    Ok(Some(name.to_owned()))
}

fn apply(store: &Store, record: &contracts::container::Container, limits: &serde_json::Value) -> Result<()> {
    let mut command = tools::runtime(store, record);
    command.args(["update", "--resources", "-", &record.id]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("execute the runtime")?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(&serde_json::to_vec(limits)?);
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("Cannot update container {}: {}", record.id, said.trim());
    }
    Ok(())
}
