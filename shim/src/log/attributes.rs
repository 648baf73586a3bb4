//! What the user asked to keep with each line: the tag, labels and variables.

use anyhow::{Context as _, Result};
use contracts::container::{Container, LogConfig};
use contracts::fault;
use regex_lite::Regex;

/// Refuses an expression that is none.
pub fn check(config: &LogConfig) -> Result<()> {
    for key in ["labels-regex", "env-regex"] {
        expression(config, key)?;
    }
    Ok(())
}

fn expression(config: &LogConfig, key: &str) -> Result<Option<Regex>> {
    let Some(text) = config.config.get(key).filter(|text| !text.is_empty()) else { return Ok(None) };
    match Regex::new(text) {
        Ok(expression) => Ok(Some(expression)),
        Err(err) => fault!(Usage, "log-opt {key}: {err}"),
    }
}

/// The labels and variables that `labels`, `env` and their `-regex` choose.
pub fn chosen(record: &Container) -> Result<Vec<(String, String)>> {
    let config = &record.host_config.log_config;
    let names = |key: &str| -> Vec<String> {
        let list = config.config.get(key).map(String::as_str).unwrap_or_default();
        list.split(',').map(|name| name.trim().to_owned()).collect()
    };
    let wanted = |kind: &str| -> Result<_> {
        let (names, expression) = (names(kind), expression(config, &format!("{kind}-regex"))?);
        Ok(move |name: &str| {
            names.iter().any(|known| known == name) || expression.as_ref().is_some_and(|e| e.is_match(name))
        })
    };
    let (labels, env) = (wanted("labels")?, wanted("env")?);
    let labels = record.config.labels.iter().filter(|(name, _)| labels(name));
    let mut chosen: Vec<_> = labels.map(|(name, value)| (name.clone(), value.clone())).collect();
    let variables = record.config.env.iter().filter_map(|entry| entry.split_once('='));
    chosen.extend(
        variables.filter(|(name, _)| env(name)).map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    Ok(chosen)
}

/// [`chosen`], and the tag where there is one.
pub fn of(record: &Container) -> Result<Vec<(String, String)>> {
    let mut attributes = chosen(record)?;
    if let Some(template) = record.host_config.log_config.config.get("tag") {
        attributes.push(("tag".into(), tag(record, template)?));
    }
    Ok(attributes)
}

/// A tag template: `{{.Name}}/{{.ID}}`.
pub fn tag(record: &Container, template: &str) -> Result<String> {
    let image_id = record.image_id.trim_start_matches("sha256:");
    let value = serde_json::json!({
        "ID": crate::container::short(&record.id), "FullID": record.id, "Name": record.name,
        "ImageName": record.config.image, "ImageID": image_id.get(..12).unwrap_or(image_id),
        "ImageFullID": record.image_id, "DaemonName": "bulkhead",
    });
    contracts::output::template::render(template, &value)
        .with_context(|| format!("log-opt tag={template}: not a template of a container"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_expressions_choose() {
        let mut record = Container::default();
        record.config.labels =
            [("a.one", "1"), ("b", "2"), ("c", "3")].map(|(k, v)| (k.into(), v.into())).into();
        record.config.env = vec!["PATH=/bin".into(), "APP_X=x".into(), "Z=z".into()];
        let options = [("labels", "b"), ("labels-regex", "^a\\."), ("env-regex", "^APP_"), ("env", "Z")];
        record.host_config.log_config.config = options.map(|(k, v)| (k.into(), v.into())).into();
        let chosen = chosen(&record).unwrap();
        let names: Vec<&str> = chosen.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a.one", "b", "APP_X", "Z"]);
        assert!(tag(&record, "{{.Bogus").is_err());
    }
}
