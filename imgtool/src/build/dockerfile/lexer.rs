//! Dockerfile text into instructions: parser directives, comments, continued lines, heredoc bodies.

use super::heredoc::{self, Heredoc};
use super::{Span, Wrong};

/// One instruction, its lines joined.
#[derive(Debug, Clone)]
pub struct Line {
    /// Name in capitals.
    pub name: String,
    /// Name as it was written.
    pub written: String,
    /// The comment lines right above it, without their `#`.
    pub comments: Vec<String>,
    /// An empty line stands where it should go on.
    pub empty_continuation: bool,
    /// Everything after the name.
    pub rest: String,
    /// Bodies announced by `<<NAME`.
    pub heredocs: Vec<Heredoc>,
    /// Where it stands.
    pub span: Span,
}

/// A Dockerfile cut into instructions.
#[derive(Debug)]
pub struct Lexed {
    /// `\`, or a backquote by the `escape` directive.
    pub escape: char,
    /// Value of the `check` directive.
    pub check: Option<String>,
    /// The instructions.
    pub lines: Vec<Line>,
}

/// Cuts `text` into instructions.
///
/// # Errors
/// A bad directive, a heredoc without its end, no instruction at all.
pub fn lex(text: &str) -> Result<Lexed, Wrong> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let physical: Vec<&str> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    // What is cut off behind the last newline is no line, though a continuation goes on into it.
    let lines = text.lines().count().max(1);
    let mut lexed = Lexed { escape: '\\', check: None, lines: Vec::new() };
    let mut at = directives(&physical, &mut lexed)?;
    let mut comments: Vec<String> = Vec::new();
    for line in &physical[..at] {
        comments.push(line.trim_start().trim_start_matches('#').trim().to_owned());
    }
    while at < physical.len() {
        let first = at;
        let text = physical[at].trim();
        if text.is_empty() {
            comments.clear();
        } else if let Some(comment) = text.strip_prefix('#') {
            comments.push(comment.trim().to_owned());
        }
        if is_comment_or_blank(physical[at]) {
            at += 1;
            continue;
        }
        let (joined, empty_continuation) = join(&physical, &mut at, lexed.escape);
        let mut line = instruction(&joined, Span { first: first + 1, last: at.min(lines) });
        line.empty_continuation = empty_continuation;
        line.comments = std::mem::take(&mut comments);
        if heredoc::allowed(&line.name, &line.rest) {
            for announced in heredoc::announced(&line.rest, lexed.escape) {
                let body = heredoc::body(&announced, &physical, &mut at).ok_or_else(|| {
                    Wrong::at(line.span, &announced.word, "unterminated heredoc".to_owned())
                })?;
                line.heredocs.push(Heredoc { content: body, ..announced });
                line.span.last = at;
            }
        }
        lexed.lines.push(line);
    }
    if lexed.lines.is_empty() {
        return Err(Wrong::new(Span { first: 1, last: 1 }, "file with no instructions"));
    }
    Ok(lexed)
}

/// `# key=value` lines count only before anything else. Returns the first line after them.
fn directives(physical: &[&str], lexed: &mut Lexed) -> Result<usize, Wrong> {
    let mut seen: Vec<String> = Vec::new();
    for (at, line) in physical.iter().enumerate() {
        let Some((key, value)) = line.trim_start().strip_prefix('#').and_then(|line| line.split_once('='))
        else {
            return Ok(at);
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        let span = Span { first: at + 1, last: at + 1 };
        match key.as_str() {
            "escape" | "syntax" | "check" if seen.contains(&key) => {
                return Err(Wrong::new(span, format!("only one {key} parser directive can be used")));
            }
            "escape" => match value {
                "\\" => lexed.escape = '\\',
                "`" => lexed.escape = '`',
                other => {
                    let message = format!("invalid escape token '{other}' does not match ` or \\");
                    return Err(Wrong::at(span, other, message));
                }
            },
            // The newest language is built in; a frontend image would be foreign code with our rights.
            "syntax" => {}
            "check" => lexed.check = Some(value.to_owned()),
            _ => return Ok(at),
        }
        seen.push(key);
    }
    Ok(physical.len())
}

fn is_comment_or_blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// Joins continued lines; comments and blank lines between them vanish. `at` moves past them. Says whether there were
/// blank ones.
fn join(physical: &[&str], at: &mut usize, escape: char) -> (String, bool) {
    let mut joined = String::new();
    let mut blank = false;
    let mut first = true;
    while let Some(line) = physical.get(*at) {
        *at += 1;
        if !first && is_comment_or_blank(line) {
            blank |= line.trim().is_empty() && *at < physical.len();
            continue;
        }
        let line = if first { line.trim_start() } else { line };
        first = false;
        let trimmed = line.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix(escape) {
            Some(continued) => joined.push_str(continued),
            None => {
                joined.push_str(line);
                break;
            }
        }
    }
    (joined, blank)
}

fn instruction(joined: &str, span: Span) -> Line {
    let joined = joined.trim();
    let end = joined.find(char::is_whitespace).unwrap_or(joined.len());
    Line {
        name: joined[..end].to_ascii_uppercase(),
        written: joined[..end].to_owned(),
        comments: Vec::new(),
        empty_continuation: false,
        rest: joined[end..].trim_start().to_owned(),
        heredocs: Vec::new(),
        span,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rests(text: &str) -> Vec<(String, String)> {
        lex(text).unwrap().lines.into_iter().map(|line| (line.name, line.rest)).collect()
    }

    #[test]
    fn a_continuation_at_the_end_has_its_place_in_the_file() {
        let lines = lex("FROM x\nRUN a \\\n# no\n").unwrap().lines;
        assert_eq!(lines[1].span, Span { first: 2, last: 3 });
    }

    #[test]
    fn continued_lines_lose_comments_and_blanks() {
        let text = "from x\n\trUn a \\\n  # no\n\n  b \\ \n c\n#end\nCMD z \\";
        let got = rests(text);
        assert_eq!(got[1], ("RUN".into(), "a   b  c".into()));
        assert_eq!(got[2], ("CMD".into(), "z".into()));
    }

    #[test]
    fn directives_come_first_or_not_at_all() {
        assert_eq!(lex("# syntax=a/b\n# escape=`\nRUN a `\n b").unwrap().lines.len(), 1);
        assert_eq!(lex("# hi\n# escape=`\nRUN a `\nRUN b").unwrap().lines.len(), 2);
        assert!(lex("# escape=x\nRUN a").is_err());
        assert!(lex("# nothing\n").is_err());
    }

    #[test]
    fn heredocs_are_taken_out_of_the_text() {
        let lexed = lex("RUN cat <<A <<-\"B\"\n1\nA\n\t2\n\tB\nCMD x").unwrap();
        assert_eq!(lexed.lines.len(), 2);
        let docs = &lexed.lines[0].heredocs;
        assert_eq!((docs[0].content.as_str(), docs[1].content.as_str()), ("1\n", "2\n"));
        assert!(docs[0].expand && !docs[1].expand);
        assert_eq!(lexed.lines[0].span, Span { first: 1, last: 5 });
        assert!(lex("RUN <<A\nx").is_err());
    }
}
