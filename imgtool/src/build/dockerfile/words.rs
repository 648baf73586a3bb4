//! Cutting an instruction's text into words, flags and JSON lists.

/// Words as the shell would cut them, quotes and escapes kept.
pub fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            // Inside single quotes the escape is an ordinary character.
            _ if c == escape && quote != Some('\'') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The flags (`--name`, `--name=value`) that `text` begins with, quotes taken off, and the text after them.
pub fn flags(text: &str, escape: char) -> (Vec<(String, Option<String>)>, String) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let (word, after) = first_word(rest, escape);
        if word == "--" {
            return (flags, after.trim_start().to_owned());
        }
        let body = &word[2..];
        flags.push(match body.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (body.to_owned(), None),
        });
        rest = after.trim_start();
    }
    (flags, rest.to_owned())
}

/// The first word with quotes and escapes resolved, and what follows it.
fn first_word(text: &str, escape: char) -> (String, &str) {
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (word, &text[at..]),
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            // A flag's value may hold variables, whose own escapes are resolved when they are expanded.
            _ if c == escape => match chars.next() {
                Some((_, '$')) => word.extend([c, '$']),
                Some((_, next)) => word.push(next),
                None => {}
            },
            _ => word.push(c),
        }
    }
    (word, "")
}

/// A JSON list of strings; `None` where the text is anything else (which is then a shell command).
pub fn json(text: &str) -> Option<Vec<String>> {
    if !text.starts_with('[') {
        return None;
    }
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes_hold_words_together() {
        assert_eq!(split(r#"a "b c"  d\ e 'f\' g"#, '\\'), ["a", "\"b c\"", "d\\ e", "'f\\'", "g"]);
    }

    #[test]
    fn flags_end_at_the_first_word() {
        let (found, rest) = flags(r#"--from=x --link --chown="a b" src --not /dst"#, '\\');
        assert_eq!(found.len(), 3);
        assert_eq!(found[1], ("link".into(), None));
        assert_eq!(found[2], ("chown".into(), Some("a b".into())));
        assert_eq!(rest, "src --not /dst");
    }
}
