//! `shim boot`: after a start of the machine, the containers whose policy asks for it.

use anyhow::Result;
use contracts::exit::Exit;

use crate::container::{Store, start, status};

pub fn run(store: &Store) -> Result<Exit> {
    let mut names = Vec::new();
    for id in store.ids()? {
        let Ok(record) = store.load(&id) else { continue };
        let policy = record.host_config.restart_policy.name.as_str();
        // Looking also clears away what the reboot left.
        let status = status::read(store, &id)?;
        let wanted = match policy {
            "always" => !status.started_at.is_empty(),
            "unless-stopped" => !status.started_at.is_empty() && !status.manually_stopped,
            // It was running when the machine went down.
            "on-failure" => status.exit_code == 255 && !status.manually_stopped,
            _ => false,
        };
        if wanted && !status.state.is_live() {
            names.push((record.created, id, record.name));
        }
    }
    names.sort();
    let ids: Vec<String> = names.iter().map(|(_, id, _)| id.clone()).collect();
    super::each(&ids, |id| {
        start::again(store, id, None)?;
        Ok(names.iter().find(|(_, known, _)| known == id).map(|(_, _, name)| name.clone()))
    })
}
