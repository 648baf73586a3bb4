//! `--format` templates: the part of Go's text/template that docker users write, over JSON values.
//!
//! ```text
//! {{.Names}} {{json .Labels}} {{range $k, $v := .Ports}}{{$k}}={{$v}} {{else}}none{{end}}
//! table {{.ID}}\t{{.Status | upper}}
//! ```
//! A missing key prints `<no value>`, maps are walked in key order, lists print as `[a b]` and maps as `map[k:v]`,
//! as in Go. `\t` and `\n` in the text of a template are a tab and a newline, as docker reads them.

mod eval;
mod format;
mod functions;
mod lex;
mod parse;
mod print;
#[cfg(test)]
mod tests;

use anyhow::{Context as _, Result};
use serde_json::Value;

pub use format::Format;

/// A template, parsed once and rendered for many values.
#[derive(Debug, Clone)]
pub struct Template {
    nodes: Vec<parse::Node>,
}

impl Template {
    /// Parses `text`.
    ///
    /// # Errors
    /// A syntax error or an unknown function, with its byte offset in `text`.
    pub fn parse(text: &str) -> Result<Self> {
        let nodes =
            lex::pieces(text).and_then(parse::nodes).with_context(|| format!("format template {text:?}"))?;
        Ok(Self { nodes })
    }

    /// The template's text for `value`.
    ///
    /// # Errors
    /// What Go would refuse at run time: a field of something that has none, an index out of range, a comparison of
    /// unlike kinds, a wrong number of arguments.
    pub fn render(&self, value: &Value) -> Result<String> {
        self.render_with(value, &[])
    }

    /// As [`Template::render`]; a field that is there and null prints as `nulls` has it by its name: `("Binds", "[]")`.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render_with(&self, value: &Value, nulls: &[(&str, &str)]) -> Result<String> {
        eval::run(&self.nodes, value, None, nulls).context("format template")
    }

    /// The header line of a `table` template: every field stands for its heading.
    fn heading(&self, headings: &[(&str, &str)]) -> Result<String> {
        eval::run(&self.nodes, &Value::Null, Some(headings), &[]).context("format template")
    }
}

/// Parses `template` and renders it for one value.
///
/// # Errors
/// As [`Template::parse`] and [`Template::render`].
pub fn render(template: &str, value: &Value) -> Result<String> {
    Template::parse(template)?.render(value)
}
