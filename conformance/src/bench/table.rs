//! Samples into medians, ratios and a table.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::measure::{Contender, Sample};
use crate::cli::{Bench, View};

/// The order of the table; a row that nobody was measured in is not shown.
const ROWS: [&str; 14] = [
    "run min",
    "create min",
    "start min",
    "state min",
    "exec min",
    "delete min",
    "run full",
    "create full",
    "start full",
    "state full",
    "exec full",
    "delete full",
    "spawn",
    "command",
];

/// All samples of a run.
#[derive(Debug)]
pub struct Results {
    names: Vec<String>,
    failed: Vec<bool>,
    /// Rows, each with one list per contender.
    rows: Vec<(String, Vec<Vec<f64>>)>,
    rss: BTreeMap<usize, i64>,
    bytes: BTreeMap<usize, u64>,
    baseline: usize,
    filter: Vec<String>,
    json: bool,
    head: Value,
}

impl Results {
    /// An empty set for these contenders.
    pub fn new(contenders: &[Contender], flags: &Bench, view: View) -> Self {
        let names: Vec<String> = contenders.iter().map(|contender| contender.name.clone()).collect();
        let named = |name: &str| names.iter().position(|known| known == name);
        let baseline = flags.baseline.as_deref().and_then(named);
        let baseline = baseline.or_else(|| named("crun")).unwrap_or_else(|| 1.min(names.len() - 1));
        Self {
            failed: vec![false; names.len()],
            rows: ROWS.iter().map(|row| ((*row).to_owned(), vec![Vec::new(); names.len()])).collect(),
            rss: BTreeMap::new(),
            bytes: BTreeMap::new(),
            baseline,
            filter: flags.filter.clone(),
            json: flags.json,
            head: json!({"view": view.name(), "runs": flags.runs, "idle_ms": flags.idle}),
            names,
        }
    }

    /// A contender's commands of one round.
    pub fn add(&mut self, contender: usize, samples: Vec<Sample>) {
        for (name, time) in samples {
            if let Some((_, columns)) = self.rows.iter_mut().find(|(row, _)| *row == name) {
                columns[contender].push(time);
            }
        }
    }

    /// It will not be measured further.
    pub fn fail(&mut self, contender: usize) {
        self.failed[contender] = true;
    }

    /// Whether a command of it has failed.
    pub fn has_failed(&self, contender: usize) -> bool {
        self.failed[contender]
    }

    /// Memory in KiB and the file's size.
    ///
    /// # Errors
    /// The file is gone.
    pub fn sizes(&mut self, contender: usize, rss: Option<i64>, program: Option<&Path>) -> Result<()> {
        if let Some(rss) = rss {
            self.rss.insert(contender, rss);
        }
        if let Some(program) = program {
            self.bytes.insert(contender, std::fs::metadata(program)?.len());
        }
        Ok(())
    }

    /// Prints everything; true when nobody failed.
    ///
    /// # Errors
    /// stdout is closed.
    pub fn print(&self) -> Result<bool> {
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", self.as_json())?;
        } else {
            self.table(&mut out)?;
        }
        Ok(!self.failed.contains(&true))
    }

    fn chosen(&self) -> impl Iterator<Item = &(String, Vec<Vec<f64>>)> {
        let chosen =
            |row: &str| self.filter.is_empty() || self.filter.iter().any(|text| row.contains(text.as_str()));
        let measured = |columns: &[Vec<f64>]| columns.iter().any(|column| !column.is_empty());
        self.rows.iter().filter(move |(row, columns)| chosen(row) && measured(columns))
    }

    fn table(&self, out: &mut impl io::Write) -> Result<()> {
        let base = &self.names[self.baseline];
        let view = self.head["view"].as_str().unwrap_or_default();
        let (runs, idle) = (&self.head["runs"], &self.head["idle_ms"]);
        writeln!(
            out,
            "median ms, and ratio to {base}; cgroups {view}, {runs} rounds, {idle} ms idle before each"
        )?;
        write!(out, "{:14}", "")?;
        for name in &self.names {
            write!(out, "{name:>18}")?;
        }
        writeln!(out)?;
        for (row, columns) in self.chosen() {
            write!(out, "{row:14}")?;
            // A row the baseline has no part in is compared with its last column.
            let base =
                median(&columns[self.baseline]).or_else(|| columns.iter().rev().find_map(|all| median(all)));
            for (column, failed) in columns.iter().zip(&self.failed) {
                match (median(column), base) {
                    _ if *failed => write!(out, "{:>18}", "failed")?,
                    (None, _) => write!(out, "{:>18}", "")?,
                    (Some(time), Some(base)) => write!(out, "{time:>11.2} {:>6.2}", time / base)?,
                    (Some(time), None) => write!(out, "{time:>11.2}       ")?,
                }
            }
            writeln!(out)?;
        }
        self.column(out, "peak RSS MiB", |at| self.rss.get(&at).map(|&kib| per(kib, 1024.0)))?;
        self.column(out, "binary MB", |at| self.bytes.get(&at).map(|&bytes| per(bytes, 1e6)))
    }

    fn column(
        &self,
        out: &mut impl io::Write,
        title: &str,
        value: impl Fn(usize) -> Option<f64>,
    ) -> Result<()> {
        write!(out, "{title:14}")?;
        for at in 0..self.names.len() {
            match value(at) {
                Some(value) => write!(out, "{value:>11.2}       ")?,
                None => write!(out, "{:18}", "")?,
            }
        }
        writeln!(out)?;
        Ok(())
    }

    fn as_json(&self) -> Value {
        let rows: Vec<Value> = self
            .chosen()
            .map(|(row, columns)| {
                let of = |at: usize| json!({"name": self.names[at], "median_ms": median(&columns[at]), "samples_ms": columns[at]});
                json!({"row": row, "contenders": (0..columns.len()).map(of).collect::<Vec<_>>()})
            })
            .collect();
        let mut all = self.head.clone();
        all["baseline"] = self.names[self.baseline].as_str().into();
        all["rows"] = rows.into();
        let sizes = |at: usize| json!({"name": self.names[at], "peak_rss_kib": self.rss.get(&at), "bytes": self.bytes.get(&at), "failed": self.failed[at]});
        all["contenders"] = (0..self.names.len()).map(sizes).collect::<Vec<_>>().into();
        all
    }
}

#[allow(clippy::cast_precision_loss)] // two digits are shown
fn per(number: impl TryInto<i64>, unit: f64) -> f64 {
    number.try_into().unwrap_or(i64::MAX) as f64 / unit
}

/// The middle sample; the mean of two where their number is even.
fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(super::median(&[]), None);
        assert_eq!(super::median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(super::median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
