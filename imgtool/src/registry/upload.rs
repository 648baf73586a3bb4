//! Blobs to a registry: looked for first, then mounted from a repository that has them, then sent; a broken upload is
//! gone on with where the registry says it stands.

use std::io::Read;

use anyhow::Result;
use contracts::fault;
use ureq::http::Method;
use ureq::http::header::RANGE;

use super::http::{Payload, Request, Response, expect, target};
use super::repository::Repository;
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
        let mut location = None;
        for path in from.iter().filter(|path| **path != self.endpoint.path) {
            let url = self.url(&format!("blobs/uploads/?mount={}&from={path}", descriptor.digest));
            let scope = self.scope.and_pull(path);
            let response = self.client.send(&self.endpoint, &scope, Request::new(Method::POST, url))?;
            match response.status().as_u16() {
                201 => return Ok(Outcome::Mounted),
                // Not mounted, but an upload was begun instead.
                202 => {
                    location = Some(self.location(&response)?);
                    break;
                }
                // A source that we may not read, or that has gone, is no failure of the push.
                _ => {}
            }
        }
        let mut attempt = 0;
        loop {
            let begun = match location.take() {
                Some(location) => location,
                None => self.begin(&what)?,
            };
            let Err(err) = self.send_blob(begun, descriptor, open, &what) else { return Ok(Outcome::Sent) };
            let remote = contracts::fault::Kind::of(&err) == Some(contracts::fault::Kind::Remote);
            if !remote || attempt >= self.client.retries() {
                return Err(err);
            }
            self.client.pause(attempt, None);
            attempt += 1;
        }
    }

    fn begin(&self, what: &str) -> Result<String> {
        let response = self.send(Request::new(Method::POST, self.url("blobs/uploads/")))?;
        self.location(&expect(response, &[202], what)?)
    }

    /// One PATCH with everything, then the PUT that names the digest; a PATCH that broke is gone on with once.
    fn send_blob(
        &self,
        location: String,
        descriptor: &Descriptor,
        open: &Opener<'_>,
        what: &str,
    ) -> Result<()> {
        let (mut location, mut offset) = (location, 0);
        let mut resumed = false;
        loop {
            match self.patch(&location, (offset, descriptor.size), open, what) {
                Ok(next) => {
                    location = next;
                    break;
                }
                Err(err) if resumed => return Err(err),
                Err(err) => {
                    resumed = true;
                    match self.standing(&location) {
                        Some((next, received)) if received <= descriptor.size => {
                            (location, offset) = (next, received)
                        }
                        _ => return Err(err),
                    }
                }
            }
        }
        let mark = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{mark}digest={}", descriptor.digest);
        let request = Request::new(Method::PUT, url).header("content-type", "application/octet-stream");
        let response = expect(self.send(request)?, &[201, 204], what)?;
        drop(response);
        Ok(())
    }

    /// Sends bytes `offset` to `size` and returns the upload's next location.
    fn patch(
        &self,
        location: &str,
        (offset, size): (u64, u64),
        open: &Opener<'_>,
        what: &str,
    ) -> Result<String> {
        let left = size - offset;
        if left == 0 {
            return Ok(location.to_owned());
        }
        let mut reader = open(offset)?;
        let request = Request::new(Method::PATCH, location)
            .header("content-type", "application/octet-stream")
            .header("content-range", format!("{offset}-{}", size - 1))
            .payload(Payload::Stream(&mut reader, left));
        let response = expect(self.send(request)?, &[200, 201, 202, 204], what)?;
        self.location(&response)
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
