//! `RUN --mount`: what a step sees for its own time only.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::ignore::Ignore;
use super::{Builder, limits, state::State};

/// A `--mount`, its variables expanded.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    pub(super) kind: String,
    /// Where, inside.
    pub target: String,
    /// What, inside its source.
    pub(super) source: String,
    /// Stage, image or named context.
    pub from: Option<String>,
    pub(super) id: String,
    pub(super) sharing: String,
    pub(super) writable: Option<bool>,
    pub(super) required: bool,
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    /// Bytes of a tmpfs.
    pub(super) size: Option<i64>,
    pub(super) env: Option<String>,
}

impl Spec {
    /// Reads `type=cache,target=/c,…`.
    ///
    /// # Errors
    /// An unknown key or type, a missing target.
    pub fn parse(text: &str, state: &State) -> Result<Self> {
        let mut spec = Self { kind: "bind".into(), ..Self::default() };
        for field in text.split(',') {
            let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
            let value = value.map(|value| state.expand(value)).transpose()?;
            let needed = || value.clone().with_context(|| format!("--mount {key} needs a value"));
            let switch = || match value.as_deref() {
                None | Some("true" | "1") => Ok(true),
                Some("false" | "0") => Ok(false),
                Some(other) => bail!("invalid value for --mount {key}: {other}"),
            };
            let number = || -> Result<u32> { needed()?.parse().with_context(|| format!("--mount {key}")) };
            match key.to_ascii_lowercase().as_str() {
                "type" => spec.kind = needed()?.to_ascii_lowercase(),
                "target" | "dst" | "destination" => spec.target = needed()?,
                "source" | "src" => spec.source = needed()?,
                "from" => spec.from = Some(needed()?),
                "id" => spec.id = needed()?,
                "sharing" => spec.sharing = needed()?.to_ascii_lowercase(),
                "rw" | "readwrite" => spec.writable = Some(switch()?),
                "ro" | "readonly" => spec.writable = Some(!switch()?),
                "required" => spec.required = switch()?,
                "mode" => spec.mode = Some(u32::from_str_radix(&needed()?, 8).context("--mount mode")?),
                "uid" => spec.uid = Some(number()?),
                "gid" => spec.gid = Some(number()?),
                "size" => spec.size = Some(limits::bytes(&needed()?)?),
                "env" => spec.env = Some(needed()?),
                _ => bail!("unexpected key '{key}' in '{field}'"),
            }
        }
        spec.check(state)
    }

    /// Every kind has its own options.
    fn fits(&self) -> Result<()> {
        let kind = self.kind.as_str();
        let owned = matches!(kind, "secret" | "ssh" | "cache");
        for (name, given) in
            [("mode", self.mode.is_some()), ("uid", self.uid.is_some()), ("gid", self.gid.is_some())]
        {
            ensure!(owned || !given, "{name} not allowed for \"{kind}\" type mounts");
            // BuildKit makes a socket of its own and carries what is said; here the agent's own is mounted.
            ensure!(
                kind != "ssh" || !given,
                "{name} of an ssh mount is not supported: the agent's socket keeps its own"
            );
        }
        for (name, given, fits) in [
            ("required", self.required, matches!(kind, "secret" | "ssh")),
            ("size", self.size.is_some(), kind == "tmpfs"),
            ("env", self.env.is_some(), kind == "secret"),
        ] {
            ensure!(fits || !given, "unexpected key '{name}' for mount type '{kind}'");
        }
        ensure!(self.sharing.is_empty() || kind == "cache", "invalid cache sharing set for {kind} mount");
        if kind == "secret" {
            ensure!(self.from.is_none(), "secret mount should not have a from");
            ensure!(self.source.is_empty() || self.id.is_empty(), "both source and id can't be set");
        }
        Ok(())
    }

    fn check(mut self, state: &State) -> Result<Self> {
        self.fits()?;
        match self.kind.as_str() {
            "bind" | "cache" | "tmpfs" => ensure!(!self.target.is_empty(), "--mount needs a target"),
            "secret" => {
                if self.id.is_empty() {
                    let from = if self.source.is_empty() { &self.target } else { &self.source };
                    self.id = Path::new(from).file_name().unwrap_or_default().to_string_lossy().into_owned();
                }
                ensure!(!self.id.is_empty(), "--mount type=secret needs an id");
                if self.target.is_empty() && self.env.is_none() {
                    self.target = format!("/run/secrets/{}", self.id);
                }
            }
            "ssh" => {
                if self.target.is_empty() {
                    self.target = "/run/buildkit/ssh_agent.0".into();
                }
            }
            other => bail!("unsupported mount type \"{other}\""),
        }
        ensure!(
            matches!(self.sharing.as_str(), "" | "shared" | "private" | "locked"),
            "unsupported sharing value \"{}\"",
            self.sharing
        );
        if !self.target.is_empty() {
            let path = Path::new(&state.workdir()).join(&self.target);
            let clean = crate::layer::tree::clean(path.to_string_lossy().as_bytes())?;
            ensure!(!clean.as_os_str().is_empty(), "invalid mount target \"{}\"", self.target);
            self.target = format!("/{}", clean.display());
        }
        Ok(self)
    }

    /// What of it the cache key must hold: the content of bind sources, the shape of the rest, never a secret.
    ///
    /// # Errors
    /// The source is not there.
    pub fn key(&self, builder: &Builder<'_>) -> Result<Value> {
        let mut content = None;
        if self.kind == "bind" || (self.kind == "cache" && self.from.is_some()) {
            let tree = builder.tree(self.from.as_deref())?;
            let mut hash = Sha256::new();
            for selected in tree.select(&[self.source_path()], false)? {
                tree.digest(&selected, &Ignore::default(), &mut hash)?;
            }
            content = Some(hash.finalize().to_vec());
        }
        Ok(json!([
            self.kind,
            self.target,
            self.source,
            self.id,
            self.env,
            self.mode,
            self.uid,
            self.gid,
            self.writable,
            content
        ]))
    }

    /// What of the source's tree is meant.
    pub(super) fn source_path(&self) -> String {
        if self.source.is_empty() { "/".into() } else { self.source.clone() }
    }

    /// The mount of `source` for config.json.
    pub(super) fn option_mount(&self, source: &Path, writable: bool) -> Value {
        let access = if writable { "rw" } else { "ro" };
        json!({"destination": self.target, "type": "bind", "source": source, "options": ["rbind", "rprivate", access]})
    }
}
