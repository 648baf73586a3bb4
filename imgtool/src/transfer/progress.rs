//! Progress: bars on a terminal, nothing in a pipe.

use std::io::{self, IsTerminal as _, Read};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::store::document::Descriptor;

/// All bars of a command.
#[derive(Clone)]
pub struct Progress {
    bars: Option<MultiProgress>,
}

impl Progress {
    /// Bars on stderr if it is a terminal and `quiet` is not wished.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let shown = !quiet && io::stderr().is_terminal();
        let target = || ProgressDrawTarget::stderr_with_hz(10);
        Self { bars: shown.then(|| MultiProgress::with_draw_target(target())) }
    }

    /// A bar for one blob.
    #[must_use]
    pub fn bar(&self, descriptor: &Descriptor) -> Bar {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(descriptor.size));
            // The templates are ours; one that does not parse would show as the library's own.
            if let Ok(style) =
                ProgressStyle::with_template("{prefix}: {msg:12} [{wide_bar}] {bytes}/{total_bytes}")
            {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(descriptor.digest.short().to_owned());
            bar.set_message("Waiting");
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Bar { bar }
    }
}

/// One bar; does nothing where none is shown.
pub struct Bar {
    bar: Option<ProgressBar>,
}

impl Bar {
    /// Stands at `bytes`.
    pub fn set(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message("Transferring");
            bar.set_position(bytes);
        }
    }

    /// Does something else than transferring now.
    pub fn now(&self, word: &'static str) {
        if let Some(bar) = &self.bar {
            bar.set_message(word);
        }
    }

    /// Ends with a word.
    pub fn done(&self, word: &'static str) {
        if let Some(bar) = &self.bar {
            if let Ok(style) = ProgressStyle::with_template("{prefix}: {msg}") {
                bar.set_style(style);
            }
            bar.finish_with_message(word);
        }
    }

    /// Counts what is read through it.
    pub fn reading<'a>(&'a self, inner: Box<dyn Read + Send + 'a>) -> Counted<'a> {
        Counted { inner, bar: self.bar.as_ref() }
    }
}

/// See [`Bar::reading`].
pub struct Counted<'a> {
    inner: Box<dyn Read + Send + 'a>,
    bar: Option<&'a ProgressBar>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(bar) = self.bar {
            bar.inc(count as u64);
        }
        Ok(count)
    }
}
