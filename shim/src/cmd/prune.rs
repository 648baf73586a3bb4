//! `shim prune`

use std::io::{self, BufRead as _, Write as _};

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;
use contracts::output::human;

use super::rm;
use crate::cli::{PruneFlags, RmFlags};
use crate::container::{Store, remove, status};
use crate::{show, volume};

pub fn run(store: &Store, flags: &PruneFlags) -> Result<Exit> {
    let filters = read_filters(&flags.filter)?;
    if !flags.force && !confirmed("WARNING! This will remove all stopped containers.")? {
        return Ok(Exit::Ok);
    }
    let (mut removed, mut freed) = (Vec::new(), 0);
    for id in store.ids()? {
        let Ok(record) = store.load(&id) else {
            remove::debris(store, &id)?;
            continue;
        };
        let status = status::read(store, &id)?;
        if status.state.is_live()
            || status.owner.is_some()
            || !filters.iter().all(|filter| filter.matches(&record))
        {
            continue;
        }
        let size = volume::size(&store.bundle(&id).join("upper"));
        let how = RmFlags::default();
        // Started meanwhile: then it is not stopped any more, and stays.
        if rm::one(store, &id, &record.name, &how).is_ok() {
            freed += size;
            removed.push(id);
        }
    }
    if !removed.is_empty() {
        show::text(&format!("Deleted Containers:\n{}\n\n", removed.join("\n")))?;
    }
    show::line(&format!("Total reclaimed space: {}", human::size(freed)))?;
    Ok(Exit::Ok)
}

/// Asks on the terminal; only `y` is yes.
pub fn confirmed(warning: &str) -> Result<bool> {
    write!(io::stderr(), "{warning}\nAre you sure you want to continue? [y/N] ")?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

enum Filter {
    Label(String, bool),
    Until(String),
}

impl Filter {
    fn matches(&self, record: &contracts::container::Container) -> bool {
        match self {
            Self::Label(label, wanted) => {
                super::ps::filters::has_label(&record.config.labels, label) == *wanted
            }
            Self::Until(time) => record.created < *time,
        }
    }
}

fn read_filters(items: &[String]) -> Result<Vec<Filter>> {
    let mut filters = Vec::new();
    for item in items {
        filters.push(match item.split_once('=') {
            Some(("label", label)) => Filter::Label(label.into(), true),
            Some(("label!", label)) => Filter::Label(label.into(), false),
            Some(("until", time)) => Filter::Until(crate::log::read::time(time)?),
            _ => fault!(Usage, "invalid filter '{item}'"),
        });
    }
    Ok(filters)
}
