//! `-info`: what the runtime and this shim can do.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use prost::Message as _;

use super::proto::Any;
use super::proto::bootstrap::{RuntimeInfo, RuntimeVersion};
use super::runtime::{self, Runtime};

/// The message's bytes. The options come on stdin, as to `start`.
pub fn info() -> Result<Vec<u8>> {
    let mut input = Vec::new();
    std::io::stdin().take(1 << 20).read_to_end(&mut input).context("read stdin")?;
    let options = Any::decode(input.as_slice()).context("read the runtime's options")?;
    let runtime = Runtime::new(runtime::options(Some(&options))?, "", false);
    let output = runtime
        .command(Path::new("/dev/null"))
        .arg("features")
        .stdout(std::process::Stdio::piped())
        .output()
        .with_context(|| format!("execute {}", runtime.program().display()))?;
    // Some runtimes do not know `features`.
    let features = (output.status.success()
        && serde_json::from_slice::<serde_json::Value>(&output.stdout).is_ok())
    .then(|| Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/features/Features".into(),
        value: output.stdout,
    });
    let info = RuntimeInfo {
        name: "io.containerd.bulkhead.v2".into(),
        version: Some(RuntimeVersion { version: env!("CARGO_PKG_VERSION").into(), revision: String::new() }),
        options: (!options.type_url.is_empty()).then_some(options),
        features,
        annotations: BTreeMap::new(),
    };
    Ok(info.encode_to_vec())
}
