//! Runtimes at work: each call that executes one is answered when it has ended, and others are served meanwhile.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::call::{Answer, done};
use super::job::{Job, Work};
use super::proto::events::{TaskCheckpointed, TaskPaused, TaskResumed};
use super::server::Server;
use super::status::Status;

impl Server {
    /// A job's files in a bundle, by a name of its own.
    pub fn job_file(&mut self, bundle: &Path) -> PathBuf {
        bundle.join(format!("job.{}", self.serial()))
    }

    /// Executes the runtime for a job.
    pub fn execute(&mut self, mut command: Command, job: Job) -> Answer {
        let child = command
            .spawn()
            .with_context(|| format!("execute {}", Path::new(command.get_program()).display()))?;
        self.jobs.insert(i32::try_from(child.id())?, job);
        self.worked();
        Ok(None)
    }

    /// A runtime has ended: its job goes on, and whoever asked is answered.
    pub fn finish(&mut self, job: Job, code: u32) {
        let caller = job.caller;
        let result = match code {
            0 => Ok(()),
            _ => Err(crate::supervisor::logged_error(&job.path(".log.json"))
                .unwrap_or_else(|| format!("runtime: exit code {code}"))),
        };
        let answer = match job.work.clone() {
            Work::Create => self.created(job, result),
            Work::Start => self.started(job, result),
            Work::Exec(exec) => self.exec_started(job, &exec, result),
            Work::Delete => self.deleted(&job, result),
            work => self.controlled(&job, &work, result),
        };
        self.give(caller, answer);
    }

    /// What follows where nothing but an event follows.
    fn controlled(&mut self, job: &Job, work: &Work, result: Result<(), String>) -> Answer {
        let container_id = job.container.clone();
        if let Err(message) = result {
            if *work == Work::Kill && is_gone(&message) {
                return Err(Status::not_found(format!("process already finished: {message}: not found")));
            }
            let verb = format!("{work:?}").to_lowercase();
            let verb = verb.split('(').next().unwrap_or_default();
            anyhow::bail!("OCI runtime {verb} failed: {message}");
        }
        let container = self.containers.get_mut(&job.container);
        match work {
            Work::Pause => {
                container.into_iter().for_each(|container| container.paused = true);
                self.events.publish(&self.epoll, &TaskPaused { container_id });
            }
            Work::Resume => {
                container.into_iter().for_each(|container| container.paused = false);
                self.events.publish(&self.epoll, &TaskResumed { container_id });
            }
            Work::Checkpoint(path) => {
                let checkpoint = path.clone();
                self.events.publish(&self.epoll, &TaskCheckpointed { container_id, checkpoint });
            }
            _ => {}
        }
        done()
    }
}

/// How runtimes say that there is nothing to signal any more.
pub fn is_gone(message: &str) -> bool {
    let message = message.to_lowercase();
    ["does not exist", "not running", "already finished", "no such process", "process not found", "not found"]
        .iter()
        .any(|words| message.contains(words))
}
