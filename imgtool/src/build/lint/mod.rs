//! What a Dockerfile could do better: BuildKit's rules, each with its lines.

pub mod rule;
mod stage;
mod whole;

pub use whole::describes;

use anyhow::Result;
use contracts::fault;

use super::dockerfile::Span;
use super::dockerfile::instruction::Dockerfile;
use super::ignore::Ignore;
use rule::Rule;

/// A broken rule.
#[derive(Debug)]
pub struct Warning {
    /// The rule.
    pub rule: &'static Rule,
    /// What breaks it.
    pub detail: String,
    /// Where.
    pub span: Span,
}

/// What the file's `# check=` directive, or the build argument that stands for it, says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Config {
    skip: Vec<String>,
    experimental: Vec<String>,
    /// A broken rule stops the build.
    pub error: bool,
}

impl Config {
    /// Reads `skip=A,B;error=true;experimental=all`.
    ///
    /// # Errors
    /// An unknown option.
    pub fn parse(text: &str) -> Result<Self> {
        let mut config = Self::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((key, value)) = part.split_once('=') else {
                fault!(Usage, "invalid check option \"{part}\"")
            };
            let list = || value.split(',').map(|rule| rule.trim().to_ascii_lowercase()).collect();
            match key.trim() {
                "skip" => config.skip = list(),
                "experimental" => config.experimental = list(),
                "error" => match value.trim() {
                    "true" | "1" => config.error = true,
                    "false" | "0" => config.error = false,
                    _ => fault!(Usage, "failed to parse check option \"{part}\""),
                },
                other => fault!(Usage, "invalid check option \"{other}\""),
            }
        }
        Ok(config)
    }

    fn wants(&self, rule: &Rule) -> bool {
        let named = |list: &[String]| {
            list.iter().any(|name| name == "all" || *name == rule.name.to_ascii_lowercase())
        };
        if rule.experimental { named(&self.experimental) } else { !named(&self.skip) }
    }
}

/// What a check is told beside the file.
pub struct Facts<'a> {
    /// The context's `.dockerignore`.
    pub ignore: &'a Ignore,
    /// `--build-arg`.
    pub build_args: &'a [(String, String)],
    /// The variables of an image by its name; `None` where it is not here.
    pub base: &'a dyn Fn(&str) -> Option<Vec<String>>,
}

/// Every rule that `file` breaks, in the order of its lines.
#[must_use]
pub fn check(file: &Dockerfile, facts: &Facts<'_>, config: &Config) -> Vec<Warning> {
    let mut found = Found(Vec::new());
    whole::check(file, &mut found);
    stage::check(file, facts, &mut found);
    let mut warnings = found.0;
    warnings.retain(|warning| config.wants(warning.rule));
    warnings.sort_by_key(|warning| (warning.span.first, warning.span.last));
    warnings
}

/// Gathers warnings.
struct Found(Vec<Warning>);

impl Found {
    fn add(&mut self, rule: &'static Rule, span: Span, detail: impl Into<String>) {
        self.0.push(Warning { rule, detail: detail.into(), span });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::dockerfile::parse;

    fn broken(text: &str) -> Vec<(&'static str, usize)> {
        let ignore = Ignore::parse("hidden\n");
        let base = |_: &str| Some(vec!["PATH=/bin".to_owned()]);
        let facts = Facts { ignore: &ignore, build_args: &[], base: &base };
        let file = parse::dockerfile(text).unwrap();
        let config = Config::parse(file.check.as_deref().unwrap_or_default()).unwrap();
        check(&file, &facts, &config).iter().map(|warning| (warning.rule.name, warning.span.first)).collect()
    }

    #[test]
    fn every_rule_finds_what_breaks_it() {
        for (text, rule, line) in [
            ("FROM a\ncopy x /\nCMD [\"x\"]", "ConsistentInstructionCasing", 2),
            ("FROM a\nCOPY hidden /", "CopyIgnoredFile", 2),
            ("FROM a AS x\nFROM b AS x", "DuplicateStageName", 2),
            ("FROM a\nEXPOSE 1:2", "ExposeInvalidFormat", 2),
            ("FROM a\nEXPOSE 1/TCP", "ExposeProtoCasing", 2),
            ("FROM a as x", "FromAsCasing", 1),
            ("FROM --platform=linux/arm64 a", "FromPlatformFlagConstDisallowed", 1),
            ("ARG X\nFROM a:$X", "InvalidDefaultArgInFrom", 2),
            ("# check=experimental=all\n\n# no\nFROM a AS x", "InvalidDefinitionDescription", 4),
            ("FROM a\nENTRYPOINT x", "JSONArgsRecommended", 2),
            ("FROM a\nLABEL a b", "LegacyKeyValueFormat", 2),
            ("FROM a\nMAINTAINER x", "MaintainerDeprecated", 2),
            ("FROM a\nCMD [\"x\"]\nCMD [\"y\"]", "MultipleInstructionsDisallowed", 2),
            ("FROM a\nRUN x \\\n\n y", "NoEmptyContinuation", 2),
            ("FROM --platform=$TARGETPLATFORM a", "RedundantTargetPlatform", 1),
            ("FROM a AS scratch", "ReservedStageName", 1),
            ("FROM a\nARG DB_PASSWORD", "SecretsUsedInArgOrEnv", 2),
            ("FROM a AS X", "StageNameCasing", 1),
            ("FROM a$Y", "UndefinedArgInFrom", 1),
            ("FROM a\nCOPY $y /", "UndefinedVar", 2),
            ("FROM a\nWORKDIR x", "WorkdirRelativePath", 2),
        ] {
            assert_eq!(broken(text), [(rule, line)], "{text}");
        }
    }

    #[test]
    fn what_keeps_the_rules_is_not_told_of() {
        for text in [
            "# syntax=docker/dockerfile:1\nARG V=1\nFROM --platform=$BUILDPLATFORM a:$V AS x\nARG V\nCOPY --from=y $V /\n",
            "from a as x\nrun y\nworkdir /a\nworkdir b",
            "FROM a\nSHELL [\"s\"]\nCMD x\nENV PUBLIC_KEY=1 K=$PATH\nRUN echo $nobody",
            "FROM a AS x\nENV Y=1\nFROM x\nCOPY $Y /\nARG U\nCOPY ${U:-d} /",
            "FROM --platform=linux/arm64 a AS build-arm64\nFROM a\nRUN x \\\n # c\n y",
        ] {
            assert_eq!(broken(text), [], "{text}");
        }
        assert_eq!(
            broken("# check=skip=StageNameCasing, maintainerdeprecated\nFROM a AS X\nMAINTAINER y"),
            []
        );
        assert!(Config::parse("error=true;skip=all").unwrap().error);
        assert!(Config::parse("nope=1").is_err() && Config::parse("skip").is_err());
    }
}
