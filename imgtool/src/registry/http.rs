//! One request to a registry: scheme, authentication, redirects, retries.

use std::io::Read;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use contracts::fault::{Fault, Kind};
use ureq::SendBody;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, RETRY_AFTER};
use ureq::http::{self, Method, StatusCode};

use super::answer::{Response, target};
use super::auth::Scope;
use super::client::Client;
use super::hosts::Endpoint;
use super::url::{origin, without_secrets};

/// What is sent.
pub enum Payload<'a> {
    /// Nothing.
    None,
    /// Bytes, which can be sent again.
    Bytes(&'a [u8]),
    /// A stream of a known length, which cannot.
    Stream(&'a mut dyn Read, u64),
}

/// A request; `url` is absolute, or a path on the endpoint.
pub struct Request<'a> {
    /// GET, HEAD, …
    pub method: Method,
    /// Where to.
    pub url: String,
    /// Beside those that every request has.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub payload: Payload<'a>,
}

impl<'a> Request<'a> {
    /// A request without body.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self { method, url: url.into(), headers: Vec::new(), payload: Payload::None }
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a body.
    pub fn payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }
}

const MAX_REDIRECTS: u32 = 5;
/// No server may make us wait longer than this.
const MAX_WAIT: Duration = Duration::from_secs(60);

impl Client {
    /// Sends a request, again after transient failures (unless its body is a stream), with credentials where asked.
    ///
    /// # Errors
    /// `Remote` where no answer came. An answer of any status is a success here.
    pub fn send(&self, endpoint: &Endpoint, scope: &Scope, mut request: Request<'_>) -> Result<Response> {
        let mut attempt = 0;
        loop {
            let once = matches!(request.payload, Payload::Stream(..));
            let outcome = self.attempt(endpoint, scope, &mut request);
            let wait = match &outcome {
                Ok(response) => transient(response).then(|| retry_after(response)),
                Err(failure) => failure.transient.then_some(None),
            };
            let Some(told) = wait.filter(|_| !once && attempt < self.flags.retry) else {
                return outcome.map_err(|failure| failure.why);
            };
            self.pause(attempt, told);
            attempt += 1;
        }
    }

    /// Waits before attempt number `attempt` + 1: what the server told, else the delay of the flags, doubled each time.
    pub(super) fn pause(&self, attempt: u32, told: Option<Duration>) {
        let doubled = self.flags.retry_delay.saturating_mul(1 << attempt.min(10));
        thread::sleep(told.unwrap_or(doubled).min(MAX_WAIT));
    }

    /// How often a failure is tried again.
    pub(super) const fn retries(&self) -> u32 {
        self.flags.retry
    }

    /// Most bytes of one request of an upload.
    pub(super) const fn chunk(&self) -> u64 {
        self.flags.chunk_size
    }

    fn attempt(
        &self,
        endpoint: &Endpoint,
        scope: &Scope,
        request: &mut Request<'_>,
    ) -> Result<Response, Failure> {
        let base = format!("{}://{}", self.scheme(endpoint)?, endpoint.host);
        let first =
            if request.url.starts_with('/') { format!("{base}{}", request.url) } else { request.url.clone() };
        let mut url = first.clone();
        let mut redirects = 0;
        let mut asked = false;
        loop {
            // Credentials are for the registry alone, wherever it sends us (CVE-2020-15157).
            let at_home = origin(&url) == origin(&base);
            let authorization = if at_home { self.authorization(endpoint, scope) } else { None };
            let response = self.once(endpoint, &url, authorization.as_deref(), request)?;
            let replayable = !matches!(request.payload, Payload::Stream(..));
            if response.status() == StatusCode::UNAUTHORIZED && at_home && !asked && replayable {
                asked = true;
                let sent = authorization.as_deref();
                if self.answer_challenge(endpoint, scope, &response, sent).map_err(Failure::fatal)? {
                    continue;
                }
                if sent.is_none() {
                    let what =
                        format!("{} {}: no basic auth credentials", request.method, without_secrets(&url));
                    return Err(Failure::fatal(Fault::new(Kind::Remote, what).into()));
                }
            }
            let follows = request.method == Method::GET || request.method == Method::HEAD;
            if !(response.status().is_redirection() && follows) {
                return Ok(response);
            }
            redirects += 1;
            let next = target(&url, &response).map_err(Failure::fatal)?;
            if redirects > MAX_REDIRECTS {
                return Err(remote(endpoint, "too many redirects"));
            }
            if url.starts_with("https:") && !next.starts_with("https:") {
                return Err(remote(endpoint, "redirected from https to http: refused"));
            }
            url = next;
        }
    }

    fn once(
        &self,
        endpoint: &Endpoint,
        url: &str,
        authorization: Option<&str>,
        request: &mut Request<'_>,
    ) -> Result<Response, Failure> {
        let mut builder = http::Request::builder().method(&request.method).uri(url);
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(value) = authorization {
            builder = builder.header(AUTHORIZATION, value);
        }
        let agent = self.agent(url, endpoint.insecure).map_err(Failure::fatal)?;
        let sent = match &mut request.payload {
            Payload::None if request.method == Method::POST || request.method == Method::PUT => {
                builder.body(SendBody::from_owned_reader(std::io::empty())).map(|built| {
                    let mut built = built;
                    built.headers_mut().insert(CONTENT_LENGTH, 0.into());
                    agent.run(built)
                })
            }
            Payload::None => builder.body(()).map(|built| agent.run(built)),
            Payload::Bytes(bytes) => {
                let bytes: &[u8] = bytes;
                builder.body(bytes).map(|built| agent.run(built))
            }
            Payload::Stream(reader, length) => builder
                .header(CONTENT_LENGTH, *length)
                .body(SendBody::from_reader(reader))
                .map(|built| agent.run(built)),
        };
        let place = || format!("{} {}", request.method, without_secrets(url));
        match sent {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(err)) => Err(Failure::of(&err, &place())),
            Err(err) => Err(Failure::fatal(Fault::new(Kind::Remote, format!("{}: {err}", place())).into())),
        }
    }

    /// `https`, unless the endpoint may be insecure and does not speak it.
    fn scheme(&self, endpoint: &Endpoint) -> Result<&'static str, Failure> {
        if !endpoint.insecure {
            return Ok("https");
        }
        // Held while probing: parallel layers must not all probe.
        let mut schemes = self.schemes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(scheme) = schemes.get(&endpoint.host) {
            return Ok(scheme);
        }
        let url = format!("https://{}/v2/", endpoint.host);
        let agent = self.agent(&url, true).map_err(Failure::fatal)?;
        let scheme = match agent.get(url).call() {
            Ok(_) => "https",
            Err(ureq::Error::Timeout(_)) => return Err(remote(endpoint, "timed out")),
            Err(_) => "http",
        };
        schemes.insert(endpoint.host.clone(), scheme);
        Ok(scheme)
    }
}

/// Why no answer came, and whether another attempt may help.
pub(super) struct Failure {
    why: anyhow::Error,
    transient: bool,
}

impl Failure {
    fn fatal(why: anyhow::Error) -> Self {
        Self { why, transient: false }
    }

    fn of(err: &ureq::Error, place: &str) -> Self {
        let why = explain(err);
        // A registry that is not there will not be there in a second; one that broke off may answer again.
        let refused = matches!(err, ureq::Error::Io(err) if matches!(err.kind(),
            std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::HostUnreachable
            | std::io::ErrorKind::NetworkUnreachable | std::io::ErrorKind::PermissionDenied));
        let transient = !refused
            && matches!(
                err,
                ureq::Error::Io(_)
                    | ureq::Error::Timeout(_)
                    | ureq::Error::ConnectionFailed
                    | ureq::Error::Protocol(_)
            );
        let hopeless = ["certificate", "HTTP response", "no such host"].iter().any(|word| why.contains(word));
        let transient = transient && !hopeless;
        Self { why: Fault::new(Kind::Remote, format!("{place}: {why}")).into(), transient }
    }
}

fn remote(endpoint: &Endpoint, why: &str) -> Failure {
    Failure::fatal(Fault::new(Kind::Remote, format!("registry {}: {why}", endpoint.host)).into())
}

/// The words of the peers where their users search for them.
pub fn explain(err: &ureq::Error) -> String {
    let text = err.to_string();
    if text.contains("InvalidContentType") || text.contains("corrupt message") {
        return "server gave HTTP response to HTTPS client".into();
    }
    if text.contains("UnknownIssuer") {
        return "failed to verify certificate: certificate signed by unknown authority".into();
    }
    match err {
        ureq::Error::HostNotFound => "no such host".into(),
        _ if text.contains("failed to lookup address") => "no such host".into(),
        ureq::Error::Timeout(_) => format!("the registry does not answer ({text})"),
        ureq::Error::Io(err) => err.to_string(),
        _ => text,
    }
}

/// Whether another attempt may get another answer.
fn transient(response: &Response) -> bool {
    matches!(response.status().as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// The `Retry-After` header in seconds; dates are rare enough to be left to the usual delay.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}
