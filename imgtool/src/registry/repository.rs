//! One repository on one server: its manifests, tags and referrers.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use contracts::fault;
use contracts::fault::{Fault, Kind as FaultKind};
use serde::Deserialize;
use ureq::http::Method;
use ureq::http::header::{ACCEPT, CONTENT_TYPE, LINK};

use super::answer::{Response, expect, read};
use super::auth::Scope;
use super::client::Client;
use super::credentials;
use super::hosts::Endpoint;
use super::http::{Payload, Request};
use crate::reference::Reference;
use crate::store::digest::Digest;
use crate::store::document::{
    DOCKER_LIST, DOCKER_MANIFEST, Document, Kind, MAX_DOCUMENT, Manifest, OCI_INDEX, OCI_MANIFEST,
};

/// Lists longer than this are not waited for: a hostile registry could go on for ever.
const MAX_PAGES: usize = 1000;

/// A repository.
pub struct Repository<'c> {
    pub(super) client: &'c Client,
    pub(super) endpoint: Endpoint,
    pub(super) scope: Scope,
}

impl<'c> Repository<'c> {
    pub(super) fn new(client: &'c Client, endpoint: Endpoint, to_write: bool) -> Self {
        let scope = if to_write { Scope::push(&endpoint.path) } else { Scope::pull(&endpoint.path) };
        Self { client, endpoint, scope }
    }

    /// The same, asking for the right to write or only to read.
    #[must_use]
    pub fn for_writing(self, to_write: bool) -> Self {
        Self::new(self.client, self.endpoint, to_write)
    }

    /// `host/path`, for messages.
    #[must_use]
    pub fn title(&self) -> String {
        let host = if credentials::is_hub(&self.endpoint.host) { "docker.io" } else { &self.endpoint.host };
        format!("{host}/{}", self.endpoint.path)
    }

    /// The server.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.endpoint.host
    }

    /// The repository on the server.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.endpoint.path
    }

    pub(super) fn url(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.endpoint.path)
    }

    pub(super) fn send(&self, request: Request<'_>) -> Result<Response> {
        self.client.send(&self.endpoint, &self.scope, request)
    }

    /// The manifest of a tag or digest. A digest is verified.
    ///
    /// # Errors
    /// `NotFound`; `Remote`; not a manifest.
    pub fn manifest(&self, name: &str) -> Result<Document> {
        let what = self.what(name);
        let response =
            self.send(accepting(Request::new(Method::GET, self.url(&format!("manifests/{name}")))))?;
        let response = expect(response, &[200], &what)?;
        let header = |key: &str| response.headers().get(key)?.to_str().ok().map(str::to_owned);
        let told = header("docker-content-digest");
        // Parameters such as a charset are no part of the type.
        let media_type =
            header("content-type").map(|text| text.split(';').next().unwrap_or_default().trim().to_owned());
        let bytes = read(response, MAX_DOCUMENT).with_context(|| what.clone())?;
        let wanted = name.parse::<Digest>().ok().or_else(|| told?.parse().ok());
        if let Some(wanted) = wanted
            && !wanted.matches(&bytes)
        {
            fault!(Remote, "{what}: the registry sent other content than digest {wanted}");
        }
        Document::parse(bytes, media_type.as_deref()).with_context(|| what)
    }

    /// The digest that a tag points to, without fetching its manifest where the registry tells.
    ///
    /// # Errors
    /// As [`Repository::manifest`].
    pub fn digest(&self, name: &str) -> Result<Digest> {
        let url = self.url(&format!("manifests/{name}"));
        let response =
            expect(self.send(accepting(Request::new(Method::HEAD, url)))?, &[200], &self.what(name))?;
        let told = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        match told.and_then(|text| text.parse().ok()) {
            Some(digest) => Ok(digest),
            None => Ok(self.manifest(name)?.digest),
        }
    }

    /// Stores a manifest under a tag or its digest.
    ///
    /// # Errors
    /// The registry refuses it.
    pub fn put_manifest(&self, name: &str, document: &Document) -> Result<()> {
        let request = Request::new(Method::PUT, self.url(&format!("manifests/{name}")))
            .header("content-type", &document.media_type)
            .payload(Payload::Bytes(&document.bytes));
        let response = expect(self.send(request)?, &[200, 201, 202], &self.what(name))?;
        let told = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        if let Some(told) = told
            && told != document.digest.to_string()
        {
            fault!(Remote, "{}: the registry stored it as {told}, not {}", self.what(name), document.digest);
        }
        match &document.kind {
            // A registry with the referrers API says that it has understood; for another one we keep the list.
            Kind::Manifest(Manifest { subject: Some(subject), .. })
                if !response.headers().contains_key("oci-subject") =>
            {
                self.list_referrer(subject, document)
            }
            _ => Ok(()),
        }
    }

    /// Deletes a manifest by digest, or a tag where the registry can.
    ///
    /// # Errors
    /// `NotFound`; the registry refuses or cannot delete.
    pub fn delete_manifest(&self, name: &str) -> Result<()> {
        let request = Request::new(Method::DELETE, self.url(&format!("manifests/{name}")));
        let response = self.client.send(&self.endpoint, &Scope::delete(&self.endpoint.path), request)?;
        if response.status().as_u16() == 405 {
            fault!(Unsupported, "{}: the registry does not allow deleting", self.what(name));
        }
        expect(response, &[200, 202, 204], &self.what(name))?;
        Ok(())
    }

    /// All tags, in the registry's order.
    ///
    /// # Errors
    /// `NotFound`; `Remote`.
    pub fn tags(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let what = format!("repository {}", self.title());
        let pages = self.client.pages(&self.endpoint, &self.scope, self.url("tags/list?n=1000"), &what)?;
        let mut tags = Vec::new();
        for page in pages {
            let page: Page = serde_json::from_slice(&page).with_context(|| what.clone())?;
            tags.extend(page.tags.unwrap_or_default());
        }
        Ok(tags)
    }

    pub(super) fn what(&self, name: &str) -> String {
        let mut out = String::from("manifest for ");
        let mark = if name.contains(':') { '@' } else { ':' };
        // Writing to a string cannot fail.
        let _ = write!(out, "{}{mark}{name}", self.title());
        out
    }
}

impl Client {
    /// The repositories where `name` may be found, mirrors first; only the registry itself where `to_write`.
    ///
    /// # Errors
    /// The registry is blocked.
    pub fn repositories(&self, name: &Reference, to_write: bool) -> Result<Vec<Repository<'_>>> {
        let endpoints = self.hosts.endpoints(name, to_write)?;
        Ok(endpoints
            .into_iter()
            .map(|endpoint| Repository::new(self, self.fit(endpoint), to_write))
            .collect())
    }

    /// The repository `name` belongs to, without mirrors.
    ///
    /// # Errors
    /// The registry is blocked.
    pub fn repository(&self, name: &Reference, to_write: bool) -> Result<Repository<'_>> {
        self.repositories(name, true)?.pop().map(|repository| repository.for_writing(to_write)).ok_or_else(
            || Fault::new(FaultKind::NotFound, format!("no registry for {}", name.familiar())).into(),
        )
    }

    /// All repositories of a registry, where it tells.
    ///
    /// # Errors
    /// `Remote`; many registries do not list their repositories.
    pub fn catalog(&self, endpoint: &Endpoint) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            repositories: Option<Vec<String>>,
        }
        let what = format!("catalog of {}", endpoint.host);
        let mut names = Vec::new();
        for page in self.pages(endpoint, &Scope::catalog(), "/v2/_catalog?n=1000".into(), &what)? {
            let page: Page = serde_json::from_slice(&page).with_context(|| what.clone())?;
            names.extend(page.repositories.unwrap_or_default());
        }
        Ok(names)
    }

    fn pages(&self, endpoint: &Endpoint, scope: &Scope, first: String, what: &str) -> Result<Vec<Vec<u8>>> {
        let mut pages = Vec::new();
        let mut next = Some(first);
        while let Some(url) = next.take() {
            if pages.len() >= MAX_PAGES {
                fault!(Remote, "{what}: the list does not end");
            }
            let response = expect(self.send(endpoint, scope, Request::new(Method::GET, url))?, &[200], what)?;
            let link = response.headers().get(LINK).and_then(|value| value.to_str().ok());
            // Only a path on the same server: a link elsewhere is nobody's next page.
            next = link.and_then(next_path);
            pages.push(read(response, MAX_DOCUMENT)?);
        }
        Ok(pages)
    }
}

fn accepting(request: Request<'_>) -> Request<'_> {
    debug_assert!(ACCEPT == "accept" && CONTENT_TYPE == "content-type");
    request.header("accept", [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", "))
}

/// The path of `Link: </v2/…>; rel="next"` (RFC 5988).
fn next_path(link: &str) -> Option<String> {
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    if !rest.contains("next") {
        return None;
    }
    let start = if target.starts_with('/') { 0 } else { target.find("://").map(|at| at + 3)? };
    let path = &target[start + target[start..].find('/')?..];
    path.starts_with("/v2/").then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn next_pages_stay_on_the_server() {
        use super::next_path;
        assert_eq!(next_path("</v2/_catalog?last=b&n=1>; rel=\"next\"").unwrap(), "/v2/_catalog?last=b&n=1");
        assert_eq!(next_path("<http://evil/v2/x?n=1>; rel=next").unwrap(), "/v2/x?n=1");
        assert_eq!(next_path("</etc/passwd>; rel=\"next\""), None);
        assert_eq!(next_path("nonsense"), None);
    }
}
