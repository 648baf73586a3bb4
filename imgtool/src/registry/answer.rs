//! What a registry answers: its content, where it sends us, and what to say when it refuses.

use std::io::Read as _;

use anyhow::{Context as _, Result};
use contracts::fault;
use serde::Deserialize;
use ureq::Body;
use ureq::http::header::LOCATION;
use ureq::http::{self, StatusCode};

use super::url::{origin, without_secrets};

/// An answer, whatever its status.
pub type Response = http::Response<Body>;

/// An answer with one of the statuses `good`; everything else is an error with the registry's own words.
///
/// # Errors
/// `NotFound` for 404, `Remote` else.
pub fn expect(response: Response, good: &[u16], what: &str) -> Result<Response> {
    let status = response.status();
    if good.contains(&status.as_u16()) {
        return Ok(response);
    }
    let words = words_of(response);
    let words = if words.is_empty() { String::new() } else { format!(": {words}") };
    if status == StatusCode::NOT_FOUND {
        fault!(NotFound, "{what} not found{words}");
    }
    fault!(Remote, "{what}: {status}{words}");
}

/// What the body of an error says, on one line and of a bearable length.
fn words_of(response: Response) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: Option<String>,
    }
    let mut bytes = Vec::new();
    if response.into_body().into_reader().take(16 << 10).read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    let words = match serde_json::from_slice::<Errors>(&bytes) {
        Ok(parsed) => {
            let text = |entry: Entry| entry.message.filter(|text| !text.is_empty()).unwrap_or(entry.code);
            parsed.errors.into_iter().map(text).collect::<Vec<_>>().join("; ")
        }
        // An HTML page explains nothing.
        Err(_) => String::from_utf8(bytes).ok().filter(|text| !text.contains('<')).unwrap_or_default(),
    };
    let plain: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    plain.trim().to_owned()
}

/// Reads an answer of at most `limit` bytes whole.
///
/// # Errors
/// Longer, or the connection breaks.
pub fn read(response: Response, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = response.into_body().into_reader().take(limit + 1);
    reader.read_to_end(&mut bytes).context("read the registry's answer")?;
    if bytes.len() as u64 > limit {
        fault!(Remote, "the registry's answer is longer than {limit} bytes");
    }
    Ok(bytes)
}

/// Where a redirect or an upload's `Location` goes, made absolute.
///
/// # Errors
/// No usable `Location`.
pub fn target(from: &str, response: &Response) -> Result<String> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let Some(location) = location else {
        fault!(Remote, "{}: {} without a Location", without_secrets(from), response.status());
    };
    if location.starts_with("https://") || location.starts_with("http://") {
        return Ok(location.to_owned());
    }
    let Some(path) = location.strip_prefix('/') else {
        let base = from.split('?').next().unwrap_or_default();
        let base = base.rsplit_once('/').map_or(base, |(dir, _)| dir);
        return Ok(format!("{base}/{location}"));
    };
    Ok(format!("{}/{path}", origin(from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_become_absolute() {
        let at = |location: &str| {
            let response =
                http::Response::builder().header(LOCATION, location).body(Body::builder().data("")).unwrap();
            target("http://r:5/v2/a/blobs/uploads/?mount=x", &response).unwrap()
        };
        assert_eq!(at("/v2/a/u1?s=1"), "http://r:5/v2/a/u1?s=1");
        assert_eq!(at("https://cdn/x"), "https://cdn/x");
        assert_eq!(at("u1"), "http://r:5/v2/a/blobs/uploads/u1");
    }
}
