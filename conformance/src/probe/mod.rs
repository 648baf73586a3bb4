//! What runs inside the container: the `probe` verb of this very binary, copied in as `/probe`.
//!
//! It prints facts as JSON and does small deeds whose outcome the case then judges. It has to work with no /proc, no
//! /dev, no libraries and no privileges, so nothing here is assumed to succeed.

mod attempt;
mod facts;

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, raise};
use serde_json::{Value, json};

use crate::kernel;

/// Runs the probe verb in `args`.
///
/// `facts` · `tty` · `try OP…` · `exit CODE` · `die SIGNAL` · `echo WORD…` · `cat` · `lines MIB BYTES` · `pause` (until SIGTERM) · `signals` (names
/// those it gets, until SIGTERM) · `exchange PATH PATH` (for ever) · `hook NAME FILE [EXIT]` · `fork N` · `eat MIB`
pub fn run(args: &[String]) -> ExitCode {
    let argument = |index: usize| args.get(index).map_or("", String::as_str);
    match argument(0) {
        "facts" => print(&facts::collect()),
        "tty" => print(&facts::terminal()),
        "try" => print(&attempt::all(&args[1..])),
        "exit" => ExitCode::from(argument(1).parse::<u8>().unwrap_or(99)),
        "die" => {
            let _ = argument(1).parse().map(|signal: Signal| raise(signal));
            ExitCode::from(98)
        }
        "echo" => say(&args[1..].join(" ")),
        "cat" => {
            if copy().is_ok() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        "lines" => lines(argument(1), argument(2)),
        "pause" => await_signals(false),
        "signals" => await_signals(true),
        "exchange" => exchange(argument(1), argument(2)),
        "hook" => hook(&args[1..]),
        "fork" => fork(argument(1)),
        "eat" => eat(argument(1)),
        other => {
            let _ = writeln!(io::stderr(), "probe: unknown verb {other:?}");
            ExitCode::from(2)
        }
    }
}

/// By read(2) and write(2), 64 KiB at a time: as a benchmark's floor it must not be slower, as splice(2) into memory is.
fn copy() -> io::Result<()> {
    let mut from = std::fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut to = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length])?,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}

/// That many MiB of lines of so many bytes, in blocks as a buffered writer makes them.
fn lines(mib: &str, length: &str) -> ExitCode {
    let (Ok(mib), Ok(length @ 1..)) = (mib.parse::<usize>(), length.parse::<usize>()) else {
        return ExitCode::from(2);
    };
    let mut line = vec![b'x'; length];
    line[length - 1] = b'\n';
    let block = line.repeat((16_000 / length).max(1));
    let mut left = (mib << 20).div_ceil(length) * length;
    let Ok(out) = io::stdout().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    let mut out = std::fs::File::from(out);
    while left > 0 {
        let length = left.min(block.len());
        if out.write_all(&block[..length]).is_err() {
            return ExitCode::FAILURE;
        }
        left -= length;
    }
    ExitCode::SUCCESS
}

fn print(value: &Value) -> ExitCode {
    say(&value.to_string())
}

fn say(text: &str) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Blocks every signal and takes them one by one: as PID 1 only a signal that is handled arrives at all.
fn await_signals(name_them: bool) -> ExitCode {
    let all = SigSet::all();
    if all.thread_block().is_err() {
        return ExitCode::FAILURE;
    }
    say("ready");
    loop {
        match all.wait() {
            Ok(Signal::SIGTERM) => return ExitCode::SUCCESS,
            Ok(signal) if name_them => _ = say(signal.as_str()),
            Ok(_) => {}
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

/// Exchanges two names until it is killed.
fn exchange(one: &str, two: &str) -> ExitCode {
    let mut told = false;
    loop {
        if let Err(err) = kernel::exchange(one.as_ref(), two.as_ref()) {
            let _ = writeln!(io::stderr(), "probe: exchange {one} and {two}: {err}");
            return ExitCode::FAILURE;
        }
        if !told {
            say("ready");
            told = true;
        }
    }
}

/// As a hook: appends what it was given to a file as one JSON line, then exits as told.
fn hook(args: &[String]) -> ExitCode {
    let [name, file, rest @ ..] = args else { return ExitCode::from(2) };
    let mut text = String::new();
    let _ = io::stdin().read_to_string(&mut text);
    let state: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let mut line = json!({
        "hook": name, "state": state, "facts": facts::collect(), "args": env::args().collect::<Vec<_>>(),
    })
    .to_string();
    line.push('\n');
    // One write: hooks of two containers may share a file.
    let written = OpenOptions::new().append(true).create(true).open(file);
    if let Err(err) = written.and_then(|mut file| file.write_all(line.as_bytes())) {
        let _ = writeln!(io::stderr(), "hook {name}: {file}: {err}");
        return ExitCode::from(97);
    }
    match rest.first().map(String::as_str) {
        Some("sleep") => {
            std::thread::sleep(Duration::from_secs(600));
            ExitCode::SUCCESS
        }
        Some(code) => ExitCode::from(code.parse::<u8>().unwrap_or(0)),
        None => ExitCode::SUCCESS,
    }
}

/// Starts children of itself that pause, says how many it got, and pauses.
fn fork(count: &str) -> ExitCode {
    let wanted: u32 = count.parse().unwrap_or(1);
    let mut children = Vec::new();
    for _ in 0..wanted {
        match std::process::Command::new("/proc/self/exe")
            .args(["probe", "pause"])
            .stdout(io::stderr())
            .spawn()
        {
            Ok(child) => children.push(child),
            Err(_) => break,
        }
    }
    print(&json!({"wanted": wanted, "started": children.len()}));
    await_signals(false)
}

/// Touches that much memory, page by page.
fn eat(mebibytes: &str) -> ExitCode {
    let size = mebibytes.parse::<usize>().unwrap_or(1) << 20;
    let mut memory = vec![0_u8; size];
    for at in (0..size).step_by(4096) {
        memory[at] = 1;
    }
    say(&std::hint::black_box(&memory).len().to_string())
}
