//! The image config as a stage changes it, and the instructions that change nothing else.

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use super::dockerfile::expand;
use super::dockerfile::instruction::{Command, Health, Instruction};
use super::exchange::Records;
use crate::bundle::config::PATH;
use crate::layer::tree;
use crate::store::config::{History, ImageConfig};
use crate::store::digest::Digest;
use crate::store::document::{Descriptor, Platform};

/// What a stage has made so far.
#[derive(Debug, Clone)]
pub struct State {
    /// The image config.
    pub config: ImageConfig,
    /// The layers, lowest first.
    pub layers: Vec<(Descriptor, Digest)>,
    /// ARGs in force, in the order of their declaration.
    pub args: Vec<(String, String)>,
    /// The escape character of the file.
    pub escape: char,
    /// CMD was given in this stage: ENTRYPOINT leaves it.
    own_cmd: bool,
    /// Time of the newest layer: what config-only changes are dated by, so that a cached build gives the same image.
    pub time: Option<String>,
    /// What the steps made that it consists of, by their keys.
    pub records: Records,
    /// How many of the layers come from an image.
    pub base_layers: usize,
}

/// The shell of shell forms unless SHELL says otherwise.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

impl State {
    /// An empty image, with the search path that BuildKit gives it.
    #[must_use]
    pub fn scratch(platform: &Platform, escape: char) -> Self {
        let config = json!({"Env": [format!("PATH={PATH}")], "WorkingDir": "/"});
        let config = ImageConfig {
            config: config.as_object().cloned().unwrap_or_default(),
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            ..ImageConfig::default()
        };
        Self {
            config,
            layers: Vec::new(),
            args: Vec::new(),
            escape,
            own_cmd: false,
            time: None,
            records: Records::new(),
            base_layers: 0,
        }
    }

    /// An image to go on from.
    #[must_use]
    pub fn over(config: ImageConfig, layers: Vec<(Descriptor, Digest)>, escape: char) -> Self {
        let (time, base_layers) = (config.created.clone(), layers.len());
        let records = Records::new();
        Self { config, layers, args: Vec::new(), escape, own_cmd: false, time, records, base_layers }
    }

    /// Another stage to go on from.
    #[must_use]
    pub fn above(below: &Self, escape: char) -> Self {
        Self { args: Vec::new(), escape, own_cmd: false, ..below.clone() }
    }

    /// The variables that instructions see: ENV first, then ARG.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<String> {
        let env = self.env().into_iter().find(|(key, _)| key == name);
        env.or_else(|| self.args.iter().rev().find(|(key, _)| key == name).cloned()).map(|(_, value)| value)
    }

    /// Expands a word.
    ///
    /// # Errors
    /// A syntax error in it.
    pub fn expand(&self, text: &str) -> Result<String> {
        let lookup = |name: &str| self.value(name);
        match expand::word(text, self.escape, &lookup) {
            Ok(word) => Ok(word),
            Err(why) => bail!("failed to process \"{text}\": {why}"),
        }
    }

    /// Expands the body of a heredoc: variables only, quotes stay.
    ///
    /// # Errors
    /// A syntax error in it.
    pub fn expand_body(&self, text: &str) -> Result<String> {
        let lookup = |name: &str| self.value(name);
        match expand::body(text, self.escape, &lookup) {
            Ok(text) => Ok(text),
            Err(why) => bail!("failed to process a heredoc: {why}"),
        }
    }

    /// The environment.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let split = |entry: String| match entry.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (entry, String::new()),
        };
        self.config.strings("Env").into_iter().map(split).collect()
    }

    /// The working directory; `/` where none is set.
    #[must_use]
    pub fn workdir(&self) -> String {
        let dir = self.text("WorkingDir");
        if dir.is_empty() { "/".into() } else { dir }
    }

    /// The user spec.
    #[must_use]
    pub fn user(&self) -> String {
        self.text("User")
    }

    fn text(&self, key: &str) -> String {
        self.config.config.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// A command as words.
    #[must_use]
    pub fn words(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => {
                let mut words = self.config.strings("Shell");
                if words.is_empty() {
                    words = SHELL.map(str::to_owned).to_vec();
                }
                words.push(text.clone());
                words
            }
        }
    }

    /// Adds a line to the history.
    pub fn note(&mut self, text: String, empty_layer: bool) {
        self.config.history.push(History {
            created: self.time.clone(),
            created_by: Some(text),
            author: None,
            comment: Some("buildkit.dockerfile.v0".into()),
            empty_layer,
        });
    }

    /// Does an instruction that changes the config only. Returns what the history says, or `None` where the
    /// instruction needs a rootfs.
    ///
    /// # Errors
    /// A value that is not allowed.
    pub fn configure(&mut self, instruction: &Instruction) -> Result<Option<String>> {
        let text = match instruction {
            Instruction::Env(pairs) => {
                let pairs = self.expanded(pairs)?;
                for (key, value) in &pairs {
                    self.set_env(key, value);
                }
                format!("ENV {}", joined(&pairs))
            }
            Instruction::Label(pairs) => {
                let pairs = self.expanded(pairs)?;
                for (key, value) in &pairs {
                    self.map("Labels").insert(key.clone(), json!(value));
                }
                format!("LABEL {}", joined(&pairs))
            }
            Instruction::Cmd(command) => {
                let words = self.words(command);
                self.own_cmd = true;
                self.set("Cmd", json!(words));
                format!("CMD {}", go_list(&words))
            }
            Instruction::Entrypoint(command) => {
                let words = self.words(command);
                // An inherited CMD was meant for another program.
                if !self.own_cmd {
                    self.config.config.remove("Cmd");
                }
                self.set("Entrypoint", json!(words));
                format!("ENTRYPOINT {}", go_list(&words))
            }
            Instruction::Shell(words) => {
                self.set("Shell", json!(words));
                format!("SHELL [{}]", words.join(" "))
            }
            Instruction::Expose(text) => self.expose(text)?,
            Instruction::Volume(paths) => {
                let paths: Vec<String> = paths.iter().map(|path| self.expand(path)).collect::<Result<_>>()?;
                for path in &paths {
                    anyhow::ensure!(!path.is_empty(), "VOLUME specified can not be an empty string");
                    self.map("Volumes").insert(path.clone(), json!({}));
                }
                format!("VOLUME [{}]", paths.join(" "))
            }
            Instruction::User(user) => {
                let user = self.expand(user)?;
                self.set("User", json!(user));
                format!("USER {user}")
            }
            Instruction::StopSignal(signal) => {
                let signal = self.expand(signal)?;
                anyhow::ensure!(is_signal(&signal), "{signal} is not a signal");
                self.set("StopSignal", json!(signal));
                format!("STOPSIGNAL {signal}")
            }
            Instruction::Maintainer(name) => {
                self.config.author = Some(self.expand(name)?);
                format!("MAINTAINER {name}")
            }
            Instruction::Healthcheck(health) => self.healthcheck(health),
            Instruction::Onbuild(trigger) => {
                let list = self.config.config.entry("OnBuild").or_insert_with(|| json!([]));
                match list.as_array_mut() {
                    Some(list) => list.push(json!(trigger)),
                    None => *list = json!([trigger]),
                }
                format!("ONBUILD {trigger}")
            }
            Instruction::Arg(_) | Instruction::Run(_) | Instruction::Copy(_) | Instruction::Workdir(_) => {
                return Ok(None);
            }
        };
        Ok(Some(text))
    }

    /// All values are expanded with what was in force before the instruction.
    fn expanded(&self, pairs: &[(String, String)]) -> Result<Vec<(String, String)>> {
        pairs.iter().map(|(key, value)| Ok((self.expand(key)?, self.expand(value)?))).collect()
    }

    fn set_env(&mut self, key: &str, value: &str) {
        let mut env = self.config.strings("Env");
        let entry = format!("{key}={value}");
        match env.iter_mut().find(|old| old.split('=').next() == Some(key)) {
            Some(old) => *old = entry,
            None => env.push(entry),
        }
        self.set("Env", json!(env));
    }

    /// Sets a key of the config.
    pub fn set(&mut self, key: &str, value: Value) {
        self.config.config.insert(key.to_owned(), value);
    }

    fn map(&mut self, key: &str) -> &mut Map<String, Value> {
        let value = self.config.config.entry(key).or_insert_with(|| json!({}));
        if !value.is_object() {
            *value = json!({});
        }
        match value {
            Value::Object(map) => map,
            _ => unreachable!("it was made an object above"),
        }
    }

    fn expose(&mut self, text: &str) -> Result<String> {
        let lookup = |name: &str| self.value(name);
        let words = match expand::words(text, self.escape, &lookup) {
            Ok(words) => words,
            Err(why) => bail!("failed to process \"{text}\": {why}"),
        };
        let mut ports = Vec::new();
        for word in words {
            let (range, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
            let protocol = protocol.to_ascii_lowercase();
            let known = matches!(protocol.as_str(), "tcp" | "udp" | "sctp");
            let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
            // An address or a port of the host before it says nothing here; the check tells of it.
            let range = range.rsplit(':').next().unwrap_or_default();
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (Some(first), Some(last), true) = (port(first), port(last), known) else {
                bail!("invalid containerPort: {word}")
            };
            anyhow::ensure!(first <= last, "invalid containerPort: {word}: the range is empty");
            ports.extend((first..=last).map(|port| format!("{port}/{protocol}")));
        }
        for port in &ports {
            self.map("ExposedPorts").insert(port.clone(), json!({}));
        }
        Ok(format!("EXPOSE [{}]", ports.join(" ")))
    }

    fn healthcheck(&mut self, health: &Health) -> String {
        let test = match &health.command {
            None => vec!["NONE".to_owned()],
            Some(Command::Shell(text)) => vec!["CMD-SHELL".into(), text.clone()],
            Some(Command::Exec(words)) => [&["CMD".to_owned()], words.as_slice()].concat(),
        };
        let mut value = json!({"Test": test});
        for (key, number) in [
            ("Interval", health.interval),
            ("Timeout", health.timeout),
            ("StartPeriod", health.start_period),
            ("StartInterval", health.start_interval),
            ("Retries", health.retries),
        ] {
            if number != 0 {
                value[key] = json!(number);
            }
        }
        self.set("Healthcheck", value);
        format!("HEALTHCHECK {}", go_list(&test))
    }

    /// WORKDIR: the new directory, absolute.
    ///
    /// # Errors
    /// A syntax error in it.
    pub fn change_directory(&mut self, text: &str) -> Result<String> {
        let dir = self.expand(text)?;
        anyhow::ensure!(!dir.is_empty(), "WORKDIR cannot be empty");
        // An absolute one stays as it was written, as BuildKit has it.
        let dir = if dir.starts_with('/') {
            dir
        } else {
            let path = std::path::Path::new(&self.workdir()).join(&dir);
            format!("/{}", tree::clean(path.to_str().context("WORKDIR is not UTF-8")?.as_bytes())?.display())
        };
        self.set("WorkingDir", json!(dir));
        Ok(dir)
    }
}

fn joined(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// `["a" "b"]`, as docker's history shows lists.
fn go_list(words: &[String]) -> String {
    format!("[{}]", words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" "))
}

fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time = name.strip_prefix("RTMIN+").or_else(|| name.strip_prefix("RTMAX-"));
    real_time.is_some_and(|offset| offset.parse::<u8>().is_ok_and(|offset| offset <= 30))
        || matches!(name, "RTMIN" | "RTMAX" | "IOT" | "CLD" | "POLL")
        || nix::sys::signal::Signal::iterator()
            .any(|signal| signal.as_str().strip_prefix("SIG") == Some(name))
}
