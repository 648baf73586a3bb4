//! The value of a `--format` flag of a command that lists things.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Template;
use crate::output::table;

/// How a list is shown.
#[derive(Debug, Clone)]
pub enum Format {
    /// Padded columns under a header; the template's tabs separate the columns.
    Table(Template),
    /// One JSON object per line.
    Json,
    /// The template once per row, each on a line of its own.
    Template(Template),
}

impl Format {
    /// Reads the value of `--format`: nothing or `table` is the command's own `columns` (a template such as
    /// `{{.ID}}\t{{.Names}}`, without the word `table`), `json` is JSON lines, `table TEMPLATE` the user's columns,
    /// everything else a template per row.
    ///
    /// # Errors
    /// The template does not parse.
    pub fn parse(flag: Option<&str>, columns: &str) -> Result<Self> {
        let text = flag.unwrap_or_default().trim();
        Ok(match text {
            "" | "table" => Self::Table(Template::parse(columns)?),
            "json" => Self::Json,
            _ => match text.strip_prefix("table ") {
                Some(columns) => Self::Table(Template::parse(columns.trim_start())?),
                None => Self::Template(Template::parse(text)?),
            },
        })
    }

    /// The text to print, with a final newline unless there is nothing to show.
    ///
    /// `headings` name the fields of a table where their upper-cased name (`CreatedAt`: `CREATED AT`) will not do.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render(&self, headings: &[(&str, &str)], rows: &[Value]) -> Result<String> {
        match self {
            Self::Table(template) => {
                let header = template.heading(headings)?;
                let header: Vec<&str> = header.split('\t').collect();
                let rows = rows.iter().map(|row| cells(template, row)).collect::<Result<Vec<_>>>()?;
                Ok(table::render(&header, &rows))
            }
            Self::Json => lines(rows, |row| serde_json::to_string(row).context("encode a row")),
            Self::Template(template) => lines(rows, |row| template.render(row)),
        }
    }
}

fn cells(template: &Template, row: &Value) -> Result<Vec<String>> {
    Ok(template.render(row)?.split('\t').map(str::to_owned).collect())
}

fn lines(rows: &[Value], text: impl Fn(&Value) -> Result<String>) -> Result<String> {
    let mut out = String::new();
    for row in rows {
        out.push_str(&text(row)?);
        out.push('\n');
    }
    Ok(out)
}
