//! A layer archive on its way into the store: hashed as it is (the diff id), compressed, stored under its digest.

use std::io::{self, Write};

use anyhow::{Context as _, Result};
use flate2::Compression;
use sha2::{Digest as _, Sha256};

use super::gzip::Gzip;
use crate::store::Store;
use crate::store::blob::BlobWriter;
use crate::store::digest::Digest;
use crate::store::document::Descriptor;
use crate::store::lease::Lease;

/// Media type of the layers made here.
pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A layer being stored.
pub struct Packer {
    hash: Sha256,
    bytes: u64,
    out: Gzip<BlobWriter>,
}

/// A stored layer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Packed {
    /// Digest of the plain archive.
    pub diff_id: Digest,
    /// The compressed blob.
    pub blob: Descriptor,
    /// Bytes of the plain archive.
    pub bytes: u64,
}

impl Packer {
    /// Starts a layer.
    ///
    /// # Errors
    /// No space, no permission.
    pub fn start(store: &Store) -> Result<Self> {
        // Level 4 is a fifth larger than 9 at a fifth of the time (docs/performance.md). No name and no time go into
        // the header, so equal layers stay equal.
        let out = Gzip::new(store.writer()?, Compression::new(4));
        Ok(Self { hash: Sha256::new(), bytes: 0, out })
    }

    /// Stores the layer, held by `lease`.
    ///
    /// # Errors
    /// No space.
    pub fn finish(self, lease: &Lease) -> Result<Packed> {
        let writer = self.out.finish().context("compress layer")?;
        let (digest, size) = writer.commit(lease)?;
        let hex: String = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let diff_id = format!("sha256:{hex}").parse()?;
        Ok(Packed { diff_id, blob: Descriptor::new(GZIP, digest, size), bytes: self.bytes })
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.out.write(bytes)?;
        self.hash.update(&bytes[..len]);
        self.bytes += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
