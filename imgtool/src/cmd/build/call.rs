//! `--call` and `--check`: questions about a Dockerfile instead of a build; and its warnings before one.

use std::fmt::Write as _;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::fault;
use serde_json::{Value, json};

use crate::build::Options;
use crate::build::context::Context;
use crate::build::dockerfile::instruction::Dockerfile;
use crate::build::dockerfile::{Source, Wrong};
use crate::build::lint::{self, Config, Facts, Warning};
use crate::build::outline;
use crate::build::progress::Progress;
use crate::store::Store;

/// What to do with a Dockerfile.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// Build it.
    Build,
    /// Say what it could do better.
    Check {
        /// For programs.
        json: bool,
    },
    /// Say what a target takes.
    Outline {
        /// For programs.
        json: bool,
    },
    /// List the targets.
    Targets {
        /// For programs.
        json: bool,
    },
}

impl FromStr for Call {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, rest) = text.split_once(',').unwrap_or((text, ""));
        let json = match rest {
            "" | "format=text" => false,
            "format=json" => true,
            other => fault!(Usage, "--call {text}: {other} is not known (format=json)"),
        };
        Ok(match name {
            "build" => Self::Build,
            "check" | "lint" => Self::Check { json },
            "outline" => Self::Outline { json },
            "targets" => Self::Targets { json },
            other => fault!(Usage, "--call {other} is not known (build, check, outline, targets)"),
        })
    }
}

/// Answers what is no build; `None` where a build is wanted.
///
/// # Errors
/// No such target; a bad `# check=`.
pub fn answer(
    call: &Call,
    store: &Store,
    (source, file): (&Source, &Dockerfile),
    context: &Context,
    options: &Options,
) -> Result<Option<Exit>> {
    let text = match call {
        Call::Build => return Ok(None),
        Call::Outline { json } => {
            outline::outline(source, file, options.target.as_deref(), &options.build_args, *json)?
        }
        Call::Targets { json } => outline::targets(source, file, *json)?,
        Call::Check { json } => {
            let (warnings, _) = warnings(store, file, context, options)?;
            let text = if *json { as_json(source, &warnings)? } else { as_text(source, &warnings) };
            crate::stdout::line(text.trim_end())?;
            return Ok(Some(if warnings.is_empty() { Exit::Ok } else { Exit::Failed }));
        }
    };
    crate::stdout::line(text.trim_end_matches('\n'))?;
    Ok(Some(Exit::Ok))
}

/// Tells the warnings before a build; those that the file calls errors stop it.
///
/// # Errors
/// Such a warning; a bad `# check=`.
pub fn warn(
    store: &Store,
    file: &Dockerfile,
    context: &Context,
    options: &Options,
    progress: &Progress,
) -> Result<()> {
    let (warnings, config) = warnings(store, file, context, options)?;
    for warning in &warnings {
        let (rule, line) = (warning.rule.name, warning.span.first);
        progress.note(&format!("WARN: {rule}: {} (line {line})", warning.detail));
    }
    if config.error && !warnings.is_empty() {
        let mut names: Vec<&str> = warnings.iter().map(|warning| warning.rule.name).collect();
        names.dedup();
        fault!(Usage, "lint violation found for rules: {}", names.join(", "));
    }
    Ok(())
}

fn warnings(
    store: &Store,
    file: &Dockerfile,
    context: &Context,
    options: &Options,
) -> Result<(Vec<Warning>, Config)> {
    let asked = options.build_args.iter().rev().find(|(name, _)| name == "BUILDKIT_DOCKERFILE_CHECK");
    let text = asked.map(|(_, value)| value.as_str()).or(file.check.as_deref()).unwrap_or_default();
    let config = Config::parse(text)?;
    // Only what is here already is asked: a check fetches nothing.
    let base = |name: &str| {
        let image = store.image_for(name, &options.platform, false).ok()?;
        Some(image.config.strings("Env"))
    };
    let facts = Facts { ignore: context.ignore(), build_args: &options.build_args, base: &base };
    Ok((lint::check(file, &facts, &config), config))
}

fn as_text(source: &Source, warnings: &[Warning]) -> String {
    let mut out = match warnings.len() {
        0 => return "Check complete, no warnings found.".into(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    for warning in warnings {
        let Warning { rule, detail, span } = warning;
        let _ = writeln!(out, "\nWARNING: {} - {}\n{detail}", rule.name, rule.url());
        let _ = writeln!(out, "{}", source.excerpt(&Wrong::new(*span, "")));
    }
    out
}

fn as_json(source: &Source, warnings: &[Warning]) -> Result<String> {
    let one = |warning: &Warning| {
        json!({
            "ruleName": warning.rule.name, "description": warning.rule.description, "url": warning.rule.url(),
            "detail": warning.detail, "location": outline::location(warning.span),
        })
    };
    let list: Vec<Value> = warnings.iter().map(one).collect();
    let data = contracts::base64::encode(source.text.as_bytes());
    let value = json!({
        "warnings": list,
        "sources": [{"filename": source.name, "data": data, "language": "Dockerfile"}],
    });
    serde_json::to_string_pretty(&value).context("encode the warnings")
}
