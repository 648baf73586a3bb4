//! Heredocs of RUN, COPY and ADD.

use super::words;

/// A body that stands on the lines after its instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that announced it, `<<-"EOT"`.
    pub word: String,
    /// Its end mark, and the file's name where it becomes a file.
    pub name: String,
    /// Leading tabs are taken off.
    pub chomp: bool,
    /// Variables are expanded: the name was not quoted.
    pub expand: bool,
    /// The lines.
    pub content: String,
}

/// Whether the instruction may announce heredocs. The JSON form never does.
pub fn allowed(name: &str, rest: &str) -> bool {
    match name {
        "RUN" | "COPY" | "ADD" => !rest.starts_with('['),
        "ONBUILD" => {
            let (inner, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            matches!(inner.to_ascii_uppercase().as_str(), "RUN" | "COPY" | "ADD") && !rest.starts_with('[')
        }
        _ => false,
    }
}

/// The heredocs that the text announces, still without content.
pub fn announced(rest: &str, escape: char) -> Vec<Heredoc> {
    words::split(rest, escape).iter().filter_map(|word| parse(word)).collect()
}

/// Reads one word as an announcement: `<<EOT`, `3<<-'EOT'`.
pub fn parse(word: &str) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let quoted = rest.contains(['"', '\'']);
    let name: String = rest.chars().filter(|c| !matches!(c, '"' | '\'')).collect();
    // `<<<` is a here-string of some shells; `<<(` and the like are arithmetic.
    let valid = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    valid.then(|| Heredoc { word: word.to_owned(), name, chomp, expand: !quoted, content: String::new() })
}

/// The lines up to the end mark; `at` moves past it. `None` where there is none.
pub fn body(heredoc: &Heredoc, physical: &[&str], at: &mut usize) -> Option<String> {
    let mut content = String::new();
    while let Some(line) = physical.get(*at) {
        *at += 1;
        let line = if heredoc.chomp { line.trim_start_matches('\t') } else { line };
        if line == heredoc.name {
            return Some(content);
        }
        content.push_str(line);
        content.push('\n');
    }
    None
}
