//! The image config, read so that nothing Docker or Podman writes is refused, dropped or renamed.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::digest::Digest;
use super::document::{Platform, null_is_default};

/// An image config. Unknown keys survive in `extra`, so a changed config written back loses nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// CPU in Go's spelling.
    #[serde(default)]
    pub architecture: String,
    /// Operating system in Go's spelling.
    #[serde(default)]
    pub os: String,
    /// CPU variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Env, Cmd, Entrypoint, … with the keys as Docker spells them.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: Map<String, Value>,
    /// The layers' uncompressed digests.
    #[serde(default, deserialize_with = "null_is_default")]
    pub rootfs: RootFs,
    /// One entry per instruction.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The layers of an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

/// How one layer, or one change of the config, came to be.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// It changed the config only and made no layer.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Parses a config blob.
    ///
    /// # Errors
    /// Not JSON of that shape.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).context("parse image config")
    }

    /// The bytes of a config blob.
    ///
    /// # Errors
    /// None in practice; kept for the encoder's signature.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).context("encode image config")
    }

    /// Which machines it is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        let os_version = self.extra.get("os.version").and_then(Value::as_str).map(Into::into);
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version,
            variant: self.variant.clone(),
        }
    }

    /// A list of strings in `config` (`Env`, `Cmd`, `Entrypoint`); empty where missing or `null`.
    #[must_use]
    pub fn strings(&self, key: &str) -> Vec<String> {
        let list = self.config.get(key).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
    }

    /// The labels.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.config.get("Labels").and_then(Value::as_object);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        labels.into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_dockers_config_is_lost() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Healthcheck":{"Test":["CMD","x"]},"OnBuild":null,"Shell":["/bin/bash"]},"rootfs":{"type":"layers","diff_ids":null},"history":null,"moby.buildkit.cache":1}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        let again: Value = serde_json::from_slice(&config.to_bytes().unwrap()).unwrap();
        assert_eq!(again["config"]["Healthcheck"]["Test"][1], "x");
        assert!(again["config"]["OnBuild"].is_null() && again["moby.buildkit.cache"] == 1);
        assert_eq!(config.strings("Shell"), ["/bin/bash"]);
        assert!(ImageConfig::parse(br#"{"config":null}"#).unwrap().config.is_empty());
    }
}
