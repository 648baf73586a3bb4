//! Text into pieces: plain text, and actions `{{…}}` as tokens.

use anyhow::{Result, bail, ensure};
use serde_json::Value;

/// A stretch of text or one action.
#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Token>),
}

/// One token of an action.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub kind: Kind,
    /// Byte offset in the template, for errors.
    pub at: usize,
    /// White space stands before it: `.A .B` are two operands, `.A.B` is one.
    pub spaced: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Dot,
    /// `.Name`, without the dot.
    Field(String),
    /// `$name`, without the dollar sign.
    Variable(String),
    Word(String),
    Literal(Value),
    Pipe,
    Comma,
    Open,
    Close,
    Declare,
    Assign,
}

/// Cuts `text` into pieces.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let (mut at, mut trim_next) = (0, false);
    while let Some(open) = text[at..].find("{{").map(|offset| at + offset) {
        let trim_before = is_trim_marker(&text[open + 2..]);
        push_text(&mut pieces, &text[at..open], trim_next, trim_before);
        let mut lexer = Lexer { text, at: open + 2 + usize::from(trim_before) };
        let tokens = lexer.action(open)?;
        (at, trim_next) = (lexer.at, text[..lexer.at].ends_with("-}}"));
        if let Some(tokens) = tokens {
            pieces.push(Piece::Action(tokens));
        }
    }
    push_text(&mut pieces, &text[at..], trim_next, false);
    Ok(pieces)
}

/// `{{- ` trims; `{{-3}}` is a number.
fn is_trim_marker(after_open: &str) -> bool {
    let mut chars = after_open.chars();
    chars.next() == Some('-') && chars.next().is_some_and(is_space)
}

const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trim_start: bool, trim_end: bool) {
    let text = text.replace("\\t", "\t").replace("\\n", "\n");
    let text = if trim_start { text.trim_start_matches(is_space) } else { &text };
    let text = if trim_end { text.trim_end_matches(is_space) } else { text };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl Lexer<'_> {
    /// The tokens up to and including `}}`; `None` for a comment.
    fn action(&mut self, open: usize) -> Result<Option<Vec<Token>>> {
        self.skip_space();
        if self.rest().starts_with("/*") {
            let Some(end) = self.rest().find("*/") else { bail!("comment at {open} is not closed") };
            self.at += end + 2;
            self.skip_space();
            self.eat("-");
            ensure!(self.eat("}}"), "comment at {open} must end the action");
            return Ok(None);
        }
        let mut tokens = Vec::new();
        loop {
            let spaced = self.skip_space();
            if self.eat("}}") || (spaced && self.eat("-}}")) {
                return Ok(Some(tokens));
            }
            ensure!(!self.rest().is_empty(), "action at {open} is not closed");
            let at = self.at;
            tokens.push(Token { kind: self.token()?, at, spaced });
        }
    }

    fn token(&mut self) -> Result<Kind> {
        let at = self.at;
        let mut chars = self.rest().chars();
        let (first, second) = (chars.next().unwrap_or_default(), chars.next().unwrap_or_default());
        let simple = match (first, second) {
            ('|', _) => Some(Kind::Pipe),
            (',', _) => Some(Kind::Comma),
            ('(', _) => Some(Kind::Open),
            (')', _) => Some(Kind::Close),
            ('=', _) => Some(Kind::Assign),
            (':', '=') => {
                self.at += 1;
                Some(Kind::Declare)
            }
            _ => None,
        };
        if let Some(kind) = simple {
            self.at += 1;
            return Ok(kind);
        }
        match first {
            '"' | '\'' => self.quoted(first),
            '`' => self.raw(),
            '$' => {
                self.at += 1;
                Ok(Kind::Variable(self.word()))
            }
            '.' if !second.is_ascii_digit() => {
                self.at += 1;
                let name = self.word();
                Ok(if name.is_empty() { Kind::Dot } else { Kind::Field(name) })
            }
            '0'..='9' | '+' | '-' | '.' => self.number(),
            _ if first == '_' || first.is_alphabetic() => Ok(Kind::Word(self.word())),
            _ => bail!("unexpected {first:?} at {at}"),
        }
    }

    fn word(&mut self) -> String {
        let word: String = self.rest().chars().take_while(|&c| c == '_' || c.is_alphanumeric()).collect();
        self.at += word.len();
        word
    }

    fn number(&mut self) -> Result<Kind> {
        let (at, rest) = (self.at, self.rest());
        let mut previous = ' ';
        let mut end = rest.len();
        for (offset, c) in rest.char_indices() {
            let sign = matches!(c, '+' | '-') && (offset == 0 || matches!(previous, 'e' | 'E'));
            if !(sign || c == '.' || c == '_' || c.is_ascii_alphanumeric()) {
                end = offset;
                break;
            }
            previous = c;
        }
        let text = rest[..end].replace('_', "");
        self.at += end;
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(&text)),
        };
        let lower = digits.to_lowercase();
        let radix =
            [("0x", 16), ("0o", 8), ("0b", 2)].into_iter().find(|(prefix, _)| lower.starts_with(prefix));
        let whole = match radix {
            Some((_, radix)) => i64::from_str_radix(&lower[2..], radix).ok(),
            None => lower.parse().ok(),
        };
        let value = match whole {
            Some(number) => Some(Value::from(if negative { -number } else { number })),
            // Not `inf` or `nan`, which Rust would take: a number starts with a digit here.
            None => text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from),
        };
        value.map(Kind::Literal).ok_or_else(|| anyhow::anyhow!("bad number {text:?} at {at}"))
    }

    fn raw(&mut self) -> Result<Kind> {
        let Some(end) = self.rest()[1..].find('`') else { bail!("raw string at {} is not closed", self.at) };
        let text = self.rest()[1..=end].to_owned();
        self.at += end + 2;
        Ok(Kind::Literal(text.into()))
    }

    /// A string `"…"`, or a character `'…'`, which is a number as in Go.
    fn quoted(&mut self, quote: char) -> Result<Kind> {
        let open = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(c) = self.rest().chars().next() else { bail!("string at {open} is not closed") };
            self.at += c.len_utf8();
            match c {
                _ if c == quote => break,
                '\n' => bail!("string at {open} is not closed"),
                '\\' => text.push(self.escape(open)?),
                _ => text.push(c),
            }
        }
        if quote == '"' {
            return Ok(Kind::Literal(text.into()));
        }
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(Kind::Literal(u32::from(c).into())),
            _ => bail!("character constant at {open} must hold one character"),
        }
    }

    fn escape(&mut self, open: usize) -> Result<char> {
        let Some(c) = self.rest().chars().next() else { bail!("string at {open} is not closed") };
        self.at += c.len_utf8();
        let digits = match c {
            'a' => return Ok('\x07'),
            'b' => return Ok('\x08'),
            'f' => return Ok('\x0c'),
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            'v' => return Ok('\x0b'),
            '\\' | '"' | '\'' => return Ok(c),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => bail!("unknown escape \\{c} in the string at {open}"),
        };
        let code = self.rest().get(..digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        self.at += if code.is_some() { digits } else { 0 };
        code.and_then(char::from_u32)
            .ok_or_else(|| anyhow::anyhow!("bad escape \\{c} in the string at {open}"))
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn skip_space(&mut self) -> bool {
        let rest = self.rest();
        let skipped = rest.len() - rest.trim_start_matches(is_space).len();
        self.at += skipped;
        skipped > 0
    }
}
