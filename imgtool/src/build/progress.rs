//! What a build tells on stderr.

use std::io::{self, IsTerminal as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::ValueEnum;

use super::live::{Screen, Step};

/// How a build reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// tty on a terminal, else plain
    Auto,
    /// Every step with its output
    Plain,
    /// Steps at work with their last lines, then one line a step; all output only of a step that fails
    Tty,
    /// One JSON object a line
    Rawjson,
    /// Nothing
    Quiet,
}

/// The report of one build; steps of several stages may report at once.
#[derive(Debug)]
pub struct Progress {
    mode: Mode,
    next: AtomicUsize,
    out: Mutex<()>,
    screen: Option<Screen>,
}

/// One step in the report.
#[derive(Debug)]
pub struct Vertex<'a> {
    progress: &'a Progress,
    number: usize,
    title: String,
    started: Instant,
    kept: Mutex<Vec<String>>,
    live: Option<Step>,
}

impl Progress {
    /// Starts a report.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        let mode = match mode {
            Mode::Auto if io::stderr().is_terminal() => Mode::Tty,
            Mode::Auto => Mode::Plain,
            other => other,
        };
        let screen = (mode == Mode::Tty).then(Screen::new).flatten();
        Self { mode, next: AtomicUsize::new(1), out: Mutex::new(()), screen }
    }

    /// Starts a step.
    pub fn vertex(&self, title: &str) -> Vertex<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let title: String = title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let live = self.screen.as_ref().map(|screen| screen.step(&title));
        let vertex =
            Vertex { progress: self, number, title, started: Instant::now(), kept: Mutex::default(), live };
        match self.mode {
            Mode::Plain => self.print(&format!("#{number} {}", vertex.title)),
            Mode::Rawjson => vertex.json("started", None),
            _ => {}
        }
        vertex
    }

    /// A remark that belongs to no step.
    pub fn note(&self, text: &str) {
        match self.mode {
            Mode::Quiet => {}
            Mode::Rawjson => self.print(&serde_json::json!({"note": text}).to_string()),
            _ => self.print(text),
        }
    }

    fn print(&self, text: &str) {
        let _guard = self.out.lock();
        if let Some(screen) = &self.screen {
            return screen.print(text);
        }
        contracts::report::say(format_args!("{text}"));
    }
}

impl Vertex<'_> {
    /// A line that the step printed.
    pub fn line(&self, text: &str) {
        let clean: String =
            text.chars().filter(|c| !c.is_control() || matches!(c, '\t' | '\u{1b}')).collect();
        match self.progress.mode {
            Mode::Plain => {
                let at = self.started.elapsed().as_secs_f64();
                self.progress.print(&format!("#{} {at:.3} {clean}", self.number));
            }
            Mode::Rawjson => self.json("log", Some(&clean)),
            Mode::Auto | Mode::Tty | Mode::Quiet => {
                if let Some(live) = &self.live {
                    live.line(&clean);
                }
                if let Ok(mut kept) = self.kept.lock() {
                    // Enough to see why; a step may print without end.
                    if kept.len() >= 200 {
                        kept.remove(0);
                    }
                    kept.push(clean);
                }
            }
        }
    }

    /// The step was found in the cache.
    pub fn cached(mut self) {
        self.live.take();
        match self.progress.mode {
            Mode::Plain => self.progress.print(&format!("#{} CACHED\n", self.number)),
            Mode::Tty => self.progress.print(&format!(" => CACHED {}", self.title)),
            Mode::Rawjson => self.json("cached", None),
            Mode::Auto | Mode::Quiet => {}
        }
    }

    /// The step is done.
    pub fn done(mut self) {
        self.live.take();
        let took = self.started.elapsed().as_secs_f64();
        match self.progress.mode {
            Mode::Plain => self.progress.print(&format!("#{} DONE {took:.1}s\n", self.number)),
            Mode::Tty => self.progress.print(&format!(" => {} {took:.1}s", self.title)),
            Mode::Rawjson => self.json("done", None),
            Mode::Auto | Mode::Quiet => {}
        }
    }

    /// The step failed.
    pub fn failed(mut self, why: &str) {
        self.live.take();
        match self.progress.mode {
            Mode::Plain => self.progress.print(&format!("#{} ERROR: {why}\n", self.number)),
            Mode::Rawjson => self.json("error", Some(why)),
            Mode::Auto | Mode::Tty | Mode::Quiet => {
                let kept = self.kept.lock().map(|kept| kept.join("\n")).unwrap_or_default();
                self.progress.print(&format!(" => ERROR {}\n------\n{kept}\n------", self.title));
            }
        }
    }

    fn json(&self, event: &str, text: Option<&str>) {
        let mut value = serde_json::json!({
            "vertex": self.number, "name": self.title, "event": event,
            "seconds": self.started.elapsed().as_secs_f64(),
        });
        if let Some(text) = text {
            value["text"] = text.into();
        }
        self.progress.print(&value.to_string());
    }
}
