//! Rules about what a stage does: its variables and instructions, one after the other.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{Facts, Found, rule};
use crate::build::dockerfile::expand;
use crate::build::dockerfile::instruction::{Command, Copy, Dockerfile, Instruction, Stage, Step};
use crate::build::{fetch, glob, graph};
use crate::reference::Reference;

/// The variables that every FROM may use.
const PLATFORMS: [&str; 9] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

/// What is known of a stage after its last step; `env` is `None` where its base is not here.
#[derive(Clone, Default)]
struct Known {
    env: Option<Vec<String>>,
    shell: bool,
}

pub(super) fn check(file: &Dockerfile, facts: &Facts<'_>, found: &mut Found) {
    let (mut defaults, mut declared) = (BTreeMap::new(), Vec::new());
    for step in &file.global {
        let Instruction::Arg(names) = &step.instruction else { continue };
        for (name, default) in names {
            secret("ARG", name, step, found);
            let value = default.as_ref().and_then(|text| expanded(text, file.escape, &defaults));
            let given = facts.build_args.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value);
            declared.push((name.clone(), given.cloned().or_else(|| value.clone())));
            defaults.extend(value.map(|value| (name.clone(), value)));
        }
    }
    let mut known: Vec<Known> = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        from(file, stage, &declared, &defaults, found);
        let values: BTreeMap<String, String> =
            declared.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
        let base = expanded(&stage.from.image, file.escape, &values).unwrap_or_default();
        let start = match graph::find(file, index, &base, false) {
            Some(below) => known[below].clone(),
            None if base == "scratch" => Known { env: Some(vec!["PATH".into()]), shell: false },
            None => {
                let keys = |env: Vec<String>| env.iter().map(|entry| key_of(entry)).collect();
                Known { env: (facts.base)(&base).map(keys), shell: false }
            }
        };
        known.push(Walk::new(file, facts, start, found).steps(stage));
    }
}

fn key_of(entry: &str) -> String {
    entry.split('=').next().unwrap_or_default().to_owned()
}

fn expanded(text: &str, escape: char, values: &BTreeMap<String, String>) -> Option<String> {
    expand::word(text, escape, &|name: &str| values.get(name).cloned()).ok()
}

/// The variables that `text` names without a way out (`${x:-default}`).
fn names(text: &str, escape: char, set: &dyn Fn(&str) -> bool) -> Vec<String> {
    let missing = RefCell::new(Vec::new());
    let lookup = |name: &str| {
        if set(name) {
            return Some("x".to_owned());
        }
        missing.borrow_mut().push(name.to_owned());
        None
    };
    let bare = |name: &String| {
        let way_out = ["-", ":-", "+", ":+", "?", ":?"];
        !way_out.iter().any(|form| text.contains(&format!("${{{name}{form}")))
    };
    let _ = expand::word(text, escape, &lookup);
    let mut missing = missing.into_inner();
    missing.retain(bare);
    missing.sort();
    missing.dedup();
    missing
}

fn from(
    file: &Dockerfile,
    stage: &Stage,
    declared: &[(String, Option<String>)],
    defaults: &BTreeMap<String, String>,
    found: &mut Found,
) {
    let set = |name: &str| PLATFORMS.contains(&name) || declared.iter().any(|(known, _)| known == name);
    let image = names(&stage.from.image, file.escape, &set);
    let platform = stage.from.platform.as_deref().unwrap_or_default();
    let undefined: Vec<String> = image.iter().cloned().chain(names(platform, file.escape, &set)).collect();
    for name in &undefined {
        let near = declared.iter().map(|(known, _)| known.as_str()).chain(PLATFORMS);
        let detail = format!("FROM argument '{name}' is not declared{}", hint(name, near, ""));
        found.add(&rule::UNDEFINED_IN_FROM, stage.span, detail);
    }
    let base = expanded(&stage.from.image, file.escape, defaults).unwrap_or_default();
    if image.is_empty() && stage.from.image.contains('$') && base.parse::<Reference>().is_err() {
        let image = &stage.from.image;
        let detail = format!("Default value for ARG {image} results in empty or invalid base image name");
        found.add(&rule::DEFAULT_ARG, stage.span, detail);
    }
    if matches!(platform, "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
        let detail = format!(
            "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
        );
        found.add(&rule::REDUNDANT_PLATFORM, stage.span, detail);
    }
    let mut parts = platform.split('/');
    let name = stage.from.name.as_deref().unwrap_or_default();
    let told = parts.by_ref().take(2).any(|part| !part.is_empty() && name.contains(part));
    if !platform.is_empty() && !platform.contains('$') && !told {
        let detail = format!("FROM --platform flag should not use constant value \"{platform}\"");
        found.add(&rule::CONSTANT_PLATFORM, stage.span, detail);
    }
}

fn secret(instruction: &str, key: &str, step: &Step, found: &mut Found) {
    const SECRET: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    let lower = key.to_ascii_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    if has(&SECRET) && !has(&["public", "file", "version"]) {
        let detail =
            format!("Do not use ARG or ENV instructions for sensitive data ({instruction} \"{key}\")");
        found.add(&rule::SECRETS, step.span, detail);
    }
}

/// ` (did you mean x?)`, where something near is known.
fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str>, sign: &str) -> String {
    let most = if name.len() > 4 { 2 } else { 1 };
    let near = known
        .map(|known| (crate::build::dockerfile::parse::distance(known, name), known))
        .filter(|(distance, _)| *distance <= most)
        .min();
    near.map(|(_, near)| format!(" (did you mean {sign}{near}?)")).unwrap_or_default()
}

/// One stage, step after step.
struct Walk<'a> {
    file: &'a Dockerfile,
    facts: &'a Facts<'a>,
    found: &'a mut Found,
    known: Known,
    args: Vec<String>,
    workdir: bool,
    last: BTreeMap<&'static str, &'a Step>,
}

impl<'a> Walk<'a> {
    fn new(file: &'a Dockerfile, facts: &'a Facts<'a>, known: Known, found: &'a mut Found) -> Self {
        Self { file, facts, found, known, args: Vec::new(), workdir: false, last: BTreeMap::new() }
    }

    fn steps(mut self, stage: &'a Stage) -> Known {
        for step in &stage.steps {
            self.step(step);
        }
        self.known
    }

    fn step(&mut self, step: &'a Step) {
        match &step.instruction {
            Instruction::Arg(names) => {
                for (name, default) in names {
                    secret("ARG", name, step, self.found);
                    self.undefined(default.iter(), step);
                    self.args.push(name.clone());
                }
            }
            Instruction::Env(pairs) => {
                self.undefined(pairs.iter().flat_map(|(key, value)| [key, value]), step);
                for (key, _) in pairs {
                    secret("ENV", key, step, self.found);
                    if let Some(env) = &mut self.known.env {
                        env.push(key.clone());
                    }
                }
            }
            Instruction::Label(pairs) => {
                self.undefined(pairs.iter().flat_map(|(key, value)| [key, value]), step);
            }
            Instruction::Copy(copy) => self.copy(copy, step),
            Instruction::Cmd(command) => self.command("CMD", command, step),
            Instruction::Entrypoint(command) => self.command("ENTRYPOINT", command, step),
            Instruction::Healthcheck(_) => self.once("HEALTHCHECK", step),
            Instruction::Shell(_) => self.known.shell = true,
            Instruction::Expose(ports) => self.expose(ports, step),
            Instruction::Volume(paths) => self.undefined(paths.iter(), step),
            Instruction::User(text) | Instruction::StopSignal(text) => {
                self.undefined(std::iter::once(text), step);
            }
            Instruction::Workdir(dir) => {
                self.undefined(std::iter::once(dir), step);
                if !self.workdir && !dir.starts_with(['/', '$', '"', '\'']) {
                    let detail = format!(
                        "Relative workdir {dir:?} can have unexpected results if the base image changes"
                    );
                    self.found.add(&rule::RELATIVE_WORKDIR, step.span, detail);
                }
                self.workdir = true;
            }
            Instruction::Maintainer(_) => {
                let detail = "Maintainer instruction is deprecated in favor of using label";
                self.found.add(&rule::MAINTAINER, step.span, detail);
            }
            // The shell of a RUN has its own variables.
            Instruction::Run(_) | Instruction::Onbuild(_) => {}
        }
    }

    fn undefined<'t>(&mut self, texts: impl Iterator<Item = &'t String>, step: &Step) {
        // What an image sets that is not here, nobody knows.
        let Some(env) = &self.known.env else { return };
        let set = |name: &str| {
            env.iter().chain(&self.args).any(|known| known == name) || name.starts_with("BUILDKIT_")
        };
        for text in texts {
            for name in names(text, self.file.escape, &set) {
                let near = hint(&name, env.iter().chain(&self.args).map(String::as_str), "$");
                let detail = format!("Usage of undefined variable '${name}'{near}");
                self.found.add(&rule::UNDEFINED, step.span, detail);
            }
        }
    }

    fn copy(&mut self, copy: &Copy, step: &Step) {
        let flags = [&copy.chown, &copy.chmod].into_iter().flatten();
        self.undefined(copy.sources.iter().chain([&copy.dest]).chain(flags), step);
        if copy.from.is_some() || self.facts.ignore.is_empty() || self.facts.ignore.shows_again() {
            return;
        }
        let verb = if copy.add { "Add" } else { "Copy" };
        for source in &copy.sources {
            let path = source.trim_start_matches("./").trim_matches('/');
            let whole = matches!(path, "" | ".");
            if source.contains('$') || fetch::is_remote(source) || glob::is_pattern(path) {
                continue;
            }
            if if whole { self.facts.ignore.hides_all() } else { self.facts.ignore.hides(path) } {
                let path = if whole { "." } else { path };
                let detail =
                    format!("Attempting to {verb} file \"{path}\" that is excluded by .dockerignore");
                self.found.add(&rule::COPY_IGNORED, step.span, detail);
            }
        }
    }

    fn command(&mut self, name: &'static str, command: &Command, step: &'a Step) {
        if matches!(command, Command::Shell(_)) && !self.known.shell {
            let written = &step.form.name;
            let detail = format!(
                "JSON arguments recommended for {written} to prevent unintended behavior related to OS signals"
            );
            self.found.add(&rule::JSON_ARGS, step.span, detail);
        }
        self.once(name, step);
    }

    /// Of several only the last counts: those before it are told of.
    fn once(&mut self, name: &'static str, step: &'a Step) {
        if let Some(earlier) = self.last.insert(name, step) {
            let detail = format!(
                "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
            );
            self.found.add(&rule::MULTIPLE, earlier.span, detail);
        }
    }

    fn expose(&mut self, text: &str, step: &Step) {
        self.undefined(std::iter::once(&text.to_owned()), step);
        for port in text.split_whitespace().filter(|port| !port.contains('$')) {
            if let Some((_, protocol)) = port.split_once('/')
                && protocol.bytes().any(|byte| byte.is_ascii_uppercase())
            {
                let detail = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
                self.found.add(&rule::EXPOSE_CASING, step.span, detail);
            }
            if port.contains(':') {
                let detail = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                );
                self.found.add(&rule::EXPOSE_FORMAT, step.span, detail);
            }
        }
    }
}
