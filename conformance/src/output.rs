//! What a run prints: text, TAP or JSON lines, and the one line of counts.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::case::Case;
use crate::tool::Tool;

/// How a case came out.
#[derive(Debug)]
pub enum Verdict {
    /// As the specification says.
    Passed,
    /// Not so: how.
    Failed(String),
    /// Not so, and listed in `known.rs`: how, and why that is accepted.
    Known(String, &'static str),
    /// Not possible here: why.
    Skipped(String),
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For people: failures, skips and known differences with their reasons; passes only counted.
    Text,
    /// Test Anything Protocol 13.
    Tap,
    /// One object per case.
    Json,
}

/// Collects and prints verdicts.
#[derive(Debug)]
pub struct Report {
    style: Style,
    passed: usize,
    failed: usize,
    skipped: usize,
    known: usize,
}

impl Report {
    /// An empty report.
    #[must_use]
    pub const fn new(style: Style) -> Self {
        Self { style, passed: 0, failed: 0, skipped: 0, known: 0 }
    }

    /// The cases and their sections.
    ///
    /// # Errors
    /// stdout is closed.
    pub fn list(&self, cases: &[&Case]) -> Result<()> {
        let mut out = io::stdout().lock();
        for case in cases {
            match self.style {
                Style::Json => writeln!(out, "{}", json!({"name": case.name, "section": case.section}))?,
                _ => writeln!(out, "{:40} {}", case.name, case.section)?,
            }
        }
        Ok(())
    }

    /// The head of the report.
    ///
    /// # Errors
    /// stdout is closed.
    pub fn start(&self, tool: &Tool, count: usize) -> Result<()> {
        let mut out = io::stdout().lock();
        match self.style {
            Style::Text => writeln!(out, "{count} cases for {}", tool.path.display())?,
            Style::Tap => writeln!(out, "TAP version 13\n1..{count}")?,
            Style::Json => {}
        }
        Ok(())
    }

    /// One more verdict.
    ///
    /// # Errors
    /// stdout is closed.
    pub fn add(&mut self, case: &Case, verdict: &Verdict, took: Duration) -> Result<()> {
        let (count, word, reason) = match verdict {
            Verdict::Passed => (&mut self.passed, "passed", String::new()),
            Verdict::Failed(how) => (&mut self.failed, "failed", how.clone()),
            Verdict::Known(how, why) => (&mut self.known, "known", format!("{why} ({how})")),
            Verdict::Skipped(why) => (&mut self.skipped, "skipped", why.clone()),
        };
        *count += 1;
        let number = self.passed + self.failed + self.skipped + self.known;
        let (name, section) = (case.name, case.section);
        let mut out = io::stdout().lock();
        match self.style {
            Style::Text if matches!(verdict, Verdict::Passed) => {}
            Style::Text => writeln!(out, "{word:8} {name} [{section}]: {reason}")?,
            Style::Tap => {
                let reason = reason.replace('#', "%").replace('\n', " ");
                match verdict {
                    Verdict::Passed => writeln!(out, "ok {number} - {name} {section}")?,
                    Verdict::Skipped(_) => writeln!(out, "ok {number} - {name} # SKIP {reason}")?,
                    Verdict::Known(..) => writeln!(out, "not ok {number} - {name} # TODO {reason}")?,
                    Verdict::Failed(_) => writeln!(out, "not ok {number} - {name} {section}\n# {reason}")?,
                }
            }
            Style::Json => {
                let row = json!({
                    "name": name, "section": section, "verdict": word, "reason": reason,
                    "ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                });
                writeln!(out, "{row}")?;
            }
        }
        Ok(())
    }

    /// The line of counts; true when nothing failed.
    ///
    /// # Errors
    /// stdout is closed.
    pub fn finish(&self) -> Result<bool> {
        let known =
            if self.known > 0 { format!(", {} known differences", self.known) } else { String::new() };
        let line = format!("{} passed, {} failed, {} skipped{known}", self.passed, self.failed, self.skipped);
        match self.style {
            Style::Text => writeln!(io::stdout(), "{line}")?,
            Style::Tap => writeln!(io::stdout(), "# {line}")?,
            // The lines are for a program; the counts are for whoever watches it.
            Style::Json => writeln!(io::stderr(), "{line}")?,
        }
        Ok(self.failed == 0)
    }
}
