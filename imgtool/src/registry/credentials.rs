//! Who we are to a registry: the auth files of Docker and Podman, and their credential helpers.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use contracts::lock::Lock;
use contracts::{atomic, base64, fault};
use serde_json::{Map, Value, json};

/// The key of the hub in Docker's files.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// How to authenticate.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// An identity token, to be exchanged for access tokens.
    IdentityToken(String),
    /// A token to be sent as it is.
    RegistryToken(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Credentials(…)")
    }
}

/// The files to look into, in order: `--authfile`, `REGISTRY_AUTH_FILE`, Podman's, Docker's.
#[must_use]
pub fn files(told: Option<&Path>) -> Vec<PathBuf> {
    if let Some(path) = told {
        return vec![path.to_path_buf()];
    }
    if let Some(path) = env::var_os("REGISTRY_AUTH_FILE").filter(|path| !path.is_empty()) {
        return vec![path.into()];
    }
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let mut files = Vec::new();
    match env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
        Some(dir) => files.push(Path::new(&dir).join("containers/auth.json")),
        None => {
            files.push(format!("/run/containers/{}/auth.json", crate::rootless::uid()).into());
        }
    }
    files.push(home.join(".config/containers/auth.json"));
    files.push(docker_config());
    files
}

/// Docker's own file, which `login` writes unless told otherwise.
#[must_use]
pub fn docker_config() -> PathBuf {
    let dir = env::var_os("DOCKER_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || Path::new(&env::var_os("HOME").unwrap_or_else(|| "/".into())).join(".docker");
    dir.unwrap_or_else(home).join("config.json")
}

/// The credentials for a repository (`host/path`), from the first file that has any.
///
/// # Errors
/// A file does not parse; a credential helper fails.
pub fn find(told: Option<&Path>, host: &str, path: &str) -> Result<Option<Credentials>> {
    for file in files(told) {
        let Some(config) = atomic::read_json::<Value>(&file)? else { continue };
        if let Some(found) =
            find_in(&config, host, path).with_context(|| format!("auth file {}", file.display()))?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn find_in(config: &Value, host: &str, path: &str) -> Result<Option<Credentials>> {
    let server = if is_hub(host) { HUB_KEY } else { host };
    let helper = config["credHelpers"].get(server).or_else(|| config["credHelpers"].get(host));
    if let Some(helper) = helper.and_then(Value::as_str) {
        return ask_helper(helper, server);
    }
    if let Some(entry) = entry_of(config, host, path)
        && let Some(found) = from_entry(entry)?
    {
        return Ok(Some(found));
    }
    match config["credsStore"].as_str().filter(|name| !name.is_empty()) {
        Some(store) => ask_helper(store, server),
        None => Ok(None),
    }
}

/// The most special key of `auths` for a repository: Podman's files may have `host/path` keys, old Docker files URLs.
fn entry_of<'a>(config: &'a Value, host: &str, path: &str) -> Option<&'a Value> {
    let auths = config["auths"].as_object()?;
    let hosts: &[&str] =
        if is_hub(host) { &["docker.io", "index.docker.io", "registry-1.docker.io"] } else { &[host] };
    let mut scopes = vec![String::new()];
    let mut so_far = String::new();
    for part in path.split('/') {
        so_far.push('/');
        so_far.push_str(part);
        scopes.push(so_far.clone());
    }
    for scope in scopes.iter().rev() {
        for host in hosts {
            let wanted = format!("{host}{scope}");
            let same = |key: &str| {
                let plain = key.trim_start_matches("https://").trim_start_matches("http://");
                let plain = plain.trim_end_matches('/');
                plain.strip_suffix("/v1").or(plain.strip_suffix("/v2")).unwrap_or(plain) == wanted
            };
            if let Some((_, entry)) = auths.iter().find(|(key, _)| same(key)) {
                return Some(entry);
            }
        }
    }
    None
}

fn from_entry(entry: &Value) -> Result<Option<Credentials>> {
    let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credentials::IdentityToken(token.into())));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credentials::RegistryToken(token.into())));
    }
    if let Some(coded) = text("auth") {
        let plain = base64::decode(coded).and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((user, password)) = plain.as_deref().and_then(|plain| plain.split_once(':')) else {
            anyhow::bail!("\"auth\" is not base64 of user:password");
        };
        let password = password.trim_matches('\0');
        return Ok(Some(Credentials::Password { user: user.into(), password: password.into() }));
    }
    Ok(text("username")
        .zip(text("password"))
        .map(|(user, password)| Credentials::Password { user: user.into(), password: password.into() }))
}

/// Runs `docker-credential-NAME get`. A name with a slash would run any program, so it is refused.
fn ask_helper(name: &str, server: &str) -> Result<Option<Credentials>> {
    let answer = run_helper(name, "get", server)?;
    let Some(answer) = answer else { return Ok(None) };
    let parsed: Value =
        serde_json::from_str(&answer).with_context(|| format!("answer of credential helper {name}"))?;
    let user = parsed["Username"].as_str().unwrap_or_default().to_owned();
    let password = parsed["Secret"].as_str().unwrap_or_default().to_owned();
    Ok(Some(match user.as_str() {
        "<token>" => Credentials::IdentityToken(password),
        _ => Credentials::Password { user, password },
    }))
}

/// `None` where the helper has nothing for that server.
fn run_helper(name: &str, verb: &str, input: &str) -> Result<Option<String>> {
    contracts::name::check("credential helper", name)?;
    let program = OsString::from(format!("docker-credential-{name}"));
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run credential helper docker-credential-{name}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input has answered already.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("credential helper {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(Some(text));
    }
    if text.contains("credentials not found") {
        return Ok(None);
    }
    let why = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    fault!(Denied, "credential helper {name}: {}", why.trim());
}

/// Stores credentials for `host`; returns the file or helper that has them now.
///
/// # Errors
/// The file cannot be read or written; the helper fails.
pub fn store(told: Option<&Path>, host: &str, credentials: &Credentials) -> Result<String> {
    let path = write_path(told);
    let server = if is_hub(host) { HUB_KEY } else { host };
    let (user, secret) = match credentials {
        Credentials::Password { user, password } => (user.as_str(), password.as_str()),
        Credentials::IdentityToken(token) | Credentials::RegistryToken(token) => ("<token>", token.as_str()),
    };
    change(&path, |config| {
        let helper = helper_for(config, server);
        if let Some(name) = helper {
            let input = json!({ "ServerURL": server, "Username": user, "Secret": secret }).to_string();
            run_helper(&name, "store", &input)?;
            return Ok(format!("credential helper {name}"));
        }
        let entry = match credentials {
            Credentials::Password { user, password } => {
                json!({ "auth": base64::encode(format!("{user}:{password}").as_bytes()) })
            }
            Credentials::IdentityToken(token) => json!({ "identitytoken": token }),
            Credentials::RegistryToken(token) => json!({ "registrytoken": token }),
        };
        let auths = config.entry("auths").or_insert_with(|| json!({}));
        let Some(auths) = auths.as_object_mut() else { anyhow::bail!("\"auths\" is not an object") };
        auths.insert(server.into(), entry);
        Ok(path.display().to_string())
    })
}

/// Forgets the credentials for `host` (all hosts where `None`); says whether there were any.
///
/// # Errors
/// As [`store`].
pub fn erase(told: Option<&Path>, host: Option<&str>) -> Result<bool> {
    let path = write_path(told);
    if !path.exists() {
        return Ok(false);
    }
    change(&path, |config| {
        let auths = config.get_mut("auths").and_then(Value::as_object_mut);
        let Some(host) = host else {
            let had = auths.is_some_and(|auths| !std::mem::take(auths).is_empty());
            return Ok(had);
        };
        let server = if is_hub(host) { HUB_KEY } else { host };
        let had = auths.is_some_and(|auths| auths.remove(server).or_else(|| auths.remove(host)).is_some());
        if let Some(name) = helper_for(config, server) {
            run_helper(&name, "erase", server)?;
            return Ok(true);
        }
        Ok(had)
    })
}

fn helper_for(config: &Map<String, Value>, server: &str) -> Option<String> {
    let special = config.get("credHelpers").and_then(|helpers| helpers.get(server));
    let name = special.or_else(|| config.get("credsStore")).and_then(Value::as_str);
    name.filter(|name| !name.is_empty()).map(Into::into)
}

fn write_path(told: Option<&Path>) -> PathBuf {
    let by_env = || env::var_os("REGISTRY_AUTH_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    told.map(Path::to_path_buf).or_else(by_env).unwrap_or_else(docker_config)
}

/// Changes an auth file in one step, keeping all it holds beside the credentials, readable by its owner only.
fn change<T>(path: &Path, change: impl FnOnce(&mut Map<String, Value>) -> Result<T>) -> Result<T> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    }
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let lock_path = PathBuf::from(lock);
    let lock = Lock::exclusive(&lock_path)?;
    let mut config: Map<String, Value> = atomic::read_json(path)?.unwrap_or_default();
    let before = config.clone();
    let out = change(&mut config).with_context(|| format!("auth file {}", path.display()))?;
    if config != before {
        // As docker writes it, tabs and all: people read and edit this file.
        let mut bytes = Vec::new();
        let indent = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut writer = serde_json::Serializer::with_formatter(&mut bytes, indent);
        serde::Serialize::serialize(&config, &mut writer).context("encode auth file")?;
        atomic::write(path, &bytes, 0o600)?;
    }
    drop(lock);
    Ok(out)
}

/// Whether `host` is one of the hub's names.
#[must_use]
pub fn is_hub(host: &str) -> bool {
    matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_key_is_found() {
        let entry = json!({ "auth": "dTpwOnE=" });
        for (key, host, path) in [
            ("https://index.docker.io/v1/", "registry-1.docker.io", "library/web"),
            ("docker.io", "docker.io", "a/b"),
            ("r.io:5000", "r.io:5000", "a"),
            ("https://r.io/v2/", "r.io", "a"),
            ("r.io/a", "r.io", "a/b"),
        ] {
            let config = json!({ "auths": { key: entry.clone() } });
            let want = Credentials::Password { user: "u".into(), password: "p:q".into() };
            assert_eq!(find_in(&config, host, path).unwrap(), Some(want), "{key}");
        }
        let config = json!({ "auths": { "r.io/ab": entry, "x": {} } });
        assert_eq!(find_in(&config, "r.io", "a").unwrap(), None);
        assert!(find_in(&json!({ "auths": { "r": { "auth": "?" } } }), "r", "a").is_err());
        assert!(find_in(&json!({ "credHelpers": { "r": "../evil" } }), "r", "a").is_err());
    }

    #[test]
    fn storing_and_erasing_keep_the_rest_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/config.json");
        let credentials = Credentials::Password { user: "testuser".into(), password: "testpw".into() };
        store(Some(&path), "10.200.0.1:5443", &credentials).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(
            "\t\"auths\": {\n\t\t\"10.200.0.1:5443\": {\n\t\t\t\"auth\": \"dGVzdHVzZXI6dGVzdHB3\""
        ));
        fs::write(&path, text.replacen('{', "{\"HttpHeaders\":{\"a\":\"b\"},", 1)).unwrap();
        assert_eq!(find(Some(&path), "10.200.0.1:5443", "x").unwrap(), Some(credentials));
        assert!(erase(Some(&path), Some("10.200.0.1:5443")).unwrap());
        assert!(!erase(Some(&path), Some("10.200.0.1:5443")).unwrap());
        assert!(fs::read_to_string(&path).unwrap().contains("HttpHeaders"));
    }
}
