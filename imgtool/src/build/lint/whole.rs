//! Rules about how a file is written: its words and comments.

use super::{Found, rule};
use crate::build::dockerfile::Span;
use crate::build::dockerfile::instruction::{Dockerfile, Form, Instruction, Stage};

pub(super) fn check(file: &Dockerfile, found: &mut Found) {
    casing(file, found);
    let steps = || file.global.iter().chain(file.stages.iter().flat_map(|stage| &stage.steps));
    for step in steps() {
        form(&step.form, step.span, found);
        if let Instruction::Arg(names) = &step.instruction
            && let [(name, _)] = names.as_slice()
        {
            described(&step.form, step.span, name, found);
        }
    }
    let mut names: Vec<&str> = Vec::new();
    for stage in &file.stages {
        form(&stage.form, stage.span, found);
        stage_name(stage, &mut names, found);
    }
}

fn form(form: &Form, span: Span, found: &mut Found) {
    if form.empty_continuation {
        found.add(&rule::EMPTY_CONTINUATION, span, "Empty continuation line");
    }
    if form.legacy_pair {
        let name = form.name.to_ascii_uppercase();
        let detail =
            format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format");
        found.add(&rule::LEGACY_PAIR, span, detail);
    }
}

/// The lines above a definition describe it, or stand apart.
fn described(form: &Form, span: Span, name: &str, found: &mut Found) {
    let directive = |line: &str| {
        let key = line.split('=').next().unwrap_or_default().trim();
        ["syntax", "escape", "check"].contains(&key.to_ascii_lowercase().as_str())
    };
    let comments: Vec<&String> = form.comments.iter().filter(|line| !directive(line)).collect();
    if comments.is_empty() || describes(&form.comments, name).is_some() {
        return;
    }
    let kind = form.name.to_ascii_uppercase();
    let detail = format!("Comment for {kind} should follow the format: `# {name} <description>`");
    found.add(&rule::DESCRIPTION, span, detail);
}

/// What the comment lines above a definition say about `name`.
pub fn describes(comments: &[String], name: &str) -> Option<String> {
    comments.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned)
}

fn stage_name<'a>(stage: &'a Stage, names: &mut Vec<&'a str>, found: &mut Found) {
    let (Some((keyword, written)), Some(name)) = (&stage.from.as_written, &stage.from.name) else { return };
    if name != written {
        found.add(&rule::STAGE_CASING, stage.span, format!("Stage name '{written}' should be lowercase"));
    }
    let from = &stage.form.name;
    let lower = |text: &str| text.bytes().all(|byte| !byte.is_ascii_uppercase());
    let upper = |text: &str| text.bytes().all(|byte| !byte.is_ascii_lowercase());
    if (lower(from) && !lower(keyword)) || (upper(from) && !upper(keyword)) {
        let detail = format!("'{keyword}' and '{from}' keywords' casing do not match");
        found.add(&rule::AS_CASING, stage.span, detail);
    }
    if matches!(name.as_str(), "context" | "scratch") {
        let detail = format!("Stage name should not use the same name as reserved stage \"{name}\"");
        found.add(&rule::RESERVED_STAGE, stage.span, detail);
    }
    if names.contains(&name.as_str()) {
        let detail = format!("Duplicate stage name \"{name}\", stage names should be unique");
        found.add(&rule::DUPLICATE_STAGE, stage.span, detail);
    }
    names.push(name);
    described(&stage.form, stage.span, name, found);
}

fn casing(file: &Dockerfile, found: &mut Found) {
    let words: Vec<(&str, Span)> = file
        .stages
        .iter()
        .flat_map(|stage| {
            let steps = stage.steps.iter().map(|step| (step.form.name.as_str(), step.span));
            std::iter::once((stage.form.name.as_str(), stage.span)).chain(steps)
        })
        .collect();
    let count = |one: &dyn Fn(&str) -> String| words.iter().filter(|(word, _)| one(word) == *word).count();
    let lower = count(&str::to_ascii_lowercase) > count(&str::to_ascii_uppercase);
    for (word, span) in words {
        let wanted = if lower { word.to_ascii_lowercase() } else { word.to_ascii_uppercase() };
        if word != wanted {
            let casing = if lower { "lowercase" } else { "uppercase" };
            let detail = format!("Command '{word}' should match the case of the command majority ({casing})");
            found.add(&rule::INSTRUCTION_CASING, span, detail);
        }
    }
}
