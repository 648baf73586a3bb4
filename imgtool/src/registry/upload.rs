//! Blobs to a registry: looked for first, then mounted from a repository that has them, then sent; a broken upload is
//! gone on with where the registry says it stands, also by the next command.
//!
//! Large blobs are sent in several requests: some registries (docker's own) forget an upload whose request broke off,
//! but know all of those before.

use std::io::Read;

use anyhow::Result;
use contracts::fault;
use ureq::http::Method;
use ureq::http::header::RANGE;

use super::answer::{Response, expect, target};
use super::http::{Payload, Request};
use super::repository::Repository;
use super::unfinished::Unfinished;
use crate::store::digest::Digest;
use crate::store::document::Descriptor;

/// Opens a blob's content from a byte on.
pub type Opener<'a> = dyn Fn(u64) -> Result<Box<dyn Read + Send + 'a>> + 'a;

/// How an upload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was there.
    Present,
    /// It was taken over from another repository of the registry.
    Mounted,
    /// It was sent.
    Sent,
}

impl Repository<'_> {
    /// Whether the repository has a blob.
    ///
    /// # Errors
    /// `Remote`.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let response = self.send(Request::new(Method::HEAD, self.url(&format!("blobs/{digest}"))))?;
        if response.status() == 404 {
            return Ok(false);
        }
        expect(response, &[200], &format!("blob {digest} of {}", self.title()))?;
        Ok(true)
    }

    /// Makes the repository have a blob. `from` names repositories of the same registry that may have it.
    ///
    /// # Errors
    /// The registry refuses; reading the content fails.
    pub fn upload(&self, descriptor: &Descriptor, from: &[String], open: &Opener<'_>) -> Result<Outcome> {
        if self.has_blob(&descriptor.digest)? {
            return Ok(Outcome::Present);
        }
        let what = format!("push blob {} to {}", descriptor.digest, self.title());
        let record = self.record(descriptor);
        let mut upload =
            Sending { repository: self, descriptor, open, record, what, chunk: self.client.chunk() };
        if let Some((location, offset)) = upload.remembered() {
            if upload.send(location, offset).is_ok() {
                upload.ended();
                return Ok(Outcome::Sent);
            }
            // Whatever was wrong with what was there: what is begun now has nothing of it.
            upload.restart();
        }
        let mut begun = match self.mount(descriptor, from)? {
            Mount::Mounted => {
                upload.ended();
                return Ok(Outcome::Mounted);
            }
            Mount::Begun(begun) => Some(begun),
            Mount::No => None,
        };
        let mut attempt = 0;
        loop {
            let (location, least) = match begun.take() {
                Some(begun) => begun,
                None => self.begin(&upload.what)?,
            };
            upload.chunk = upload.chunk.max(least);
            let Err(err) = upload.send(location, 0) else {
                upload.ended();
                return Ok(Outcome::Sent);
            };
            let remote = contracts::fault::Kind::of(&err) == Some(contracts::fault::Kind::Remote);
            if !remote || attempt >= self.client.retries() {
                return Err(err);
            }
            // Not every registry takes an upload in pieces.
            upload.chunk = u64::MAX;
            upload.restart();
            self.client.pause(attempt, None);
            attempt += 1;
        }
    }

    /// Small blobs are not worth a file.
    fn record(&self, descriptor: &Descriptor) -> Option<Unfinished> {
        (descriptor.size > self.client.chunk().min(1 << 20))
            .then(|| Unfinished::open(&self.client.unfinished, &self.title(), &descriptor.digest))
            .flatten()
    }

    /// Asks for the blob from the first repository of `from` that may be read.
    fn mount(&self, descriptor: &Descriptor, from: &[String]) -> Result<Mount> {
        for path in from.iter().filter(|path| **path != self.endpoint.path) {
            let url = self.url(&format!("blobs/uploads/?mount={}&from={path}", descriptor.digest));
            let scope = self.scope.and_pull(path);
            let response = self.client.send(&self.endpoint, &scope, Request::new(Method::POST, url))?;
            match response.status().as_u16() {
                201 => return Ok(Mount::Mounted),
                // Not mounted, but an upload was begun instead.
                202 => return Ok(Mount::Begun(self.begun(&response)?)),
                // A source that we may not read, or that has gone, is no failure of the push.
                _ => {}
            }
        }
        Ok(Mount::No)
    }

    fn begin(&self, what: &str) -> Result<(String, u64)> {
        let response = self.send(Request::new(Method::POST, self.url("blobs/uploads/")))?;
        self.begun(&expect(response, &[202], what)?)
    }

    /// The location of an upload, and the least bytes that the registry takes in one request but the last.
    fn begun(&self, response: &Response) -> Result<(String, u64)> {
        let least = response.headers().get("oci-chunk-min-length").and_then(|value| value.to_str().ok());
        Ok((self.location(response)?, least.and_then(|text| text.trim().parse().ok()).unwrap_or(0)))
    }

    /// Where an upload stands: its new location and the number of bytes received. `None` where the registry has
    /// forgotten it.
    fn standing(&self, location: &str) -> Option<(String, u64)> {
        let response = self.send(Request::new(Method::GET, location)).ok()?;
        if !matches!(response.status().as_u16(), 200 | 202 | 204) {
            return None;
        }
        let range = response.headers().get(RANGE)?.to_str().ok()?;
        let last: u64 = range.trim_start_matches("bytes=").split('-').nth(1)?.parse().ok()?;
        // `0-0` is what registries say of an empty upload, and cannot be told from one byte.
        let received = if last == 0 { 0 } else { last + 1 };
        Some((self.location(&response).unwrap_or_else(|_| location.to_owned()), received))
    }

    /// The upload's next location, on the registry's own server unless it says otherwise.
    fn location(&self, response: &Response) -> Result<String> {
        let location = target("", response)?;
        if location.starts_with("https://") || location.starts_with("http://") || location.starts_with('/') {
            return Ok(location);
        }
        fault!(Remote, "registry {}: unusable upload location", self.endpoint.host);
    }
}

/// What became of asking for a blob of another repository.
enum Mount {
    Mounted,
    /// An upload was begun, as [`Repository::begun`] says.
    Begun((String, u64)),
    No,
}

/// A blob on its way.
struct Sending<'a, 'o> {
    repository: &'a Repository<'a>,
    descriptor: &'a Descriptor,
    open: &'a Opener<'o>,
    record: Option<Unfinished>,
    what: String,
    /// Most bytes of one request.
    chunk: u64,
}

impl Sending<'_, '_> {
    /// Where an earlier command left the upload, and how many bytes the registry has of it.
    fn remembered(&self) -> Option<(String, u64)> {
        let record = self.record.as_ref()?;
        let location = record.location()?;
        let standing = self.repository.standing(&location);
        let standing = standing.filter(|(_, received)| *received > 0 && *received <= self.descriptor.size);
        if standing.is_none() {
            record.restart();
        }
        standing
    }

    fn note(&self, location: &str) {
        if let Some(record) = &self.record {
            record.note(location);
        }
    }

    fn restart(&self) {
        if let Some(record) = &self.record {
            record.restart();
        }
    }

    fn ended(&mut self) {
        if let Some(record) = self.record.take() {
            record.forget();
        }
    }

    /// Sends what is missing from `offset` on, then the PUT that names the digest; a request that broke is gone on with
    /// where the registry says it stands, once without any progress.
    fn send(&self, mut location: String, mut offset: u64) -> Result<()> {
        let size = self.descriptor.size;
        let mut reader: Option<Box<dyn Read + Send + '_>> = None;
        let mut broken = None;
        while offset < size {
            self.note(&location);
            let end = offset.saturating_add(self.chunk).min(size);
            let from = match &mut reader {
                Some(reader) => reader,
                None => reader.insert((self.open)(offset)?),
            };
            match self.patch(&location, (offset, end), from) {
                Ok(next) => (location, offset) = (next, end),
                Err(err) if broken == Some(offset) => return Err(err),
                Err(err) => {
                    reader = None;
                    match self.repository.standing(&location) {
                        Some((next, received)) if received <= size => (location, offset) = (next, received),
                        _ => return Err(err),
                    }
                    broken = Some(offset);
                }
            }
        }
        let mark = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{mark}digest={}", self.descriptor.digest);
        let request = Request::new(Method::PUT, url).header("content-type", "application/octet-stream");
        drop(expect(self.repository.send(request)?, &[201, 204], &self.what)?);
        Ok(())
    }

    /// Sends bytes `offset` to `end` and returns the upload's next location.
    fn patch(&self, location: &str, (offset, end): (u64, u64), reader: &mut dyn Read) -> Result<String> {
        let mut part = reader.take(end - offset);
        let request = Request::new(Method::PATCH, location)
            .header("content-type", "application/octet-stream")
            .header("content-range", format!("{offset}-{}", end - 1))
            .payload(Payload::Stream(&mut part, end - offset));
        let response = expect(self.repository.send(request)?, &[200, 201, 202, 204], &self.what)?;
        self.repository.location(&response)
    }
}
