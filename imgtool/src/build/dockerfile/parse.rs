//! Instructions out of lines.

use contracts::flag::duration;

use super::instruction::{Command, Copy, Dockerfile, Form, From, Health, Instruction, Run, Stage, Step};
use super::lexer::{Lexed, Line, lex};
use super::{Wrong, heredoc, words};

const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a Dockerfile.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn dockerfile(text: &str) -> Result<Dockerfile, Wrong> {
    let Lexed { escape, lines, check } = lex(text)?;
    let mut file = Dockerfile { escape, global: Vec::new(), stages: Vec::new(), check };
    for line in &lines {
        if line.name == "FROM" {
            let from = from(line, escape)?;
            file.stages.push(Stage { from, steps: Vec::new(), span: line.span, form: form(line) });
            continue;
        }
        let step = step(line, escape)?;
        match (file.stages.last_mut(), &step.instruction) {
            (Some(stage), _) => stage.steps.push(step),
            (None, Instruction::Arg(_)) => file.global.push(step),
            (None, _) => return Err(Wrong::new(line.span, "no build stage in current context")),
        }
    }
    if file.stages.is_empty() {
        let span = lines.last().map(|line| line.span).unwrap_or_default();
        return Err(Wrong::new(span, "no build stage: a Dockerfile needs FROM"));
    }
    Ok(file)
}

fn form(line: &Line) -> Form {
    Form {
        name: line.written.clone(),
        comments: line.comments.clone(),
        empty_continuation: line.empty_continuation,
        legacy_pair: matches!(line.name.as_str(), "ENV" | "LABEL") && is_legacy_pair(&line.rest),
    }
}

/// Reads the instruction that an image's ONBUILD holds.
///
/// # Errors
/// It is none.
pub fn trigger(text: &str) -> Result<Step, Wrong> {
    let lexed = lex(text)?;
    match lexed.lines.as_slice() {
        [line] => step(line, lexed.escape),
        _ => Err(Wrong::new(lexed.lines[0].span, "an ONBUILD trigger is one instruction")),
    }
}

fn is_legacy_pair(rest: &str) -> bool {
    rest.split_whitespace().next().is_some_and(|word| !word.contains('='))
}

/// Reads one instruction other than FROM.
fn step(line: &Line, escape: char) -> Result<Step, Wrong> {
    let mut text = format!("{} {}", line.name, line.rest);
    if let (Some(doc), true) = (line.heredocs.first(), line.name == "RUN") {
        let first = doc.content.lines().next().unwrap_or_default();
        let more = if doc.content.lines().nth(1).is_some() { "..." } else { "" };
        text = format!("{text} ({first}{more})");
    }
    Ok(Step { instruction: instruction(line, escape)?, text, span: line.span, form: form(line) })
}

fn instruction(line: &Line, escape: char) -> Result<Instruction, Wrong> {
    if !NAMES.contains(&line.name.as_str()) {
        let near = NAMES.iter().find(|known| distance(known, &line.name) <= 2);
        let hint = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
        return Err(Wrong::new(line.span, format!("unknown instruction: {}{hint}", line.name)));
    }
    if line.rest.is_empty() && line.name != "CMD" && line.name != "ENTRYPOINT" {
        return Err(Wrong::new(line.span, format!("{} requires at least one argument", line.name)));
    }
    if !matches!(line.name.as_str(), "RUN" | "COPY" | "ADD" | "HEALTHCHECK") {
        let (flags, _) = words::flags(&line.rest, escape);
        if let (
            Some((flag, _)),
            "ARG" | "ENV" | "EXPOSE" | "LABEL" | "ONBUILD" | "USER" | "VOLUME" | "WORKDIR" | "STOPSIGNAL"
            | "SHELL" | "MAINTAINER",
        ) = (flags.first(), line.name.as_str())
        {
            return Err(Wrong::at(line.span, &format!("--{flag}"), format!("unknown flag: --{flag}")));
        }
    }
    Ok(match line.name.as_str() {
        "ARG" => Instruction::Arg(arguments(line, escape)?),
        "ENV" => Instruction::Env(pairs(line, escape)?),
        "LABEL" => Instruction::Label(pairs(line, escape)?),
        "RUN" => Instruction::Run(Box::new(run(line, escape)?)),
        "COPY" | "ADD" => Instruction::Copy(Box::new(copy(line, escape)?)),
        "CMD" => Instruction::Cmd(command(&line.rest)),
        "ENTRYPOINT" => Instruction::Entrypoint(command(&line.rest)),
        "SHELL" => match words::json(&line.rest) {
            Some(shell) if !shell.is_empty() => Instruction::Shell(shell),
            _ => return Err(Wrong::new(line.span, "SHELL requires the arguments to be in JSON form")),
        },
        "EXPOSE" => Instruction::Expose(line.rest.clone()),
        "VOLUME" => volume(line)?,
        "USER" => Instruction::User(single(line)?),
        "WORKDIR" => Instruction::Workdir(line.rest.clone()),
        "STOPSIGNAL" => Instruction::StopSignal(single(line)?),
        "MAINTAINER" => Instruction::Maintainer(line.rest.clone()),
        "HEALTHCHECK" => Instruction::Healthcheck(health(line, escape)?),
        _ => onbuild(line, escape)?,
    })
}

fn single(line: &Line) -> Result<String, Wrong> {
    match line.rest.split_whitespace().count() {
        1 => Ok(line.rest.trim().to_owned()),
        _ => Err(Wrong::new(line.span, format!("{} requires exactly one argument", line.name))),
    }
}

fn volume(line: &Line) -> Result<Instruction, Wrong> {
    let paths =
        words::json(&line.rest).unwrap_or_else(|| line.rest.split_whitespace().map(str::to_owned).collect());
    if paths.iter().any(|path| path.trim().is_empty()) || paths.is_empty() {
        return Err(Wrong::new(line.span, "VOLUME specified can not be an empty string"));
    }
    Ok(Instruction::Volume(paths))
}

fn onbuild(line: &Line, escape: char) -> Result<Instruction, Wrong> {
    let (name, rest) = line.rest.split_once(char::is_whitespace).unwrap_or((&line.rest, ""));
    let inner = Line {
        name: name.to_ascii_uppercase(),
        rest: rest.trim_start().to_owned(),
        heredocs: line.heredocs.clone(),
        written: name.to_owned(),
        comments: Vec::new(),
        empty_continuation: false,
        span: line.span,
    };
    if matches!(inner.name.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
        let message = match inner.name.as_str() {
            "ONBUILD" => "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
            other => format!("{other} isn't allowed as an ONBUILD trigger"),
        };
        return Err(Wrong::at(line.span, name, message));
    }
    instruction(&inner, escape)?;
    let mut text = line.rest.clone();
    for doc in &line.heredocs {
        text = format!("{text}\n{}{}", doc.content, doc.name);
    }
    Ok(Instruction::Onbuild(text))
}

fn from(line: &Line, escape: char) -> Result<From, Wrong> {
    let (flags, rest) = words::flags(&line.rest, escape);
    let mut from = From::default();
    for (flag, value) in flags {
        match (flag.as_str(), value) {
            ("platform", Some(value)) => from.platform = Some(value),
            _ => return Err(Wrong::at(line.span, &format!("--{flag}"), format!("unknown flag: --{flag}"))),
        }
    }
    let parts: Vec<&str> = rest.split_whitespace().collect();
    match parts.as_slice() {
        [image] => (*image).clone_into(&mut from.image),
        [image, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
            (*image).clone_into(&mut from.image);
            from.as_written = Some(((*keyword).to_owned(), (*name).to_owned()));
            let name = name.to_ascii_lowercase();
            let mut bytes = name.bytes();
            let valid = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            if !valid {
                let message = format!(
                    "invalid name for build stage: \"{name}\", name can't start with a number or contain symbols"
                );
                return Err(Wrong::at(line.span, parts[2], message));
            }
            from.name = Some(name);
        }
        _ => return Err(Wrong::new(line.span, "FROM requires either one or three arguments")),
    }
    Ok(from)
}

fn command(rest: &str) -> Command {
    match words::json(rest) {
        Some(words) => Command::Exec(words),
        None => Command::Shell(rest.to_owned()),
    }
}

fn arguments(line: &Line, escape: char) -> Result<Vec<(String, Option<String>)>, Wrong> {
    let mut out = Vec::new();
    for word in words::split(&line.rest, escape) {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word.clone(), None),
        };
        if name.is_empty() {
            return Err(Wrong::at(line.span, &word, "ARG names can not be blank"));
        }
        out.push((name, value));
    }
    Ok(out)
}

/// `KEY=VALUE …`, or the old `KEY VALUE` whose value is the rest of the line.
fn pairs(line: &Line, escape: char) -> Result<Vec<(String, String)>, Wrong> {
    let words = words::split(&line.rest, escape);
    let name = &line.name;
    if words.first().is_some_and(|word| !word.contains('=')) {
        let (key, value) = line.rest.split_once(char::is_whitespace).unwrap_or((&line.rest, ""));
        if value.trim().is_empty() {
            return Err(Wrong::new(line.span, format!("{name} must have two arguments")));
        }
        return Ok(vec![(key.to_owned(), value.trim_start().to_owned())]);
    }
    let mut out = Vec::new();
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            let message =
                format!("Syntax error - can't find = in \"{word}\". Must be of the form: name=value");
            return Err(Wrong::at(line.span, &word, message));
        };
        if key.is_empty() {
            return Err(Wrong::at(line.span, &word, format!("{name} names can not be blank")));
        }
        out.push((key.to_owned(), value.to_owned()));
    }
    Ok(out)
}

fn run(line: &Line, escape: char) -> Result<Run, Wrong> {
    let (flags, rest) = words::flags(&line.rest, escape);
    let mut run = Run {
        command: command(&rest),
        heredocs: line.heredocs.clone(),
        mounts: Vec::new(),
        network: None,
        security: None,
    };
    if rest.is_empty() {
        return Err(Wrong::new(line.span, "RUN requires at least one argument"));
    }
    for (flag, value) in flags {
        let value = required(line, &flag, value)?;
        match flag.as_str() {
            "mount" => {
                let from = value.split(',').find_map(|field| field.strip_prefix("from="));
                if from.is_some_and(|from| from.contains('$')) {
                    let why = "'from' doesn't support variable expansion, define alias stage instead";
                    return Err(Wrong::at(line.span, &value, why));
                }
                run.mounts.push(value);
            }
            "device" => {
                let why = "--device is not supported: build steps get no devices (no CDI here)";
                return Err(Wrong::at(line.span, "--device", why));
            }
            "network" if matches!(value.as_str(), "default" | "none" | "host") => run.network = Some(value),
            "security" if matches!(value.as_str(), "sandbox" | "insecure") => run.security = Some(value),
            "network" | "security" => {
                return Err(Wrong::at(line.span, &value, format!("invalid value for --{flag}: {value}")));
            }
            _ => return Err(Wrong::at(line.span, &format!("--{flag}"), format!("unknown flag: --{flag}"))),
        }
    }
    Ok(run)
}

fn required(line: &Line, flag: &str, value: Option<String>) -> Result<String, Wrong> {
    value.ok_or_else(|| {
        Wrong::at(line.span, &format!("--{flag}"), format!("missing a value on flag: --{flag}"))
    })
}

fn copy(line: &Line, escape: char) -> Result<Copy, Wrong> {
    let (flags, rest) = words::flags(&line.rest, escape);
    let mut copy = Copy { add: line.name == "ADD", heredocs: line.heredocs.clone(), ..Copy::default() };
    for (flag, value) in flags {
        let unknown = || Wrong::at(line.span, &format!("--{flag}"), format!("unknown flag: --{flag}"));
        let switch = |value: Option<&str>| match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(Wrong::at(
                line.span,
                other,
                format!("expected boolean value for flag {flag}, got: {other}"),
            )),
        };
        match flag.as_str() {
            "link" => copy.link = switch(value.as_deref())?,
            "parents" if !copy.add => copy.parents = switch(value.as_deref())?,
            "keep-git-dir" if copy.add => copy.keep_git_dir = switch(value.as_deref())?,
            "unpack" if copy.add => copy.unpack = Some(switch(value.as_deref())?),
            "chown" => copy.chown = Some(required(line, &flag, value)?),
            "chmod" => copy.chmod = Some(required(line, &flag, value)?),
            "exclude" => copy.exclude.push(required(line, &flag, value)?),
            "from" if !copy.add => copy.from = Some(required(line, &flag, value)?),
            "checksum" if copy.add => copy.checksum = Some(required(line, &flag, value)?),
            _ => return Err(unknown()),
        }
    }
    let mut all = words::json(&rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
    let Some(dest) = all.pop().filter(|_| !all.is_empty()) else {
        let message = format!(
            "{} requires at least two arguments, but only one was provided. Destination could not be determined",
            line.name
        );
        return Err(Wrong::new(line.span, message));
    };
    copy.dest = dest;
    // A heredoc's word is no source: its body is.
    copy.sources =
        all.into_iter().filter(|word| line.heredocs.is_empty() || heredoc::parse(word).is_none()).collect();
    Ok(copy)
}

fn health(line: &Line, escape: char) -> Result<Health, Wrong> {
    let (flags, rest) = words::flags(&line.rest, escape);
    let (kind, rest) = rest.split_once(char::is_whitespace).unwrap_or((&rest, ""));
    let mut health = Health::default();
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() && flags.is_empty() => return Ok(health),
        "NONE" => return Err(Wrong::new(line.span, "HEALTHCHECK NONE takes no arguments")),
        "CMD" if rest.trim().is_empty() => {
            return Err(Wrong::new(line.span, "Missing command after HEALTHCHECK CMD"));
        }
        "CMD" => health.command = Some(command(rest.trim_start())),
        other => {
            let message = format!("Unknown type \"{other}\" in HEALTHCHECK (try CMD)");
            return Err(Wrong::at(line.span, kind, message));
        }
    }
    for (flag, value) in flags {
        let value = required(line, &flag, value)?;
        let bad = |why: &str| Wrong::at(line.span, &value, format!("--{flag} {value}: {why}"));
        let time = || -> Result<i64, Wrong> {
            let time = duration::parse(&value).map_err(|why| bad(&why))?;
            // Docker's engine refuses shorter ones when the container is made.
            if time != 0 && time < 1_000_000 { Err(bad("cannot be less than 1ms")) } else { Ok(time) }
        };
        match flag.as_str() {
            "interval" => health.interval = time()?,
            "timeout" => health.timeout = time()?,
            "start-period" => health.start_period = time()?,
            "start-interval" => health.start_interval = time()?,
            "retries" => {
                let retries = value.parse().ok().filter(|retries| *retries >= 0);
                health.retries = retries.ok_or_else(|| bad("must be a number, 0 or more"))?;
            }
            _ => return Err(Wrong::at(line.span, &format!("--{flag}"), format!("unknown flag: --{flag}"))),
        }
    }
    Ok(health)
}

/// Edits between two words, for hints.
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut last = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let new = (last + usize::from(ca != *cb)).min(row[j] + 1).min(row[j + 1] + 1);
            last = std::mem::replace(&mut row[j + 1], new);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
