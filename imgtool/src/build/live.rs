//! The steps at work, on a terminal: a line each that counts its seconds, and the last lines of its output below.

use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Lines of output that a step at work shows.
const SHOWN: usize = 4;

/// The terminal.
#[derive(Debug)]
pub struct Screen {
    all: MultiProgress,
}

impl Screen {
    /// Stderr, where it is a terminal.
    pub fn new() -> Option<Self> {
        let target = || ProgressDrawTarget::stderr_with_hz(10);
        io::stderr().is_terminal().then(|| Self { all: MultiProgress::with_draw_target(target()) })
    }

    /// Prints lines above those of the steps at work.
    pub fn print(&self, text: &str) {
        // A terminal that went away is no reason to stop.
        let _ = self.all.println(text);
    }

    /// A step begins.
    pub fn step(&self, title: &str) -> Step {
        let bar = self.all.add(ProgressBar::new_spinner());
        // The templates are ours; one that does not parse would show as the library's own.
        if let Ok(style) = ProgressStyle::with_template(" {spinner} {wide_msg} {took}") {
            bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ").with_key("took", took));
        }
        bar.set_message(title.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Step { all: self.all.clone(), bar, lines: Mutex::default() }
    }
}

fn took(state: &ProgressState, out: &mut dyn std::fmt::Write) {
    // Writing to a string cannot fail.
    let _ = out.write_str(&format!("{:.1}s", state.elapsed().as_secs_f64()));
}

/// A step at work.
#[derive(Debug)]
pub struct Step {
    all: MultiProgress,
    bar: ProgressBar,
    lines: Mutex<Vec<ProgressBar>>,
}

impl Step {
    /// The step printed a line.
    pub fn line(&self, text: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < SHOWN {
            let line = self.all.insert_after(lines.last().unwrap_or(&self.bar), ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("   => # {wide_msg}") {
                line.set_style(style);
            }
            lines.push(line);
        } else {
            for at in 1..lines.len() {
                lines[at - 1].set_message(lines[at].message());
            }
        }
        if let Some(last) = lines.last() {
            last.set_message(text.to_owned());
            last.tick();
        }
    }

    /// The step is at its end; its lines go.
    pub fn end(&self) {
        for line in self.lines.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            line.finish_and_clear();
        }
        self.bar.finish_and_clear();
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.end();
    }
}
