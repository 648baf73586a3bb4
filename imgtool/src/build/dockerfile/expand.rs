//! Variables in words: `$x`, `${x}`, and the `${x…}` forms, with the shell's quotes.

/// Where values come from.
pub trait Lookup {
    /// The value of a variable; `None` where it is not set.
    fn get(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Lookup for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// Expands `word` and takes its quotes off.
///
/// # Errors
/// A missing `}` or quote, an unknown form, `${x?}` of an unset variable.
pub fn word(text: &str, escape: char, values: &dyn Lookup) -> Result<String, String> {
    let mut machine = Machine::new(text, escape, values);
    let out = machine.until(None)?;
    Ok(out.text)
}

/// Expands the variables of a heredoc's body; quotes are ordinary characters there.
///
/// # Errors
/// As [`word`].
pub fn body(text: &str, escape: char, values: &dyn Lookup) -> Result<String, String> {
    let mut machine = Machine::new(text, escape, values);
    let mut out = String::new();
    while let Some(c) = machine.next() {
        match c {
            '$' => out.push_str(&machine.dollar()?),
            _ if c == escape => match machine.next() {
                Some(next) if next == '$' || next == escape => out.push(next),
                Some(next) => out.extend([c, next]),
                None => out.push(c),
            },
            _ => out.push(c),
        }
    }
    Ok(out)
}

/// Expands `text` and cuts the result at blanks that no quotes hold.
///
/// # Errors
/// As [`word`].
pub fn words(text: &str, escape: char, values: &dyn Lookup) -> Result<Vec<String>, String> {
    let mut machine = Machine::new(text, escape, values);
    let out = machine.until(None)?;
    Ok(out.cut())
}

/// The expanded text, and which of its characters may end a word.
#[derive(Default)]
struct Out {
    text: String,
    breaks: Vec<bool>,
    /// Positions (in characters) where an empty quoted word stands.
    empty: Vec<usize>,
}

impl Out {
    fn push(&mut self, c: char, breaks: bool) {
        self.text.push(c);
        self.breaks.push(breaks && c.is_whitespace());
    }

    fn push_str(&mut self, text: &str, breaks: bool) {
        text.chars().for_each(|c| self.push(c, breaks));
    }

    fn cut(self) -> Vec<String> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        for (at, (c, breaks)) in self.text.chars().zip(&self.breaks).enumerate() {
            if self.empty.contains(&at) {
                word.get_or_insert_default();
            }
            if *breaks {
                words.extend(word.take());
            } else {
                word.get_or_insert_default().push(c);
            }
        }
        if self.empty.contains(&self.breaks.len()) {
            word.get_or_insert_default();
        }
        words.extend(word);
        words
    }
}

struct Machine<'a> {
    chars: Vec<char>,
    at: usize,
    escape: char,
    values: &'a dyn Lookup,
    depth: u32,
}

impl<'a> Machine<'a> {
    fn new(text: &str, escape: char, values: &'a dyn Lookup) -> Self {
        Self { chars: text.chars().collect(), at: 0, escape, values, depth: 0 }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.at += usize::from(next.is_some());
        next
    }

    /// Expands up to `end` (which is taken) or the end of the text.
    fn until(&mut self, end: Option<char>) -> Result<Out, String> {
        let mut out = Out::default();
        while let Some(c) = self.next() {
            match c {
                _ if Some(c) == end => return Ok(out),
                '\'' => self.single_quoted(&mut out)?,
                '"' => self.double_quoted(&mut out)?,
                '$' => {
                    let value = self.dollar()?;
                    out.push_str(&value, true);
                }
                _ if c == self.escape => match self.next() {
                    Some(next) => out.push(next, false),
                    // A lone escape at the end: some Windows paths end so.
                    None => out.push(c, false),
                },
                _ => out.push(c, true),
            }
        }
        match end {
            Some(end) => Err(format!("syntax error: missing '{end}'")),
            None => Ok(out),
        }
    }

    fn single_quoted(&mut self, out: &mut Out) -> Result<(), String> {
        out.empty.push(out.breaks.len());
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(c) => out.push(c, false),
                None => {
                    return Err("unexpected end of statement while looking for matching single-quote".into());
                }
            }
        }
    }

    fn double_quoted(&mut self, out: &mut Out) -> Result<(), String> {
        out.empty.push(out.breaks.len());
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('$') => {
                    let value = self.dollar()?;
                    out.push_str(&value, false);
                }
                Some(c) if c == self.escape => match self.next() {
                    // Within double quotes only these three need escaping; before others the escape stays.
                    Some(next) if matches!(next, '"' | '$') || next == self.escape => out.push(next, false),
                    Some(next) => out.push_str(&format!("{c}{next}"), false),
                    None => {}
                },
                Some(c) => out.push(c, false),
                None => {
                    return Err("unexpected end of statement while looking for matching double-quote".into());
                }
            }
        }
    }

    fn dollar(&mut self) -> Result<String, String> {
        match self.peek() {
            Some('{') => {
                self.at += 1;
                self.braced()
            }
            Some(_) => {
                let name = self.name();
                if name.is_empty() { Ok("$".into()) } else { Ok(self.values.get(&name).unwrap_or_default()) }
            }
            None => Ok("$".into()),
        }
    }

    /// A variable's name: letters, digits and `_`, or one special character, which no build ever sets.
    fn name(&mut self) -> String {
        match self.peek() {
            Some(c) if c.is_ascii_digit() || "@*#?-$!".contains(c) => {
                self.at += 1;
                c.to_string()
            }
            _ => {
                let from = self.at;
                while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    self.at += 1;
                }
                self.chars[from..self.at].iter().collect()
            }
        }
    }

    fn braced(&mut self) -> Result<String, String> {
        self.depth += 1;
        if self.depth > 64 {
            return Err("variables nested too deep".into());
        }
        let name = self.name();
        if name.is_empty() {
            return Err("syntax error: bad substitution".into());
        }
        let value = self.values.get(&name);
        let form = self.next().ok_or("syntax error: missing '}'")?;
        let colon = form == ':';
        let form = if colon { self.next().ok_or("syntax error: missing ':' in substitution")? } else { form };
        let set = value.as_ref().filter(|value| !(colon && value.is_empty()));
        let result = match form {
            '}' if !colon => value.unwrap_or_default(),
            '-' | '+' | '?' => {
                let other = self.until(Some('}'))?.text;
                match (form, set) {
                    ('-', Some(value)) => value.clone(),
                    ('+', None) => String::new(),
                    ('?', Some(value)) => value.clone(),
                    ('?', None) => {
                        let why = if other.is_empty() { "is not allowed to be unset".into() } else { other };
                        return Err(format!("{name}: {why}"));
                    }
                    _ => other,
                }
            }
            '#' | '%' if !colon => self.trimmed(form, &value.unwrap_or_default())?,
            '/' if !colon => self.replaced(&value.unwrap_or_default())?,
            _ => return Err(format!("unsupported modifier ({form}) in substitution")),
        };
        self.depth -= 1;
        Ok(result)
    }

    /// `${x#p}`, `${x##p}`, `${x%p}`, `${x%%p}`.
    fn trimmed(&mut self, form: char, value: &str) -> Result<String, String> {
        let greedy = self.peek() == Some(form);
        self.at += usize::from(greedy);
        let pattern = self.pattern(&['}'])?;
        let chars: Vec<char> = value.chars().collect();
        let mut lengths: Vec<usize> = (0..=chars.len()).collect();
        if greedy {
            lengths.reverse();
        }
        for len in lengths {
            let (part, rest) = if form == '#' {
                chars.split_at(len)
            } else {
                let (rest, part) = chars.split_at(chars.len() - len);
                (part, rest)
            };
            if matches(&pattern, part) {
                return Ok(rest.iter().collect());
            }
        }
        Ok(value.to_owned())
    }

    /// `${x/p/r}`, `${x//p/r}`.
    fn replaced(&mut self, value: &str) -> Result<String, String> {
        let all = self.peek() == Some('/');
        self.at += usize::from(all);
        let pattern = self.pattern(&['/', '}'])?;
        let replacement =
            if self.chars[self.at - 1] == '/' { self.until(Some('}'))?.text } else { String::new() };
        let chars: Vec<char> = value.chars().collect();
        let (mut out, mut at, mut done) = (String::new(), 0, false);
        while at < chars.len() {
            let longest = (1..=chars.len() - at).rev().find(|len| matches(&pattern, &chars[at..at + len]));
            match longest.filter(|_| all || !done) {
                Some(len) => {
                    out.push_str(&replacement);
                    at += len;
                    done = true;
                }
                None => {
                    out.push(chars[at]);
                    at += 1;
                }
            }
        }
        Ok(out)
    }

    /// A glob pattern up to one of `ends`, which is taken.
    fn pattern(&mut self, ends: &[char]) -> Result<Vec<Glob>, String> {
        let mut pattern = Vec::new();
        while let Some(c) = self.next() {
            match c {
                _ if ends.contains(&c) => return Ok(pattern),
                '*' => pattern.push(Glob::Any),
                '?' => pattern.push(Glob::One),
                '$' => pattern.extend(self.dollar()?.chars().map(Glob::Char)),
                '\'' | '"' => {}
                _ if c == self.escape => pattern.extend(self.next().map(Glob::Char)),
                _ => pattern.push(Glob::Char(c)),
            }
        }
        Err("syntax error: missing '}'".into())
    }
}

#[derive(Clone, Copy)]
enum Glob {
    Any,
    One,
    Char(char),
}

/// Whether all of `text` matches, in time proportional to the product of the lengths.
fn matches(pattern: &[Glob], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Glob::Any) => {
                back = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(Glob::One) => {}
            Some(Glob::Char(c)) if *c == text[t] => {}
            _ => match back {
                Some((after, from)) => {
                    (p, t) = (after, from + 1);
                    back = Some((after, from + 1));
                    continue;
                }
                None => return false,
            },
        }
        p += 1;
        t += 1;
    }
    pattern[p..].iter().all(|glob| matches!(glob, Glob::Any))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(name: &str) -> Option<String> {
        let value = match name {
            "A" => "1",
            "B" => "two words",
            "E" => "",
            "P" => "/usr/local/lib/foo.tar.gz",
            _ => return None,
        };
        Some(value.into())
    }

    #[test]
    fn forms() {
        for (text, expect) in [
            ("$A", "1"),
            ("${A}x$A$U.", "1x1."),
            ("a$", "a$"),
            ("$$A", "A"),
            (r"\$A", "$A"),
            ("'$A'", "$A"),
            ("\"$A\"", "1"),
            (r#""a\"b\n""#, r#"a"b\n"#),
            ("${U:-d$A}", "d1"),
            ("${E:-d}|${E-d}", "d|"),
            ("${E:+d}|${E+d}|${U+d}", "|d|"),
            ("${U:-${E:-x}}", "x"),
            ("${P#*/}", "usr/local/lib/foo.tar.gz"),
            ("${P##*/}", "foo.tar.gz"),
            ("${P%.*}", "/usr/local/lib/foo.tar"),
            ("${P%%.*}", "/usr/local/lib/foo"),
            ("${P/o/0}", "/usr/l0cal/lib/foo.tar.gz"),
            ("${P//o/0}", "/usr/l0cal/lib/f00.tar.gz"),
            ("${A?gone}", "1"),
        ] {
            assert_eq!(word(text, '\\', &values).unwrap(), expect, "{text}");
        }
        assert_eq!(word(r"c:\dir", '`', &values).unwrap(), r"c:\dir");
        for bad in ["${A", "'a", "\"a", "${}", "${U?}", "${A!x}"] {
            assert!(word(bad, '\\', &values).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_are_cut_outside_quotes() {
        assert_eq!(
            words(r#"$A $B "$B" '' x\ y"#, '\\', &values).unwrap(),
            ["1", "two", "words", "two words", "", "x y"]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_expands_or_is_refused(text in "[$a-zA-Z{}:+?#%/*'\"\\\\ -]{0,40}") {
            let _ = (word(&text, '\\', &values), body(&text, '`', &values), words(&text, '\\', &values));
        }

        #[test]
        fn text_without_signs_stays(text in "[a-zA-Z0-9 _./:-]{0,40}") {
            proptest::prop_assert_eq!(word(&text, '\\', &values).unwrap(), text.clone());
            proptest::prop_assert_eq!(word(&format!("'{text}'"), '\\', &values).unwrap(), text);
        }
    }
}
