//! Environment and label files, and the merging of environments.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::fault;

/// The variables of the files and then of the flags; a name without a value takes this process's, or is dropped.
pub fn collect(files: &[std::path::PathBuf], flags: &[String]) -> Result<Vec<String>> {
    let mut env = Vec::new();
    for file in files {
        for line in lines(file)? {
            let name = line.split('=').next().unwrap_or_default();
            if name.is_empty() || name.contains(char::is_whitespace) {
                fault!(Usage, "{}: variable '{name}' contains whitespaces or has no name", file.display());
            }
            push(&mut env, &line);
        }
    }
    for flag in flags {
        if flag.starts_with('=') || flag.is_empty() {
            fault!(
                Usage,
                "invalid argument \"{flag}\" for \"-e, --env\" flag: invalid environment variable: {flag}"
            );
        }
        push(&mut env, flag);
    }
    Ok(env)
}

fn push(env: &mut Vec<String>, entry: &str) {
    if entry.contains('=') {
        env.push(entry.to_owned());
    } else if let Ok(value) = std::env::var(entry) {
        env.push(format!("{entry}={value}"));
    }
}

/// The lines of a file without comments and blank lines.
pub fn lines(file: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(file).with_context(|| format!("open {}", file.display()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text.lines().map(|line| line.trim_start());
    Ok(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

/// `base` with every variable of `over` set: replaced in place where it exists, else appended.
pub fn merge(base: &[String], over: &[String]) -> Vec<String> {
    let mut merged = base.to_vec();
    for entry in over {
        let name = name_of(entry);
        match merged.iter_mut().find(|known| name_of(known) == name) {
            Some(known) => known.clone_from(entry),
            None => merged.push(entry.clone()),
        }
    }
    merged
}

fn name_of(entry: &str) -> &str {
    entry.split('=').next().unwrap_or(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_keeps_places() {
        let base = ["A=1".to_owned(), "B=2".to_owned()];
        assert_eq!(merge(&base, &["B=3".into(), "C=4".into()]), ["A=1", "B=3", "C=4"]);
    }

    #[test]
    fn files_have_comments_and_names_without_values() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "A=1\n# c\n\nB=two words\nPATH\nNOT_SET_ANYWHERE\n").unwrap();
        let env = collect(&[file.path().to_owned()], &["X=y".into()]).unwrap();
        assert_eq!(env[..2], ["A=1", "B=two words"]);
        assert!(env[2].starts_with("PATH=") && env[3] == "X=y" && env.len() == 4);
        fs::write(file.path(), "A B=1\n").unwrap();
        assert!(collect(&[file.path().to_owned()], &[]).is_err());
    }
}
