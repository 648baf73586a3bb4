//! Small images, made byte by byte.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// `sha256:…` of bytes.
pub fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A tar of regular files.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The config of an image with one layer.
pub fn config(layer: &[u8]) -> Vec<u8> {
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["/file"], "Labels": { "a": "b" }, "Healthcheck": { "Test": ["NONE"] } },
        "rootfs": { "type": "layers", "diff_ids": [sha256(layer)] },
        "history": [{ "created": "2026-01-02T03:04:05Z", "created_by": "ADD everything", "comment": "by hand" }],
    });
    serde_json::to_vec(&config).unwrap()
}

/// What `docker save` wrote before version 25: one image of one plain layer.
pub fn archive(tags: &[&str], files: &[(&str, &[u8])]) -> Vec<u8> {
    let layer = tar(files);
    let config = config(&layer);
    let manifest = json!([{ "Config": "config.json", "RepoTags": tags, "Layers": ["abc/layer.tar"] }]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    tar(&[("abc/layer.tar", &layer), ("config.json", &config), ("manifest.json", &manifest)])
}

/// The parts of an image as a registry has them: manifest, config, layer.
pub fn parts(content: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let layer = tar(&[("file", content)]);
    let config = config(&layer);
    (manifest(&config, &layer), config, layer)
}

/// A manifest over a config and a plain layer.
pub fn manifest(config: &[u8], layer: &[u8]) -> Vec<u8> {
    let descriptor = |kind: &str, bytes: &[u8]| -> Value {
        json!({ "mediaType": kind, "digest": sha256(bytes), "size": bytes.len() })
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    serde_json::to_vec(&manifest).unwrap()
}

/// Bytes that compress badly, the same every time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}
