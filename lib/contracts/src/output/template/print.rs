//! Values as Go's fmt package prints them.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use serde_json::Value;

/// Larger widths are refused, as in Go.
pub(super) const MAX_WIDTH: usize = 1_000_000;

/// What `{{value}}` prints: nothing prints as `<no value>`.
pub(super) fn top(out: &mut String, value: &Value) {
    if value.is_null() {
        out.push_str("<no value>");
    } else {
        write_value(out, value);
    }
}

/// `%v`.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::String(text) => out.push_str(text),
        Value::Number(_) if value.is_f64() => out.push_str(&float(value.as_f64().unwrap_or(0.0))),
        Value::Bool(_) | Value::Number(_) => {
            let _ = write!(out, "{value}");
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { " " } else { "" });
                write_value(out, item);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_unstable_by_key(|&(key, _)| key);
            out.push_str("map[");
            for (index, (key, item)) in pairs.into_iter().enumerate() {
                let _ = write!(out, "{}{key}:", if index > 0 { " " } else { "" });
                write_value(out, item);
            }
            out.push(']');
        }
    }
}

/// Go's word for the type, for errors and `%T`.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// `print` (a space between two operands that are both no strings) and `println`.
pub(super) fn sprint(values: &[Cow<'_, Value>], line: bool) -> String {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        let between = index > 0 && (line || !(value.is_string() || values[index - 1].is_string()));
        out.push_str(if between { " " } else { "" });
        write_value(&mut out, value);
    }
    out.push_str(if line { "\n" } else { "" });
    out
}

/// The shortest form that reads back, with an exponent outside of 1e-4..1e21.
fn float(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        return exponent(&format!("{number:e}"));
    }
    format!("{number}")
}

/// Rust's `1e-7` as Go's `1e-07`.
fn exponent(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else { return text.to_owned() };
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[derive(Default)]
struct Directive {
    minus: bool,
    plus: bool,
    sharp: bool,
    zero: bool,
    space: bool,
    width: usize,
    precision: Option<usize>,
}

/// `printf`. A verb that does not fit its value prints Go's `%!d(string=x)`; it never fails.
pub(super) fn sprintf(format: &str, values: &[Cow<'_, Value>]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let directive = Directive::read(&mut chars, &mut values);
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match values.next() {
                None => {
                    let _ = write!(out, "%!{verb}(MISSING)");
                }
                Some(value) => directive.write(&mut out, verb, value),
            },
        }
    }
    let extra: Vec<String> = values.map(|value| format!("{}={}", type_name(value), text(value))).collect();
    if !extra.is_empty() {
        let _ = write!(out, "%!(EXTRA {})", extra.join(", "));
    }
    out
}

/// Digits, or `*` for the next value.
fn number<'v>(
    chars: &mut Peekable<Chars<'_>>,
    values: &mut impl Iterator<Item = &'v Cow<'v, Value>>,
) -> usize {
    if chars.next_if_eq(&'*').is_some() {
        let value = values.next().and_then(|value| usize::try_from(value.as_u64()?).ok());
        return value.unwrap_or(0).min(MAX_WIDTH);
    }
    let mut number = 0_usize;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        number = (number * 10 + digit as usize).min(MAX_WIDTH);
        chars.next();
    }
    number
}

impl Directive {
    /// Flags, width and precision: all between the `%` and the verb.
    fn read<'v>(
        chars: &mut Peekable<Chars<'_>>,
        values: &mut impl Iterator<Item = &'v Cow<'v, Value>>,
    ) -> Self {
        let mut directive = Self::default();
        while let Some(flag) = chars.next_if(|c| "-+# 0".contains(*c)) {
            match flag {
                '-' => directive.minus = true,
                '+' => directive.plus = true,
                '#' => directive.sharp = true,
                '0' => directive.zero = true,
                _ => directive.space = true,
            }
        }
        directive.width = number(chars, values);
        if chars.next_if_eq(&'.').is_some() {
            directive.precision = Some(number(chars, values));
        }
        directive
    }

    fn write(&self, out: &mut String, verb: char, value: &Value) {
        let text = self.verb(verb, value).unwrap_or_else(|| match value {
            Value::Null => format!("%!{verb}(<nil>)"),
            _ => format!("%!{verb}({}={})", type_name(value), text(value)),
        });
        let missing = self.width.saturating_sub(text.chars().count());
        if self.minus {
            out.push_str(&text);
            out.push_str(&" ".repeat(missing));
        } else if self.zero && verb != 's' && verb != 'q' && verb != 'v' || self.zero && value.is_number() {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+', ' '])));
            let _ = write!(out, "{sign}{}{digits}", "0".repeat(missing));
        } else {
            out.push_str(&" ".repeat(missing));
            out.push_str(&text);
        }
    }

    /// The text before padding; `None` where the verb does not fit the value.
    fn verb(&self, verb: char, value: &Value) -> Option<String> {
        if let Value::Array(items) = value
            && verb != 'v'
            && verb != 'T'
        {
            let items: Option<Vec<String>> = items.iter().map(|item| self.verb(verb, item)).collect();
            return Some(format!("[{}]", items?.join(" ")));
        }
        match (verb, value) {
            ('T', _) => Some(type_name(value).to_owned()),
            ('v', Value::Number(_)) if value.is_f64() && self.precision.is_some() => self.verb('g', value),
            ('v', Value::Number(_)) if !value.is_f64() => self.verb('d', value),
            ('v', Value::String(text)) if self.sharp => Some(quote(text)),
            ('v', Value::String(_)) => self.verb('s', value),
            ('v', _) => Some(text(value)),
            ('t', Value::Bool(truth)) => Some(truth.to_string()),
            ('s', Value::String(text)) => Some(self.cut(text)),
            ('s', Value::Object(_)) => Some(text(value)),
            ('q', Value::String(text)) => Some(quote(&self.cut(text))),
            ('x' | 'X', Value::String(text)) => {
                let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
                Some(if verb == 'X' { hex.to_uppercase() } else { hex })
            }
            (_, Value::Number(_)) if value.is_f64() => self.float(verb, value.as_f64()?),
            (_, Value::Number(_)) => self.integer(verb, value),
            _ => None,
        }
    }

    fn cut(&self, text: &str) -> String {
        text.chars().take(self.precision.unwrap_or(usize::MAX)).collect()
    }

    fn sign(&self, text: String) -> String {
        match () {
            () if text.starts_with('-') => text,
            () if self.plus => format!("+{text}"),
            () if self.space => format!(" {text}"),
            () => text,
        }
    }

    fn integer(&self, verb: char, value: &Value) -> Option<String> {
        let number = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))?;
        let sign = if number < 0 { "-" } else { "" };
        let magnitude = number.unsigned_abs();
        let (prefix, digits) = match verb {
            'd' => ("", magnitude.to_string()),
            'b' => ("0b", format!("{magnitude:b}")),
            'o' => ("0", format!("{magnitude:o}")),
            'x' => ("0x", format!("{magnitude:x}")),
            'X' => ("0X", format!("{magnitude:X}")),
            'c' => return u32::try_from(number).ok().and_then(char::from_u32).map(String::from),
            'U' => return Some(format!("U+{magnitude:04X}")),
            'q' => return u32::try_from(number).ok().and_then(char::from_u32).map(|c| format!("'{c}'")),
            _ => return None,
        };
        let prefix = if self.sharp { prefix } else { "" };
        Some(self.sign(format!("{sign}{prefix}{digits:0>0$}", self.precision.unwrap_or(0))))
    }

    fn float(&self, verb: char, number: f64) -> Option<String> {
        let precision = self.precision.unwrap_or(6);
        let text = match verb {
            'f' | 'F' => format!("{number:.precision$}"),
            'e' => exponent(&format!("{number:.precision$e}")),
            'E' => exponent(&format!("{number:.precision$e}")).to_uppercase(),
            'g' | 'G' => match self.precision {
                None => float(number),
                Some(digits) => significant(number, digits.max(1)),
            },
            _ => return None,
        };
        Some(self.sign(text))
    }
}

/// `%.3g`: that many significant digits, without trailing zeros.
fn significant(number: f64, digits: usize) -> String {
    let scientific = format!("{number:.*e}", digits - 1);
    let power: i64 = scientific.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0);
    let digits = i64::try_from(digits).unwrap_or(i64::MAX);
    let trim = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if power < -4 || power >= digits {
        let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        return exponent(&format!("{}e{power}", trim(mantissa)));
    }
    trim(&format!("{number:.*}", usize::try_from(digits - 1 - power).unwrap_or(0)))
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
