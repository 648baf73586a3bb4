//! `--chmod`: octal modes and the symbolic ones of chmod(1).

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// All bits at once.
    Exact(u32),
    /// Clause after clause.
    Symbolic(Vec<Clause>),
}

/// `u+rwX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Bits of user, group and others that it touches.
    who: u32,
    operator: char,
    permissions: String,
}

impl Chmod {
    /// Reads a mode; `None` where it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).map(Self::Exact);
        }
        let clauses: Option<Vec<Clause>> = text.split(',').map(Clause::parse).collect();
        clauses.map(Self::Symbolic)
    }

    /// The bits after the change.
    #[must_use]
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Self::Exact(mode) => *mode,
            Self::Symbolic(clauses) => {
                clauses.iter().fold(mode, |mode, clause| clause.apply(mode, directory))
            }
        }
    }
}

impl Clause {
    fn parse(text: &str) -> Option<Self> {
        let at = text.find(['+', '-', '='])?;
        let mut who = 0;
        for c in text[..at].chars() {
            who |= match c {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return None,
            };
        }
        if at == 0 {
            who = 0o7777;
        }
        let permissions = &text[at + 1..];
        permissions.chars().all(|c| "rwxXstugo".contains(c)).then(|| Self {
            who,
            operator: char::from(text.as_bytes()[at]),
            permissions: permissions.to_owned(),
        })
    }

    fn apply(&self, mode: u32, directory: bool) -> u32 {
        let mut bits = 0;
        for c in self.permissions.chars() {
            bits |= match c {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if directory || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                'u' => (mode >> 6 & 7) * 0o111,
                'g' => (mode >> 3 & 7) * 0o111,
                'o' => (mode & 7) * 0o111,
                _ => 0,
            };
        }
        let bits = bits & (self.who | if self.who == 0o7777 { 0 } else { 0o1000 & bits });
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            // A directory keeps its set-id bits unless they are named, as chmod(1) has it.
            _ => (mode & !(self.who & 0o777)) & !(self.who & if directory { 0 } else { 0o7000 }) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, mode, directory, expect) in [
            ("755", 0o600, false, 0o755),
            ("4711", 0o600, false, 0o4711),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("a+x", 0o644, false, 0o755),
            ("go-rwx", 0o755, false, 0o700),
            ("g=u", 0o640, false, 0o660),
            ("u+s", 0o755, false, 0o4755),
            ("+t", 0o755, true, 0o1755),
        ] {
            assert_eq!(Chmod::parse(text).unwrap().apply(mode, directory), expect, "{text}");
        }
        assert!(Chmod::parse("rwx").is_none() && Chmod::parse("999").is_none() && Chmod::parse("").is_none());
    }
}
