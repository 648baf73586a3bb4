//! Pausing all processes of a container: the v1 freezer where there is one, else `cgroup.freeze`.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use contracts::fault;

use super::file::Dir;
use super::{Location, Member};

/// How long processes may take to freeze: one in an uninterruptible wait cannot.
const PATIENCE: Duration = Duration::from_secs(10);

/// The directory that freezes, and how.
struct Freezer {
    dir: Dir,
    file: &'static str,
    words: [&'static str; 2],
}

impl Freezer {
    fn find(location: &Location) -> Option<(&Member, &'static str, [&'static str; 2])> {
        match (location.with_controller("freezer"), location.unified()) {
            (Some(member), _) => Some((member, "freezer.state", ["THAWED", "FROZEN"])),
            (None, Some(member)) => Some((member, "cgroup.freeze", ["0", "1"])),
            (None, None) => None,
        }
    }

    fn of(location: &Location) -> Result<Option<Self>> {
        let Some((member, file, words)) = Self::find(location) else { return Ok(None) };
        Ok(Some(Self { dir: Dir::open(&member.controllers, &member.path)?, file, words }))
    }

    fn set(&self, frozen: bool) -> Result<()> {
        let word = self.words[usize::from(frozen)];
        self.dir
            .write(self.file, word)
            .with_context(|| format!("write {word} to {}", self.dir.name_of(self.file)))
    }

    fn read(&self, file: &str) -> Result<String> {
        self.dir.read(file).with_context(|| format!("read {}", self.dir.name_of(file)))
    }

    /// Whether every process has stopped.
    fn is_done(&self) -> Result<bool> {
        if self.dir.is_unified() {
            return Ok(self.read("cgroup.events")?.lines().any(|line| line == "frozen 1"));
        }
        // A process that forked meanwhile leaves the kernel at FREEZING: asking again catches the child.
        let done = self.read(self.file)?.trim_end() == self.words[1];
        if !done {
            self.set(true)?;
        }
        Ok(done)
    }
}

impl Location {
    /// Stops all processes and waits until they stand; thaws them again where they do not.
    ///
    /// # Errors
    /// No freezer, or a process that cannot be stopped in ten seconds.
    pub fn freeze(&self) -> Result<()> {
        let Some(freezer) = Freezer::of(self)? else {
            fault!(Unsupported, "the container has no cgroup that could be frozen");
        };
        freezer.set(true)?;
        let end = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(10);
        while !freezer.is_done()? {
            if Instant::now() > end {
                let _ = freezer.set(false);
                bail!("freeze {}: some process does not stop", freezer.dir.path.display());
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Lets all processes run again.
    ///
    /// # Errors
    /// No freezer, or the kernel refuses.
    pub fn thaw(&self) -> Result<()> {
        match Freezer::of(self)? {
            Some(freezer) => freezer.set(false),
            None => fault!(Unsupported, "the container has no cgroup that could be frozen"),
        }
    }

    /// Whether the container is paused, or about to be. One without a freezer, or whose cgroup is gone, never is.
    ///
    /// # Errors
    /// The cgroup cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        let Some((member, file, words)) = Freezer::find(self) else { return Ok(false) };
        // Every `state` and `start` asks: one open and one read, of a word that never is longer.
        let path = member.path.join(file);
        let mut word = [0; 16];
        let length = File::open(&path).and_then(|mut file| file.read(&mut word));
        // A cgroup that is gone, for its processes have been moved elsewhere, holds nobody.
        if length.as_ref().is_err_and(|err| err.kind() == ErrorKind::NotFound) {
            return Ok(false);
        }
        let length = length.with_context(|| format!("read {}", path.display()))?;
        Ok(word[..length].trim_ascii_end() != words[0].as_bytes())
    }
}
