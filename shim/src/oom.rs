//! Out-of-memory kills, told by the kernel: an eventfd on version 1 cgroups, inotify on version 2.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::cgroup::Cgroup;

enum Source {
    V1 { event: EventFd, _control: File },
    V2 { watch: Inotify, kills: u64 },
}

struct Watched {
    container: String,
    /// `memory.oom_control` or `memory.events`.
    counter: PathBuf,
    source: Source,
}

/// The containers being watched, by the token of their descriptor.
#[derive(Default)]
pub struct Watcher {
    watched: BTreeMap<u64, Watched>,
}

impl Watcher {
    /// Watches a container's cgroup. Says whether it happened before, of which the kernel will not tell any more.
    pub fn add(&mut self, epoll: &Epoll, token: u64, container: &str, cgroup: &Cgroup) -> Result<bool> {
        let watched = match cgroup {
            Cgroup::V2(dir) => {
                let counter = dir.join("memory.events");
                let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
                watch
                    .add_watch(&counter, AddWatchFlags::IN_MODIFY)
                    .with_context(|| format!("watch {}", counter.display()))?;
                epoll.add(&watch, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
                let kills = kills(&counter).unwrap_or(0);
                Watched { container: container.into(), counter, source: Source::V2 { watch, kills } }
            }
            Cgroup::V1(_) => {
                let dir = cgroup.controller("memory").context("no memory controller")?;
                let counter = dir.join("memory.oom_control");
                let control = File::open(&counter).with_context(|| format!("open {}", counter.display()))?;
                let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
                let register = dir.join("cgroup.event_control");
                fs::write(
                    &register,
                    format!("{} {}", std::os::fd::AsFd::as_fd(&event).as_raw_fd(), control.as_raw_fd()),
                )
                .with_context(|| format!("write {}", register.display()))?;
                epoll.add(&event, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
                Watched {
                    container: container.into(),
                    counter,
                    source: Source::V1 { event, _control: control },
                }
            }
        };
        let before = kills(&watched.counter).unwrap_or(0) > 0;
        self.watched.insert(token, watched);
        Ok(before)
    }

    /// Something happened under this token: the container that ran out of memory, if one did.
    pub fn on_ready(&mut self, token: u64) -> Option<String> {
        let watched = self.watched.get_mut(&token)?;
        match &mut watched.source {
            Source::V1 { event, .. } => {
                let _ = event.read();
                // The removal of the cgroup says the same.
                if !watched.counter.exists() {
                    self.watched.remove(&token);
                    return None;
                }
                Some(watched.container.clone())
            }
            Source::V2 { watch, kills: known } => {
                let _ = watch.read_events();
                let Some(now) = kills(&watched.counter) else {
                    self.watched.remove(&token);
                    return None;
                };
                let more = now > *known;
                *known = now;
                more.then(|| watched.container.clone())
            }
        }
    }

    /// The container is gone.
    pub fn remove(&mut self, container: &str) {
        self.watched.retain(|_, watched| watched.container != container);
    }
}

fn kills(counter: &Path) -> Option<u64> {
    let text = fs::read_to_string(counter).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}
