//! `--call=outline` and `--call=targets`: what a Dockerfile offers.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::dockerfile::instruction::{Dockerfile, Instruction, Stage};
use super::dockerfile::{Source, Span, expand};
use super::graph;
use super::lint::describes;

/// A build argument, secret or agent.
struct Item {
    name: String,
    description: Option<String>,
    value: Option<String>,
    required: bool,
    span: Span,
}

impl Item {
    fn json(&self) -> Value {
        let mut value = json!({"name": self.name, "location": location(self.span)});
        for (key, text) in [("description", &self.description), ("value", &self.value)] {
            if let Some(text) = text {
                value[key] = json!(text);
            }
        }
        if self.required {
            value["required"] = json!(true);
        }
        value
    }
}

/// The arguments, secrets and agents of a target, with all stages that it is made of.
///
/// # Errors
/// There is no such target.
pub fn outline(
    source: &Source,
    file: &Dockerfile,
    target: Option<&str>,
    given: &[(String, String)],
    as_json: bool,
) -> Result<String> {
    let index = graph::target(file, target)?;
    let stage = &file.stages[index];
    let needed = needed(file, index, given);
    let mut args = Vec::new();
    for step in &file.global {
        add_args(&step.instruction, &step.form.comments, step.span, given, &mut args);
    }
    let (mut secrets, mut agents) = (Vec::new(), Vec::new());
    for step in needed.iter().flat_map(|at| &file.stages[*at].steps) {
        add_args(&step.instruction, &step.form.comments, step.span, given, &mut args);
        let Instruction::Run(run) = &step.instruction else { continue };
        for mount in &run.mounts {
            add_mount(mount, step.span, &mut secrets, &mut agents);
        }
    }
    if as_json {
        let list = |items: &[Item]| items.iter().map(Item::json).collect::<Vec<_>>();
        let mut value = json!({"name": stage.from.name.clone().unwrap_or_else(|| "default".into())});
        if let Some(text) = description(stage) {
            value["description"] = json!(text);
        }
        for (key, items) in [("args", &args), ("secrets", &secrets), ("ssh", &agents)] {
            if !items.is_empty() {
                value[key] = json!(list(items));
            }
        }
        value["sources"] = sources(source);
        return pretty(&value);
    }
    let mut out = format!("TARGET: {}\n", stage.from.name.as_deref().unwrap_or("default"));
    if let Some(text) = description(stage) {
        let _ = writeln!(out, "DESCRIPTION: {text}");
    }
    if !args.is_empty() {
        let row = |item: &Item| {
            vec![
                item.name.clone(),
                item.value.clone().unwrap_or_default(),
                item.description.clone().unwrap_or_default(),
            ]
        };
        out.push_str(&table(&["BUILD ARG", "VALUE", "DESCRIPTION"], args.iter().map(row).collect()));
    }
    for (title, items) in [("SECRET", &secrets), ("SSH", &agents)] {
        if !items.is_empty() {
            let row = |item: &Item| {
                vec![item.name.clone(), if item.required { "true".into() } else { String::new() }]
            };
            out.push_str(&table(&[title, "REQUIRED"], items.iter().map(row).collect()));
        }
    }
    Ok(out)
}

/// All targets.
///
/// # Errors
/// None in practice.
pub fn targets(source: &Source, file: &Dockerfile, as_json: bool) -> Result<String> {
    let last = file.stages.len() - 1;
    if as_json {
        let one = |(at, stage): (usize, &Stage)| {
            let mut value = json!({"base": stage.from.image, "location": location(stage.span)});
            if let Some(name) = &stage.from.name {
                value["name"] = json!(name);
            }
            if let Some(text) = description(stage) {
                value["description"] = json!(text);
            }
            if at == last {
                value["default"] = json!(true);
            }
            value
        };
        let list: Vec<Value> = file.stages.iter().enumerate().map(one).collect();
        return pretty(&json!({"targets": list, "sources": sources(source)}));
    }
    let row = |(at, stage): (usize, &Stage)| {
        let name = match (&stage.from.name, at == last) {
            (Some(name), true) => format!("{name} (default)"),
            (Some(name), false) => name.clone(),
            (None, true) => "(default)".into(),
            (None, false) => return None,
        };
        Some(vec![name, description(stage).unwrap_or_default()])
    };
    let rows = file.stages.iter().enumerate().filter_map(row).collect();
    Ok(table(&["TARGET", "DESCRIPTION"], rows).trim_start().to_owned())
}

fn needed(file: &Dockerfile, index: usize, given: &[(String, String)]) -> BTreeSet<usize> {
    let mut values = given.to_vec();
    for step in &file.global {
        let Instruction::Arg(names) = &step.instruction else { continue };
        for (name, default) in names {
            if !values.iter().any(|(known, _)| known == name) {
                values.extend(default.clone().map(|default| (name.clone(), default)));
            }
        }
    }
    let lookup = |name: &str| values.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let base = |stage: &Stage| expand::word(&stage.from.image, file.escape, &lookup).unwrap_or_default();
    graph::needed(file, index, &base)
}

fn add_args(
    instruction: &Instruction,
    comments: &[String],
    span: Span,
    given: &[(String, String)],
    args: &mut Vec<Item>,
) {
    let Instruction::Arg(names) = instruction else { return };
    for (name, default) in names {
        if args.iter().any(|known| known.name == *name) {
            continue;
        }
        let value = given.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        args.push(Item {
            name: name.clone(),
            description: describes(comments, name),
            value: value.or_else(|| default.clone()),
            required: false,
            span,
        });
    }
}

fn add_mount(mount: &str, span: Span, secrets: &mut Vec<Item>, agents: &mut Vec<Item>) {
    let field = |wanted: &[&str]| {
        let found = mount.split(',').find_map(|field| {
            let (key, value) = field.split_once('=')?;
            wanted.contains(&key).then(|| value.to_owned())
        });
        found.filter(|value| !value.is_empty())
    };
    let list = match field(&["type"]).as_deref() {
        Some("secret") => secrets,
        Some("ssh") => agents,
        _ => return,
    };
    let last = |path: String| path.rsplit('/').next().unwrap_or_default().to_owned();
    let named = field(&["id"]).or_else(|| field(&["source", "src", "target", "dst"]).map(last));
    let name = named.unwrap_or_else(|| "default".into());
    let required = mount.split(',').any(|field| matches!(field, "required" | "required=true"));
    match list.iter_mut().find(|known| known.name == name) {
        Some(known) => known.required |= required,
        None => list.push(Item { name, description: None, value: None, required, span }),
    }
}

fn description(stage: &Stage) -> Option<String> {
    describes(&stage.form.comments, stage.from.name.as_deref()?)
}

/// As BuildKit's clients read places.
#[must_use]
pub fn location(span: Span) -> Value {
    json!({"ranges": [{"start": {"line": span.first}, "end": {"line": span.last}}]})
}

fn sources(source: &Source) -> Value {
    json!([contracts::base64::encode(source.text.as_bytes())])
}

fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value).context("encode the outline")? + "\n")
}

/// Columns three blanks apart, below an empty line.
fn table(titles: &[&str], rows: Vec<Vec<String>>) -> String {
    let titles = titles.iter().map(|title| (*title).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(titles).chain(rows).collect();
    let columns = rows[0].len();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::from("\n");
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(out, "{}", cells.join("   ").trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::dockerfile::parse;

    const TEXT: &str = "# V is a version\nARG V=1\n# base does x\nFROM scratch AS base\nARG FOO\n# BAR barring\nARG BAR=2\n\
        RUN --mount=type=secret,id=s,required --mount=type=ssh true\nFROM x AS unused\nARG NOT\nFROM base AS final\nARG V\n";

    #[test]
    fn a_target_is_told_with_the_stages_below_it() {
        let source = Source { name: "Dockerfile".into(), text: TEXT.into() };
        let file = parse::dockerfile(TEXT).unwrap();
        let given = [("BAR".to_owned(), "3".to_owned())];
        let text = outline(&source, &file, None, &given, false).unwrap();
        assert_eq!(
            text,
            "TARGET: final\n\nBUILD ARG   VALUE   DESCRIPTION\nV           1       is a version\nFOO\nBAR         3       barring\n\
             \nSECRET   REQUIRED\ns        true\n\nSSH       REQUIRED\ndefault\n"
        );
        let listed = targets(&source, &file, false).unwrap();
        assert_eq!(
            listed,
            "TARGET            DESCRIPTION\nbase              does x\nunused\nfinal (default)\n"
        );
        let value: Value =
            serde_json::from_str(&outline(&source, &file, Some("base"), &[], true).unwrap()).unwrap();
        assert_eq!((&value["description"], &value["args"][2]["value"]), (&json!("does x"), &json!("2")));
    }
}
