//! The Dockerfile language, as BuildKit reads it.

pub mod expand;
pub mod heredoc;
pub mod instruction;
pub mod lexer;
pub mod parse;
pub mod words;

use std::fmt::Write as _;

/// A Dockerfile's text with the name to show in errors.
#[derive(Debug, Clone)]
pub struct Source {
    /// As the user wrote it.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// Lines of a Dockerfile, counted from 1, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First line.
    pub first: usize,
    /// Last line.
    pub last: usize,
}

/// An error in, or caused by, some lines of a Dockerfile.
#[derive(Debug, Clone)]
pub struct Wrong {
    /// Where.
    pub span: Span,
    /// The part of the text to point at, if it is known.
    pub at: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl Wrong {
    /// An error about whole lines.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, at: None, message: message.into() }
    }

    /// An error about `at`, a piece of the text of `span`.
    pub fn at(span: Span, at: &str, message: impl Into<String>) -> Self {
        Self { span, at: Some(at.to_owned()), message: message.into() }
    }
}

impl Source {
    /// The lines of `wrong` with those around them, marked, and a caret under the piece that is wrong.
    #[must_use]
    pub fn excerpt(&self, wrong: &Wrong) -> String {
        let Span { first, last } = wrong.span;
        let mut out = format!("{}:{first}\n--------------------\n", self.name);
        let (from, to) = (first.saturating_sub(2).max(1), last + 2);
        let mut pointed = false;
        for (number, line) in self.text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
            if number < from || number > to {
                continue;
            }
            let inside = (first..=last).contains(&number);
            let mark = if inside { ">>>" } else { "   " };
            let shown: String =
                line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
            let _ = writeln!(out, "{number:4} | {mark} {shown}");
            let column =
                wrong.at.as_ref().filter(|_| inside && !pointed).and_then(|at| line.find(at.as_str()));
            if let Some(column) = column {
                pointed = true;
                let width = wrong.at.as_ref().map_or(1, |at| at.chars().count()).max(1);
                let before: String =
                    line[..column].chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                let _ = writeln!(out, "     |     {before}{}", "^".repeat(width));
            }
        }
        out.push_str("--------------------");
        out
    }
}
