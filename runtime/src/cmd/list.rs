//! `runtime list`.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use contracts::exit::Exit;

use super::Context;
use crate::cli::{self, ListFormat};
use crate::container::directory::Directory;
use crate::container::state::State;
use crate::container::status::Status;
use crate::container::view::View;
use crate::log;

/// Column widths as runc's.
const NARROWEST: usize = 12;
const GAP: usize = 3;

/// Lists all containers below the root. One that cannot be read is left out with a warning.
///
/// # Errors
/// The root cannot be read, or is one that was asked for and does not exist.
pub fn run(context: &Context, flags: &cli::List) -> Result<Exit> {
    // The default one is made by the first container.
    if context.root_is_given {
        std::fs::metadata(&context.root).with_context(|| format!("open {}", context.root.display()))?;
    }
    let mut found = Vec::new();
    for id in Directory::ids(&context.root)? {
        match look(context, &id) {
            Ok(Some(one)) => found.push(one),
            // Deleted meanwhile, or not yet made.
            Ok(None) => {}
            Err(err) => log::warn(&format!("load container {id}: {err:#}")),
        }
    }
    let views: Vec<View<'_>> = found
        .iter()
        .map(|(state, status)| View::new(state, *status).with_owner(owner_name(state.owner)))
        .collect();
    let text = if flags.quiet {
        views.iter().fold(String::new(), |text, view| text + view.id + "\n")
    } else if flags.format == ListFormat::Json {
        // runc's encoder writes an empty list as null, and its readers expect that.
        if views.is_empty() { "null\n".to_owned() } else { serde_json::to_string(&views)? + "\n" }
    } else {
        table(&views, &found)
    };
    std::io::stdout().write_all(text.as_bytes()).context("write to stdout")?;
    Ok(Exit::Ok)
}

fn look(context: &Context, id: &str) -> Result<Option<(State, Status)>> {
    let directory = Directory::open(&context.root, id)?;
    let Some(state) = directory.load()? else { return Ok(None) };
    let status = Status::of(&directory, &state)?;
    Ok(Some((state, status)))
}

fn table(views: &[View<'_>], found: &[(State, Status)]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    for (view, (_, status)) in views.iter().zip(found) {
        rows.push([
            view.id.to_owned(),
            view.pid.to_string(),
            status.to_string(),
            view.bundle.display().to_string(),
            view.created.to_owned(),
            view.owner.clone(),
        ]);
    }
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(NARROWEST - GAP) + GAP
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "{cell:<width$}");
        }
        let _ = writeln!(text, "{}", row[5]);
    }
    text
}

/// The account's name, as the host's own file says; the number where it does not know.
fn owner_name(uid: u32) -> String {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}
