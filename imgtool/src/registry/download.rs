//! Blobs from a registry: a reader that goes on by itself where a connection broke.

use std::io::{self, Read};

use anyhow::Result;
use contracts::fault;
use contracts::fault::{Fault, Kind};
use ureq::BodyReader;
use ureq::http::header::CONTENT_RANGE;
use ureq::http::{Method, StatusCode};

use super::answer::expect;
use super::auth::Scope;
use super::client::Client;
use super::hosts::Endpoint;
use super::http::Request;
use super::repository::Repository;
use crate::store::document::Descriptor;

impl Repository<'_> {
    /// Reads a blob from byte `offset` on. The reader ends after exactly the descriptor's size, or fails.
    ///
    /// # Errors
    /// `NotFound`; `Remote`.
    pub fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobReader<'_>> {
        let mut reader =
            BlobReader { repository: self, descriptor: descriptor.clone(), offset, body: None, failures: 0 };
        reader.open()?;
        Ok(reader)
    }
}

impl Client {
    /// Reads any file behind an `http://` or `https://` URL, without credentials.
    ///
    /// # Errors
    /// `NotFound`; `Remote`.
    pub fn download(&self, url: &str) -> Result<BodyReader<'static>> {
        let host =
            url.split("://").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
        let endpoint = Endpoint { host: host.into(), path: String::new(), insecure: false };
        let response = self.send(&endpoint, &Scope::none(), Request::new(Method::GET, url))?;
        Ok(expect(response, &[200], url)?.into_body().into_reader())
    }
}

/// See [`Repository::blob`]. The content is not verified here, but by who stores it.
pub struct BlobReader<'r> {
    repository: &'r Repository<'r>,
    descriptor: Descriptor,
    offset: u64,
    body: Option<BodyReader<'static>>,
    failures: u32,
}

impl BlobReader<'_> {
    fn open(&mut self) -> Result<()> {
        let digest = &self.descriptor.digest;
        let what = format!("blob {digest} of {}", self.repository.title());
        let mut request = Request::new(Method::GET, self.repository.url(&format!("blobs/{digest}")));
        if self.offset > 0 {
            request = request.header("range", format!("bytes={}-", self.offset));
        }
        let response = expect(self.repository.send(request)?, &[200, 206], &what)?;
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let start =
            range.and_then(|text| text.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
        if partial && start != Some(self.offset) {
            fault!(Remote, "{what}: asked from byte {}, got another range", self.offset);
        }
        let mut body = response.into_body().into_reader();
        if !partial && self.offset > 0 {
            // The server knows no ranges: read again what we have.
            let skipped = io::copy(&mut body.by_ref().take(self.offset), &mut io::sink());
            if !skipped.is_ok_and(|count| count == self.offset) {
                fault!(Remote, "{what}: the connection broke");
            }
        }
        self.body = Some(body);
        Ok(())
    }

    /// Opens again after a failure, a bounded number of times without progress.
    fn reopen(&mut self, why: &str) -> io::Result<()> {
        let client = self.repository.client;
        loop {
            if self.failures >= client.retries() {
                let (digest, size) = (&self.descriptor.digest, self.descriptor.size);
                let (title, offset) = (self.repository.title(), self.offset);
                let what =
                    format!("blob {digest} of {title} broke off after {offset} of {size} bytes: {why}");
                return Err(io::Error::other(Fault::new(Kind::Remote, what)));
            }
            client.pause(self.failures, None);
            self.failures += 1;
            match self.open() {
                Ok(()) => return Ok(()),
                Err(err) if self.failures >= client.retries() => {
                    return Err(io::Error::other(format!("{err:#}")));
                }
                Err(_) => {}
            }
        }
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.descriptor.size - self.offset;
        if left == 0 {
            return Ok(0);
        }
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        loop {
            let outcome = match &mut self.body {
                Some(body) => body.read(&mut buffer[..room]),
                None => Ok(0),
            };
            match outcome {
                Ok(count) if count > 0 => {
                    self.offset += count as u64;
                    self.failures = 0;
                    return Ok(count);
                }
                Ok(_) => self.reopen("the connection was closed")?,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => self.reopen(&err.to_string())?,
            }
        }
    }
}
