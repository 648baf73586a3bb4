//! `imgtool config IMAGE`: an image's config changed without touching a layer.

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;
use serde_json::{Map, Value};

use crate::build::change;
use crate::reference::Reference;
use crate::stdout;
use crate::store::config::History;

/// Flags of `config`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  imgtool config web -c 'ENV MODE=fast' -c 'CMD [\"/serve\"]'\n  \
                        imgtool config web --unset Labels.maintainer --unset Env.DEBUG --unset Healthcheck -t web:2\n\n\
                        Of an image for several platforms, this machine's is taken. imgtool inspect shows the keys.")]
pub struct Args {
    /// The image: a name, an id or the beginning of one
    image: String,
    /// An instruction: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR, …
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
    /// Take a key off the config, or one entry of it
    #[arg(long, value_name = "KEY[.ENTRY]")]
    unset: Vec<String>,
    /// Who made it
    #[arg(long)]
    author: Option<String>,
    /// When it was made, RFC 3339
    #[arg(long, value_name = "TIME")]
    created: Option<jiff::Timestamp>,
    /// Forget how it was made
    #[arg(long)]
    omit_history: bool,
    /// Name for the result, may be repeated [default: the name given, which moves]
    #[arg(short, long = "tag", value_name = "NAME")]
    tags: Vec<Reference>,
}

/// # Errors
/// No such image; a bad instruction; nothing there to take off.
pub fn run(args: &Args) -> Result<Exit> {
    let store = super::open_store()?;
    let image = store.image(&args.image)?;
    let layers = image.layers()?;
    let lease = store.lease()?;
    lease.hold(layers.iter().map(|(blob, _)| &blob.digest).chain([&image.id]))?;
    let mut config = image.config.clone();
    for path in &args.unset {
        if !unset(&mut config.config, path) {
            fault!(NotFound, "image {} has no {path} in its config", args.image);
        }
    }
    let mut config = change::apply(config, &args.changes)?;
    if args.author.is_some() {
        config.author.clone_from(&args.author);
    }
    if let Some(created) = args.created {
        config.created = Some(created.to_string());
    }
    if args.omit_history {
        config.history.clear();
    } else {
        let done = args.changes.iter().cloned().chain(args.unset.iter().map(|path| format!("unset {path}")));
        config.history.extend(done.map(|what| History {
            created: config.created.clone(),
            created_by: Some(format!("imgtool config {what}")),
            empty_layer: true,
            ..History::default()
        }));
    }
    let names = image.names_when_edited(&args.tags);
    let blobs = layers.into_iter().map(|(blob, _)| blob).collect();
    let made = store.add_image(&lease, &config.to_bytes()?, blobs, &names)?;
    stdout::line(made.id.to_string())?;
    Ok(Exit::Ok)
}

/// Takes `KEY` or `KEY.ENTRY` off; of a list of `NAME=VALUE` the entry is the name. Says whether it was there.
fn unset(config: &mut Map<String, Value>, path: &str) -> bool {
    let (key, entry) = path.split_once('.').map_or((path, None), |(key, entry)| (key, Some(entry)));
    let Some(key) = config.keys().find(|own| own.eq_ignore_ascii_case(key)).cloned() else { return false };
    let Some(entry) = entry else { return config.remove(&key).is_some() };
    match config.get_mut(&key) {
        Some(Value::Object(entries)) => entries.remove(entry).is_some(),
        Some(Value::Array(list)) => {
            let before = list.len();
            list.retain(|item| {
                let text = item.as_str().unwrap_or_default();
                text != entry && text.split_once('=').is_none_or(|(name, _)| name != entry)
            });
            list.len() < before
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_entries_are_taken_off() {
        let text = r#"{"Env":["A=1","AB=2"],"Labels":{"a.b":"x"},"Cmd":["sh"],"ExposedPorts":{"80/tcp":{}}}"#;
        let mut config: Map<String, Value> = serde_json::from_str(text).unwrap();
        for path in ["env.A", "Labels.a.b", "cmd", "ExposedPorts.80/tcp"] {
            assert!(unset(&mut config, path), "{path}");
            assert!(!unset(&mut config, path), "{path} twice");
        }
        assert_eq!(Value::Object(config).to_string(), r#"{"Env":["AB=2"],"ExposedPorts":{},"Labels":{}}"#);
    }
}
