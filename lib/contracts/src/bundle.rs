//! What `imgtool bundle --format json` prints, and the image config inside it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A bundle just made from an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Format of this document: 1.
    pub version: u32,
    /// The bundle directory, absolute.
    pub bundle: PathBuf,
    /// The image's id: the digest of its config, `sha256:…`.
    pub image_id: String,
    /// The reference it was asked by, normalised (`docker.io/library/web:latest`).
    pub image: String,
    /// The image's platform, `linux/amd64`.
    pub platform: String,
    /// The whole `config` object of the image config (Env, Cmd, Entrypoint, ExposedPorts, Volumes, StopSignal,
    /// Healthcheck, User, WorkingDir, Labels, …) with the keys as Docker spells them, nothing dropped.
    pub config: Map<String, Value>,
}
