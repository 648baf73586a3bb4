//! Authentication: the registry's challenge, tokens for scopes, and which `Authorization` a request carries.

use anyhow::{Context as _, Result};
use contracts::{base64, fault};
use serde::Deserialize;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};

use super::answer::{self, Response};
use super::client::Client;
use super::credentials::{self, Credentials};
use super::hosts::Endpoint;

/// What a request wants to do, `repository:library/web:pull`. Several are separated by spaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope(pub String);

impl Scope {
    /// Reading a repository.
    #[must_use]
    pub fn pull(path: &str) -> Self {
        Self(format!("repository:{path}:pull"))
    }

    /// Writing a repository.
    #[must_use]
    pub fn push(path: &str) -> Self {
        Self(format!("repository:{path}:pull,push"))
    }

    /// Deleting in a repository.
    #[must_use]
    pub fn delete(path: &str) -> Self {
        Self(format!("repository:{path}:delete,pull"))
    }

    /// Listing repositories.
    #[must_use]
    pub fn catalog() -> Self {
        Self("registry:catalog:*".into())
    }

    /// Nothing in particular (logging in).
    #[must_use]
    pub fn none() -> Self {
        Self(String::new())
    }

    /// Also reading `path`, for mounting its blobs.
    #[must_use]
    pub fn and_pull(&self, path: &str) -> Self {
        Self(format!("{} repository:{path}:pull", self.0))
    }
}

impl Client {
    /// The `Authorization` that worked for this scope, or that the user told us to send.
    pub(super) fn authorization(&self, endpoint: &Endpoint, scope: &Scope) -> Option<String> {
        if let Some(Credentials::RegistryToken(token)) = &self.told {
            return Some(format!("Bearer {token}"));
        }
        let tokens = self.tokens.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        tokens.get(&token_key(endpoint, scope)).or_else(|| tokens.get(&basic_key(endpoint))).cloned()
    }

    /// Gets what the 401 `response` to a request with the authorization `sent` asks for. `false` where there is nothing
    /// more to offer.
    ///
    /// # Errors
    /// The token server fails or refuses.
    pub(super) fn answer_challenge(
        &self,
        endpoint: &Endpoint,
        scope: &Scope,
        response: &Response,
        sent: Option<&str>,
    ) -> Result<bool> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenges: Vec<Challenge> =
            headers.iter().filter_map(|value| value.to_str().ok()).filter_map(Challenge::parse).collect();
        let known = self.known(endpoint)?;
        let (key, value) = if let Some(bearer) = challenges.iter().find(|one| one.scheme == "bearer") {
            if let Some(Credentials::RegistryToken(token)) = &known {
                (token_key(endpoint, scope), format!("Bearer {token}"))
            } else {
                let token = self.token(endpoint, scope, bearer, known.as_ref())?;
                (token_key(endpoint, scope), format!("Bearer {token}"))
            }
        } else if challenges.iter().any(|one| one.scheme == "basic") {
            match known {
                Some(Credentials::Password { user, password }) => {
                    let coded = base64::encode(format!("{user}:{password}").as_bytes());
                    (basic_key(endpoint), format!("Basic {coded}"))
                }
                _ => return Ok(false),
            }
        } else {
            return Ok(false);
        };
        let mut tokens = self.tokens.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // The same again would be refused again. (What is kept may come from another thread, and be unknown to this.)
        let new = sent != Some(value.as_str());
        tokens.insert(key, value);
        Ok(new)
    }

    fn known(&self, endpoint: &Endpoint) -> Result<Option<Credentials>> {
        match &self.told {
            Some(told) => Ok(Some(told.clone())),
            None => credentials::find(self.flags.authfile.as_deref(), &endpoint.host, &endpoint.path),
        }
    }

    fn token(
        &self,
        endpoint: &Endpoint,
        scope: &Scope,
        challenge: &Challenge,
        known: Option<&Credentials>,
    ) -> Result<String> {
        let Some(realm) = challenge.value("realm") else {
            fault!(Remote, "registry {}: Bearer challenge without realm", endpoint.host);
        };
        // A token over plain HTTP could be read by everybody on the way (CVE-2019-10214).
        if !realm.starts_with("https://") && !endpoint.insecure {
            fault!(Remote, "registry {}: token server {realm} is not https: refused", endpoint.host);
        }
        let agent = self.agent(realm, endpoint.insecure)?;
        let mut parameters = vec![("service", challenge.value("service").unwrap_or_default().to_owned())];
        let asked = challenge.value("scope").map(str::to_owned).filter(|_| scope.0.is_empty());
        for one in asked.as_deref().unwrap_or(&scope.0).split(' ').filter(|one| !one.is_empty()) {
            parameters.push(("scope", one.to_owned()));
        }
        let sent = match known {
            Some(Credentials::IdentityToken(token)) => {
                parameters.push(("grant_type", "refresh_token".into()));
                parameters.push(("client_id", "bulkhead".into()));
                parameters.push(("refresh_token", token.clone()));
                let form = agent.post(realm).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
                form.send(query(&parameters))
            }
            _ => {
                let mark = if realm.contains('?') { '&' } else { '?' };
                let mut request = agent.get(format!("{realm}{mark}{}", query(&parameters)));
                if let Some(Credentials::Password { user, password }) = known {
                    let coded = base64::encode(format!("{user}:{password}").as_bytes());
                    request = request.header(AUTHORIZATION, format!("Basic {coded}"));
                }
                request.call()
            }
        };
        let response = match sent {
            Ok(response) => response,
            Err(err) => fault!(Remote, "token server {realm}: {err}"),
        };
        let response = answer::expect(response, &[200], &format!("token server {realm}")).map_err(|err| {
            anyhow::Error::from(contracts::fault::Fault::new(
                contracts::fault::Kind::Remote,
                format!("{err:#}"),
            ))
        })?;
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            token: Option<String>,
            #[serde(default)]
            access_token: Option<String>,
        }
        let answer: Answer = serde_json::from_slice(&answer::read(response, 1 << 20)?)
            .with_context(|| format!("answer of {realm}"))?;
        match answer.token.or(answer.access_token).filter(|token| !token.is_empty()) {
            Some(token) => Ok(token),
            None => fault!(Remote, "token server {realm} gave no token"),
        }
    }
}

fn token_key(endpoint: &Endpoint, scope: &Scope) -> String {
    format!("{} {}", endpoint.host, scope.0)
}

fn basic_key(endpoint: &Endpoint) -> String {
    format!("{} basic", endpoint.host)
}

/// `application/x-www-form-urlencoded`.
pub(super) fn query(parameters: &[(&str, String)]) -> String {
    let coded = |text: &str| {
        text.bytes().fold(String::new(), |mut out, byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
            out
        })
    };
    let pairs: Vec<String> =
        parameters.iter().map(|(key, value)| format!("{}={}", coded(key), coded(value))).collect();
    pairs.join("&")
}

/// One `WWW-Authenticate` header (RFC 9110 §11.6.1, one challenge per header as registries send it).
struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let mut parameters = Vec::new();
        while let Some((key, after)) = rest.split_once('=') {
            let key = key.trim_matches([' ', ',']).to_lowercase();
            let (value, next) = match after.strip_prefix('"') {
                Some(quoted) => unquote(quoted)?,
                None => {
                    let end = after.find(',').unwrap_or(after.len());
                    (after[..end].trim().to_owned(), &after[end..])
                }
            };
            parameters.push((key, value));
            rest = next;
        }
        Some(Self { scheme: scheme.to_lowercase(), parameters })
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.parameters.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str())
    }
}

/// The text up to the closing quote, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_with_commas_and_escapes() {
        let parsed = Challenge::parse(
            r#"Bearer realm="https://a/t?x=1",service="s, \"q\"", scope="repository:a:pull,push""#,
        )
        .unwrap();
        assert_eq!(parsed.scheme, "bearer");
        assert_eq!(parsed.value("realm"), Some("https://a/t?x=1"));
        assert_eq!(parsed.value("service"), Some("s, \"q\""));
        assert_eq!(parsed.value("scope"), Some("repository:a:pull,push"));
        assert_eq!(Challenge::parse("Basic realm=x").unwrap().value("realm"), Some("x"));
        assert_eq!(Challenge::parse("Negotiate").unwrap().scheme, "negotiate");
        assert!(Challenge::parse("Bearer realm=\"x").is_none());
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(
            query(&[("scope", "repository:a/b:pull,push".into())]),
            "scope=repository%3Aa%2Fb%3Apull%2Cpush"
        );
    }
}
