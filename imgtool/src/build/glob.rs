//! Path patterns as Go's `filepath.Match` reads them, with `**` for any number of directories.

/// Whether `path` (components joined by `/`) matches `pattern`.
#[must_use]
pub fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    components(&pattern, &path)
}

/// Whether a pattern holds anything but plain characters.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

fn components(pattern: &[&str], path: &[&str]) -> bool {
    // Remembered per position, so that many `**` stay cheap.
    let mut reach = vec![false; path.len() + 1];
    reach[0] = true;
    for (index, part) in pattern.iter().enumerate() {
        let mut next = vec![false; path.len() + 1];
        for at in 0..=path.len() {
            if !reach[at] {
                continue;
            }
            if *part == "**" {
                // At the end it means what is below a directory, not the directory itself.
                let last = usize::from(index + 1 == pattern.len());
                next[(at + last).min(path.len() + 1)..].fill(true);
                break;
            }
            if at < path.len() && component(part, path[at]) {
                next[at + 1] = true;
            }
        }
        reach = next;
    }
    reach[path.len()]
}

/// One name against one pattern component: `*`, `?`, `[a-z]`, `\x`, and `**` inside a name as `*`.
#[must_use]
pub fn component(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            back = Some((p + 1, n));
            p += 1;
            continue;
        }
        match one(&pattern[p..], name[n]) {
            Some(len) => {
                p += len;
                n += 1;
            }
            None => match back {
                Some((after, from)) => {
                    (p, n) = (after, from + 1);
                    back = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// How many pattern characters match `c`; `None` where they do not.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        [] => None,
        ['?', ..] => Some(1),
        ['\\', next, ..] => (*next == c).then_some(2),
        ['[', ..] => class(pattern, c),
        [first, ..] => (*first == c).then_some(1),
    }
}

fn class(pattern: &[char], c: char) -> Option<usize> {
    let end = pattern.iter().skip(2).position(|&c| c == ']')? + 2;
    let (negated, mut from) = match pattern.get(1) {
        Some('^' | '!') => (true, 2),
        _ => (false, 1),
    };
    let mut found = false;
    while from < end {
        let low = if pattern[from] == '\\' {
            from += 1;
            pattern[from]
        } else {
            pattern[from]
        };
        let high = if pattern.get(from + 1) == Some(&'-') && from + 2 < end {
            from += 2;
            pattern[from]
        } else {
            low
        };
        found |= (low..=high).contains(&c);
        from += 1;
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path, expect) in [
            ("*.txt", "a.txt", true),
            ("*.txt", "d/a.txt", false),
            ("**/*.txt", "d/e/a.txt", true),
            ("**/*.txt", "a.txt", true),
            ("d/**", "d/e/f", true),
            ("d/**", "d", false),
            ("**", "d", true),
            ("d/**/f", "d/f", true),
            ("a?c", "abc", true),
            ("d[0-9]/x", "d7/x", true),
            ("d[^0-9]", "d7", false),
            (r"br\[ack\]", "br[ack]", true),
            ("a*b*c", "aXbYc", true),
            ("[", "[", false),
        ] {
            assert_eq!(matches(pattern, path), expect, "{pattern} {path}");
        }
    }
}
