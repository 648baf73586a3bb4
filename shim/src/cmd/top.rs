//! `shim top`

use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};
use contracts::exit::Exit;
use contracts::fault;

use crate::cli::TopFlags;
use crate::container::{Store, status};
use crate::{show, tools};

/// The host's `ps`, and of its lines those of the container's processes.
pub fn run(store: &Store, flags: &TopFlags) -> Result<Exit> {
    let id = store.resolve(&flags.container)?;
    let record = store.load(&id)?;
    if !status::read(store, &id)?.state.is_live() {
        fault!(WrongState, "container {id} is not running");
    }
    let listed = tools::run(tools::runtime(store, &record).args(["ps", "--format", "json", &id]))?;
    let pids: Vec<i32> = serde_json::from_slice(&listed).context("read the runtime's list of processes")?;
    let default = ["-ef".to_owned()];
    let options = if flags.options.is_empty() { &default[..] } else { &flags.options };
    let output = ps(options, &pids)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let heading = lines.next().unwrap_or_default();
    let columns: Vec<&str> = heading.split_whitespace().collect();
    let Some(at) = columns.iter().position(|column| *column == "PID") else {
        fault!(Usage, "Couldn't find PID field in ps output")
    };
    let mut out = row(&columns);
    for line in lines {
        let fields = fields(line, columns.len());
        if fields.get(at).and_then(|pid| pid.parse().ok()).is_some_and(|pid| pids.contains(&pid)) {
            out.push_str(&row(&fields));
        }
    }
    show::text(&out)?;
    Ok(Exit::Ok)
}

/// ps(1) with the user's options: of these processes, on whatever terminal they are. Some options (`f`, `aux`) do not go
/// with a list; then of all.
fn ps(options: &[String], pids: &[i32]) -> Result<Output> {
    let list: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let run = |more: &[String]| Command::new("ps").args(options).args(more).output().context("execute ps");
    let output = run(&[format!("-q{}", list.join(","))])?;
    if output.status.success() {
        return Ok(output);
    }
    let output = run(&[])?;
    if !output.status.success() {
        bail!("ps: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output)
}

/// The last column keeps its spaces.
fn fields(line: &str, count: usize) -> Vec<&str> {
    let mut fields = Vec::new();
    let mut rest = line.trim_start();
    while fields.len() + 1 < count && !rest.is_empty() {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        fields.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    if !rest.is_empty() {
        fields.push(rest);
    }
    fields
}

fn row(fields: &[&str]) -> String {
    let (last, others) = fields.split_last().unwrap_or((&"", &[]));
    let padded: String = others.iter().map(|field| format!("{field:<20}")).collect();
    format!("{padded}{last}\n")
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn a_command_keeps_its_spaces() {
        assert_eq!(fields(" root  12 sleep 300 x", 3), ["root", "12", "sleep 300 x"]);
        assert_eq!(fields("1", 3), ["1"]);
    }
}
