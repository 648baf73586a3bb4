//! The functions of a template: Go's own and those docker adds.

use std::borrow::Cow;
use std::cmp::Ordering;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::print;

type Val<'a> = Cow<'a, Value>;

/// Names with the least and most arguments they take. `and` and `or` are evaluated where they stand.
const ARITY: &[(&str, usize, usize)] = &[
    ("and", 1, usize::MAX),
    ("eq", 2, usize::MAX),
    ("ge", 2, 2),
    ("gt", 2, 2),
    ("html", 1, usize::MAX),
    ("index", 1, usize::MAX),
    ("join", 2, 2),
    ("js", 1, usize::MAX),
    ("json", 1, 1),
    ("le", 2, 2),
    ("len", 1, 1),
    ("lower", 1, 1),
    ("lt", 2, 2),
    ("ne", 2, 2),
    ("not", 1, 1),
    ("or", 1, usize::MAX),
    ("pad", 3, 3),
    ("prettyjson", 1, 1),
    ("print", 0, usize::MAX),
    ("printf", 1, usize::MAX),
    ("println", 0, usize::MAX),
    ("slice", 1, 4),
    ("split", 2, 2),
    ("title", 1, 1),
    ("truncate", 2, 2),
    ("upper", 1, 1),
    ("urlquery", 1, usize::MAX),
];

/// Go's truth: not empty, not zero, not nothing.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

pub(super) fn exists(name: &str) -> bool {
    ARITY.iter().any(|&(known, ..)| known == name)
}

pub(super) fn call<'a>(name: &str, arguments: &[Val<'a>]) -> Result<Val<'a>> {
    let &(_, least, most) = ARITY.iter().find(|&&(known, ..)| known == name).context("no such function")?;
    ensure!((least..=most).contains(&arguments.len()), "wrong number of arguments: {}", arguments.len());
    let (Some(first), rest) = (arguments.first(), arguments.get(1..).unwrap_or_default()) else {
        return Ok(Cow::Owned(print::sprint(arguments, name == "println").into()));
    };
    let value = match name {
        "index" => return index(first, rest),
        "slice" => slice(first, rest)?,
        "json" => serde_json::to_string(first)?.into(),
        "prettyjson" => serde_json::to_string_pretty(first)?.into(),
        "len" => length(first)?.into(),
        "not" => (!truth(first)).into(),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => compare(name, first, rest)?.into(),
        "print" | "println" => print::sprint(arguments, name == "println").into(),
        "printf" => print::sprintf(string(first)?, rest).into(),
        "html" => html(&print::sprint(arguments, false)).into(),
        "js" => js(&print::sprint(arguments, false)).into(),
        "urlquery" => urlquery(&print::sprint(arguments, false)).into(),
        "upper" => string(first)?.to_uppercase().into(),
        "lower" => string(first)?.to_lowercase().into(),
        "title" => title(string(first)?).into(),
        "split" => split(string(first)?, string(&rest[0])?),
        "join" => join(first, string(&rest[0])?)?.into(),
        "truncate" => string(first)?.chars().take(count(&rest[0])?).collect::<String>().into(),
        "pad" => pad(string(first)?, count(&rest[0])?, count(&rest[1])?).into(),
        _ => bail!("no such function"),
    };
    Ok(Cow::Owned(value))
}

fn string<'a>(value: &'a Val<'_>) -> Result<&'a str> {
    value.as_str().with_context(|| format!("wants a string, not {}", print::type_name(value)))
}

/// A width or position, bounded so that a wild number cannot eat the memory.
fn count(value: &Value) -> Result<usize> {
    let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
    count
        .filter(|&count| count <= print::MAX_WIDTH)
        .with_context(|| format!("wants a count, not {}", print::text(value)))
}

fn length(value: &Value) -> Result<usize> {
    Ok(match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        Value::Null => 0,
        _ => bail!("len of {}", print::type_name(value)),
    })
}

fn index<'a>(value: &Val<'a>, keys: &[Val<'_>]) -> Result<Val<'a>> {
    let mut value = value.clone();
    for key in keys {
        value = match &value {
            Cow::Borrowed(inner) => inside(inner, key)?.map_or(Cow::Owned(Value::Null), Cow::Borrowed),
            Cow::Owned(inner) => Cow::Owned(inside(inner, key)?.cloned().unwrap_or_default()),
        };
    }
    Ok(value)
}

fn inside<'v>(value: &'v Value, key: &Value) -> Result<Option<&'v Value>> {
    match (value, key) {
        (Value::Object(map), Value::String(key)) => Ok(map.get(key)),
        (Value::Array(items), Value::Number(_)) => {
            let item = key.as_u64().and_then(|at| items.get(usize::try_from(at).ok()?));
            Ok(Some(item.with_context(|| format!("index out of range: {key}"))?))
        }
        (Value::Null, _) => bail!("index of nothing (untyped nil)"),
        _ => bail!("can't index {} with {}", print::type_name(value), print::type_name(key)),
    }
}

fn slice(value: &Value, bounds: &[Val<'_>]) -> Result<Value> {
    let length = length(value)?;
    let from = bounds.first().map_or(Ok(0), |bound| count(bound))?;
    let to = bounds.get(1).map_or(Ok(length), |bound| count(bound))?;
    ensure!(from <= to && to <= length, "slice index out of range: {from}:{to} of {length}");
    match value {
        Value::String(text) => {
            // Go cuts bytes; half a character would print as the replacement character.
            Ok(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned().into())
        }
        Value::Array(items) => Ok(items[from..to].to_vec().into()),
        _ => bail!("can't slice {}", print::type_name(value)),
    }
}

fn compare(name: &str, first: &Value, rest: &[Val<'_>]) -> Result<bool> {
    if name == "eq" {
        for other in rest {
            if equal(first, other)? {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    let other = rest.first().context("missing argument for comparison")?.as_ref();
    if name == "ne" {
        return Ok(!equal(first, other)?);
    }
    let order = match (first, other) {
        (Value::String(one), Value::String(other)) => one.cmp(other),
        (Value::Number(_), Value::Number(_)) => numbers(first, other),
        _ => bail!("can't order {} and {}", print::type_name(first), print::type_name(other)),
    };
    Ok(match name {
        "lt" => order == Ordering::Less,
        "le" => order != Ordering::Greater,
        "gt" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    })
}

fn equal(one: &Value, other: &Value) -> Result<bool> {
    match (one, other) {
        (Value::Null, _) | (_, Value::Null) => Ok(one.is_null() && other.is_null()),
        (Value::Number(_), Value::Number(_)) => Ok(numbers(one, other) == Ordering::Equal),
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => Ok(one == other),
        _ => bail!(
            "incompatible types for comparison: {} and {}",
            print::type_name(one),
            print::type_name(other)
        ),
    }
}

fn numbers(one: &Value, other: &Value) -> Ordering {
    match (one.as_i64(), other.as_i64()) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => one.as_f64().partial_cmp(&other.as_f64()).unwrap_or(Ordering::Equal),
    }
}

fn title(text: &str) -> String {
    let mut at_start = true;
    let upper = |c: char| {
        let first = std::mem::replace(&mut at_start, c.is_whitespace());
        if first { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
    };
    text.chars().flat_map(upper).collect()
}

fn split(text: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return text.chars().map(String::from).collect::<Vec<_>>().into();
    }
    text.split(separator).collect::<Vec<_>>().into()
}

/// Go's `HTMLEscapeString`.
fn html(text: &str) -> String {
    let escape = |c: char| match c {
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '&' => "&amp;".into(),
        '"' => "&#34;".into(),
        '\'' => "&#39;".into(),
        '\0' => "\u{fffd}".into(),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Go's `JSEscapeString`.
fn js(text: &str) -> String {
    let escape = |c: char| match c {
        '\\' | '\'' | '"' => format!("\\{c}"),
        '<' | '>' | '&' | '=' => format!("\\u{:04X}", u32::from(c)),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Go's `QueryEscape`.
fn urlquery(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b' ' => "+".into(),
        byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}

fn join(list: &Value, separator: &str) -> Result<String> {
    match list {
        Value::Array(items) => Ok(items.iter().map(print::text).collect::<Vec<_>>().join(separator)),
        Value::Null => Ok(String::new()),
        _ => bail!("wants a list, not {}", print::type_name(list)),
    }
}

fn pad(text: &str, before: usize, after: usize) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!("{}{text}{}", " ".repeat(before), " ".repeat(after))
}
