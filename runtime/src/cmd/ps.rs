//! `runtime ps`.

use std::io::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use contracts::exit::Exit;

use super::Context;
use crate::cli::{self, ListFormat};
use crate::container::directory::Directory;

/// Prints a container's processes: their pids as JSON, or the lines of `ps` about them.
///
/// # Errors
/// No such container, or `ps` fails.
pub fn run(context: &Context, flags: &cli::Ps) -> Result<Exit> {
    let state = Directory::open(&context.root, &flags.id)?.state()?;
    let pids = state.cgroup.unwrap_or_default().pids()?;
    let text = match flags.format {
        ListFormat::Json => serde_json::to_string(&pids)? + "\n",
        ListFormat::Table => {
            let usual = ["-ef".to_owned()];
            let arguments = if flags.arguments.is_empty() { &usual } else { flags.arguments.as_slice() };
            let output = Command::new("ps").args(arguments).output().context("execute ps")?;
            let complaint = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "ps {}: {}", arguments.join(" "), complaint.trim());
            filter(&String::from_utf8_lossy(&output.stdout), &pids)?
        }
    };
    std::io::stdout().write_all(text.as_bytes()).context("write to stdout")?;
    Ok(Exit::Ok)
}

/// The heading and the lines whose column `PID` is one of `pids`.
fn filter(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading.split_ascii_whitespace().position(|name| name == "PID");
    let column = column.context("ps: couldn't find PID field in its output")?;
    let ours = |line: &&str| {
        let pid = line.split_ascii_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    Ok(std::iter::once(heading)
        .chain(lines.filter(ours))
        .fold(String::new(), |text, line| text + line + "\n"))
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn only_the_container_s_lines() {
        let table =
            "UID   PID  PPID CMD\nroot    1     0 init\nroot   12     1 sleep 1\nroot  120     1 x 12\n";
        assert_eq!(filter(table, &[12]).unwrap(), "UID   PID  PPID CMD\nroot   12     1 sleep 1\n");
        assert!(filter("CMD\nsleep\n", &[12]).is_err());
    }
}
