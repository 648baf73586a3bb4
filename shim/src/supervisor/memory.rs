//! Processes of the container that the kernel kills for memory: told when it happens, and once more looked for at the end.

use contracts::container::State;

use super::{MEMORY, Supervisor};
use crate::cgroup::Cgroup;
use crate::events;
use crate::oom::Watcher;

impl Supervisor {
    /// Watches a running container that has a memory limit. Where it cannot be watched, its end still tells.
    pub(super) fn watch_memory(&mut self) {
        let Some(process) = self.status.process else { return };
        if self.memory.is_some() || self.record.host_config.memory == 0 || self.status.state == State::Exited
        {
            return;
        }
        let mut watcher = Watcher::default();
        let Some(cgroup) = Cgroup::of(process.pid) else { return };
        let Ok(before) = watcher.add(&self.epoll, MEMORY, &self.record.id, &cgroup) else { return };
        self.memory = Some(watcher);
        if before {
            // The program was faster.
            self.tell_of_memory();
        }
    }

    /// The kernel says that something happened.
    pub(super) fn memory_event(&mut self) {
        if self.memory.as_mut().is_none_or(|watcher| watcher.on_ready(MEMORY).is_none()) {
            return;
        }
        self.tell_of_memory();
    }

    fn tell_of_memory(&mut self) {
        if !self.status.oom_killed {
            self.status.oom_killed = true;
            self.publish();
        }
        events::container(&self.store, &self.record, "oom", &[]);
    }

    /// Whether the kernel killed something in the container's memory cgroup.
    pub(super) fn oom_killed(&self) -> bool {
        let path = crate::spec::cgroups_path(&self.record);
        let (file, key) = if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            (format!("/sys/fs/cgroup{path}/memory.events"), "oom_kill ")
        } else {
            (format!("/sys/fs/cgroup/memory{path}/memory.oom_control"), "oom_kill ")
        };
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix(key));
        count.is_some_and(|count| count.trim() != "0")
    }
}
