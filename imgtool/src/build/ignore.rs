//! `.dockerignore`: which files of a context a build does not see.

use super::glob;

/// Patterns in order; the last that matches a path, or a directory above it, decides.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    /// `!pattern`: shown again.
    shows: bool,
}

impl Ignore {
    /// Reads the file's text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::of(text.lines().filter(|line| !line.starts_with('#')))
    }

    /// Patterns as they stand in a list (`COPY --exclude`).
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut patterns = Vec::new();
        for line in lines {
            let line = line.trim();
            let (shows, line) = line.strip_prefix('!').map_or((false, line), |line| (true, line.trim()));
            if line.is_empty() {
                continue;
            }
            let text = clean(line);
            // `.` or `/` alone would hide the context itself; docker reads it as nothing.
            if !text.is_empty() {
                patterns.push(Pattern { text, shows });
            }
        }
        Self { patterns }
    }

    /// Whether nothing is hidden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether `path` (relative, components joined by `/`) is hidden.
    #[must_use]
    pub fn hides(&self, path: &str) -> bool {
        let mut hidden = false;
        for pattern in &self.patterns {
            if hidden == pattern.shows && pattern.matches(path) {
                hidden = !pattern.shows;
            }
        }
        hidden
    }

    /// Whether some pattern shows again what another hides.
    #[must_use]
    pub fn shows_again(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.shows)
    }

    /// Whether everything is hidden.
    #[must_use]
    pub fn hides_all(&self) -> bool {
        self.patterns.iter().any(|pattern| matches!(pattern.text.as_str(), "*" | "**" | "**/*"))
    }

    /// Whether something below the hidden directory `path` may be shown again.
    #[must_use]
    pub fn may_show_below(&self, path: &str) -> bool {
        let depth = path.split('/').count();
        self.patterns.iter().filter(|pattern| pattern.shows).any(|pattern| {
            let parts: Vec<&str> = pattern.text.split('/').collect();
            if parts.iter().take(depth).any(|part| *part == "**") {
                return true;
            }
            parts.len() > depth && glob::matches(&parts[..depth].join("/"), path)
        })
    }
}

impl Pattern {
    /// Matches the path or any directory above it.
    fn matches(&self, path: &str) -> bool {
        glob::matches(&self.text, path)
            || path.match_indices('/').any(|(at, _)| glob::matches(&self.text, &path[..at]))
    }
}

/// Without leading or trailing slashes, `.` and `..`.
fn clean(line: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in line.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_match_decides() {
        let ignore = Ignore::parse("# c\n*\n!a/b/c\n");
        assert!(
            ignore.hides("e") && ignore.hides("a/b/d") && !ignore.hides("a/b/c") && !ignore.hides("a/b/c/x")
        );
        assert!(ignore.may_show_below("a") && ignore.may_show_below("a/b") && !ignore.may_show_below("e"));
        let ignore = Ignore::parse("./a/\nb/../c\nd/**/e\n/x");
        for (path, hidden) in
            [("a/x", true), ("c", true), ("d/1/2/e", true), ("d/e", true), ("d/f", false), ("x", true)]
        {
            assert_eq!(ignore.hides(path), hidden, "{path}");
        }
    }

    /// As Go's matcher is specified: `*` and `?` stop at a slash, `**` does not, and a match of a directory is one of
    /// all below it. Slow and plain, to compare with.
    fn plainly(pattern: &[char], path: &[char]) -> bool {
        let (Some(&first), rest) = (pattern.first(), pattern.get(1..).unwrap_or_default()) else {
            return path.is_empty() || path[0] == '/';
        };
        if first == '*' && rest.first() == Some(&'*') {
            let after = rest.get(1..).unwrap_or_default();
            // `**/x` matches `x` too.
            let after = if after.first() == Some(&'/') { &after[1..] } else { after };
            return (0..=path.len()).any(|at| {
                (at == 0 || path[at - 1] == '/' || after.is_empty()) && plainly(after, &path[at..])
            });
        }
        match path.first() {
            _ if first == '*' => {
                let end = path.iter().position(|c| *c == '/').unwrap_or(path.len());
                (0..=end).any(|at| plainly(rest, &path[at..]))
            }
            Some(c) if (first == '?' && *c != '/') || first == *c => plainly(rest, &path[1..]),
            _ => false,
        }
    }

    proptest::proptest! {
        #[test]
        fn a_pattern_hides_what_it_plainly_matches(
            parts in proptest::collection::vec("(\\*\\*|[ab*?]{1,3})", 1..4),
            path in proptest::collection::vec("[ab]{1,3}", 1..4),
        ) {
            // Inside a name `**` is `*`.
            let single = |part: &String| if part == "**" { part.clone() } else { part.replace("***", "*").replace("**", "*") };
            let text = parts.iter().map(single).collect::<Vec<_>>().join("/");
            let path = path.join("/");
            let (pattern, name): (Vec<char>, Vec<char>) = (text.chars().collect(), path.chars().collect());
            proptest::prop_assert_eq!(Ignore::of([text.as_str()]).hides(&path), plainly(&pattern, &name), "{} {}", text, path);
        }
    }
}
