//! What remote logs tell about a container beside its lines.

use anyhow::Result;
use contracts::container::Container;

use crate::log::attributes;

/// The container, as receivers see it.
pub struct Source {
    pub id: String,
    /// Without docker's slash.
    pub name: String,
    pub image: String,
    pub image_id: String,
    pub command: String,
    pub created: String,
    pub tag: String,
    /// Labels and variables that the user asked for.
    pub extra: Vec<(String, String)>,
    /// This machine.
    pub host: String,
}

impl Source {
    /// Of a record.
    pub fn of(record: &Container) -> Result<Self> {
        let template = record.host_config.log_config.config.get("tag");
        let words = record.config.entrypoint.iter().flatten().chain(record.config.cmd.iter().flatten());
        let command: Vec<&str> = words.map(String::as_str).collect();
        Ok(Self {
            id: record.id.clone(),
            name: record.name.clone(),
            image: record.config.image.clone(),
            image_id: record.image_id.clone(),
            command: command.join(" "),
            created: record.created.clone(),
            tag: attributes::tag(record, template.map_or("{{.ID}}", String::as_str))?,
            extra: attributes::chosen(record)?,
            host: nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned(),
        })
    }

    /// The first twelve digits of the id.
    pub fn short(&self) -> &str {
        crate::container::short(&self.id)
    }
}

/// 64 hexadecimal digits.
pub fn random_id() -> String {
    crate::container::names::new_id().unwrap_or_else(|_| format!("{:064x}", std::process::id()))
}
