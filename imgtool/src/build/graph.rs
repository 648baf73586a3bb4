//! Which stages are needed, and what a name in FROM or `--from` means.

use std::collections::BTreeSet;

use anyhow::Result;
use contracts::fault;

use super::dockerfile::instruction::{Dockerfile, Instruction, Stage};

/// The stage to build: by name or number, else the last.
///
/// # Errors
/// There is no such stage.
pub fn target(file: &Dockerfile, wanted: Option<&str>) -> Result<usize> {
    let Some(wanted) = wanted else { return Ok(file.stages.len() - 1) };
    match find(file, file.stages.len(), wanted, true) {
        Some(index) => Ok(index),
        None => fault!(NotFound, "target stage \"{wanted}\" could not be found"),
    }
}

/// The stage that `name` means to the stage `before`: one above it, the nearest first. Names fold case.
pub fn find(file: &Dockerfile, before: usize, name: &str, by_number: bool) -> Option<usize> {
    let lower = name.to_ascii_lowercase();
    let named = file.stages[..before].iter().rposition(|stage| stage.from.name.as_ref() == Some(&lower));
    named.or_else(|| name.parse().ok().filter(|index| by_number && *index < before))
}

/// The stages that `target` is made of, itself included. `base` resolves a FROM with its variables.
pub fn needed(file: &Dockerfile, target: usize, base: &dyn Fn(&Stage) -> String) -> BTreeSet<usize> {
    let mut needed = BTreeSet::new();
    let mut open = vec![target];
    while let Some(index) = open.pop() {
        if needed.insert(index) {
            open.extend(direct(file, index, base));
        }
    }
    needed
}

/// The stages that the stage `index` names itself.
pub fn direct(file: &Dockerfile, index: usize, base: &dyn Fn(&Stage) -> String) -> Vec<usize> {
    let stage = &file.stages[index];
    let mut found: Vec<usize> = find(file, index, &base(stage), false).into_iter().collect();
    for step in &stage.steps {
        match &step.instruction {
            Instruction::Copy(copy) => {
                found.extend(copy.from.as_deref().and_then(|name| find(file, index, name, true)));
            }
            Instruction::Run(run) => {
                let from = run
                    .mounts
                    .iter()
                    .flat_map(|mount| mount.split(','))
                    .filter_map(|field| field.strip_prefix("from="));
                found.extend(from.filter_map(|name| find(file, index, name, true)));
            }
            _ => {}
        }
    }
    found
}
