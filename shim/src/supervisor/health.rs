//! Health checks, without systemd: a timer, one `runtime exec` at a time, docker's states.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use contracts::container::{Container, Health, HealthResult, Healthcheck, now};
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, read};

use super::launch::output_pipe;
use super::{HEALTH, Supervisor};
use crate::request::units::show_duration;
use crate::{events, tools};

/// Bytes of output, and results, that are kept unless others are asked for.
const OUTPUT_LIMIT: u32 = 4096;
const KEPT: u32 = 5;

/// A container's check, and its present run.
pub(super) struct Check {
    wish: Healthcheck,
    args: Vec<String>,
    /// What comes first, and how often it has passed and failed; gone once it has passed.
    startup: Option<Startup>,
    kept: usize,
    output_limit: usize,
    since: Instant,
    due: Instant,
    run: Option<Run>,
}

#[derive(Clone)]
struct Startup {
    wish: Healthcheck,
    args: Vec<String>,
    needed: u32,
    passed: u32,
    failed: i64,
}

struct Run {
    pid: i32,
    output: Option<OwnedFd>,
    said: Vec<u8>,
    start: String,
    deadline: Instant,
    timed_out: bool,
}

impl Check {
    /// The check of a container that has one.
    pub fn of(record: &Container) -> Option<Self> {
        let wish = record.config.healthcheck.clone()?;
        let args = arguments(record, &wish)?;
        let now = Instant::now();
        let limit = |asked: Option<u32>, default: u32| match asked.unwrap_or(default) {
            0 => usize::MAX,
            limit => limit as usize,
        };
        let more = &record.health_more;
        Some(Self {
            wish,
            args,
            startup: Startup::of(record),
            kept: limit(more.max_log_count, KEPT),
            output_limit: limit(more.max_log_size, OUTPUT_LIMIT),
            since: now,
            due: now,
            run: None,
        })
    }

    /// How the next check is told from the outside.
    fn present(&self) -> (&Healthcheck, &[String]) {
        self.startup.as_ref().map_or((&self.wish, &self.args), |startup| (&startup.wish, &startup.args))
    }

    /// When something has to be done.
    pub fn next(&self) -> Option<Instant> {
        Some(self.run.as_ref().map_or(self.due, |run| run.deadline))
    }

    fn interval(&self, starting: bool) -> Duration {
        if let Some(startup) = &self.startup {
            return nanos(startup.wish.interval).unwrap_or(Duration::from_secs(30));
        }
        let (value, default) =
            if starting { (self.wish.start_interval, 5) } else { (self.wish.interval, 30) };
        nanos(value).unwrap_or(Duration::from_secs(default))
    }

    fn timeout(&self) -> Duration {
        nanos(self.present().0.timeout).unwrap_or(Duration::from_secs(30))
    }

    fn in_start_period(&self) -> bool {
        nanos(self.wish.start_period).is_some_and(|period| self.since.elapsed() < period)
    }
}

impl Startup {
    fn of(record: &Container) -> Option<Self> {
        let wish = record.health_more.startup.clone()?;
        let args = arguments(record, &wish)?;
        let needed = record.health_more.startup_success.max(1);
        Some(Self { wish, args, needed, passed: 0, failed: 0 })
    }
}

fn arguments(record: &Container, wish: &Healthcheck) -> Option<Vec<String>> {
    Some(match wish.test.split_first() {
        Some((word, rest)) if word == "CMD" && !rest.is_empty() => rest.to_vec(),
        Some((word, [command])) if word == "CMD-SHELL" => {
            let mut shell =
                record.config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
            shell.push(command.clone());
            shell
        }
        _ => return None,
    })
}

fn nanos(value: i64) -> Option<Duration> {
    u64::try_from(value).ok().filter(|&value| value > 0).map(Duration::from_nanos)
}

impl Supervisor {
    /// A run of the payload begins.
    pub(super) fn health_began(&mut self) {
        let Some(check) = &mut self.health else {
            // One that was taken away since its last run.
            self.status.health = None;
            return;
        };
        check.since = Instant::now();
        check.startup = Startup::of(&self.record);
        let starting = check.in_start_period();
        // The first check comes one interval after the start.
        check.due = check.since
            + check.interval(starting).min(if starting {
                check.interval(true)
            } else {
                check.interval(false)
            });
        check.run = None;
        self.status.health = Some(Health { status: "starting".into(), ..Health::default() });
    }

    /// The payload ended: a check that still runs has no answer any more.
    pub(super) fn health_stopped(&mut self) {
        if let Some(run) = self.health.as_mut().and_then(|check| check.run.take()) {
            let _ = kill(Pid::from_raw(run.pid), Signal::SIGKILL);
            if let Some(output) = &run.output {
                let _ = self.epoll.delete(output);
            }
        }
        self.tell_health(Some(
            "the container ended, or its health check was changed, before it had an answer",
        ));
    }

    /// Another check than before, from its beginning.
    pub(super) fn health_changed(&mut self) {
        self.health_stopped();
        self.health = Check::of(&self.record);
        self.status.health = None;
        if self.status.state == contracts::container::State::Running {
            self.health_began();
        }
        self.publish();
    }

    pub(super) fn health_timer(&mut self, now: Instant) {
        if self.status.state != contracts::container::State::Running {
            return;
        }
        let Some(check) = &mut self.health else { return };
        match &mut check.run {
            Some(run) if run.deadline <= now && !run.timed_out => {
                run.timed_out = true;
                // Its end is seen as that of any child; patience for a runtime that does not even die.
                run.deadline = now + Duration::from_secs(3600);
                let _ = kill(Pid::from_raw(run.pid), Signal::SIGKILL);
            }
            None if check.due <= now => drop(self.health_now()),
            _ => {}
        }
    }

    /// Starts a check; the error, if it cannot.
    pub(super) fn health_now(&mut self) -> Option<String> {
        let Some(check) = &mut self.health else { return Some("container has no health check".into()) };
        if check.run.is_some() {
            return None;
        }
        match spawn(&self.store, &self.record, check.present().1) {
            Ok((pid, output)) => {
                let _ = self.epoll.add(&output, EpollEvent::new(EpollFlags::EPOLLIN, HEALTH));
                let deadline = Instant::now() + check.timeout();
                check.run = Some(Run {
                    pid,
                    output: Some(output),
                    said: Vec::new(),
                    start: now(),
                    deadline,
                    timed_out: false,
                });
                None
            }
            Err(err) => {
                check.due = Instant::now() + check.interval(false);
                let error = contracts::report::one_line(&err);
                self.health_result(HealthResult {
                    start: now(),
                    end: now(),
                    exit_code: -1,
                    output: error.clone(),
                });
                Some(error)
            }
        }
    }

    pub(super) fn health_output(&mut self) {
        let Some(check) = &mut self.health else { return };
        let limit = check.output_limit;
        let Some(run) = check.run.as_mut() else { return };
        let Some(output) = &run.output else { return };
        let mut buffer = [0; OUTPUT_LIMIT as usize];
        loop {
            match read(output, &mut buffer) {
                Ok(length) if length > 0 => {
                    let room = limit.saturating_sub(run.said.len());
                    run.said.extend_from_slice(&buffer[..length.min(room)]);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                _ => break,
            }
        }
        let _ = self.epoll.delete(output);
        run.output = None;
    }

    /// A child ended that is not the payload.
    pub(super) fn health_ended(&mut self, pid: i32, code: i32) {
        if self.health.as_ref().and_then(|check| check.run.as_ref()).is_none_or(|run| run.pid != pid) {
            return;
        }
        self.health_output();
        let Some(check) = &mut self.health else { return };
        let Some(run) = check.run.take() else { return };
        if let Some(output) = &run.output {
            let _ = self.epoll.delete(output);
        }
        let (exit_code, output) = if run.timed_out {
            let timeout = i64::try_from(check.timeout().as_nanos()).unwrap_or_default();
            (-1, format!("Health check exceeded timeout ({})", show_duration(timeout)))
        } else {
            (code, String::from_utf8_lossy(&run.said).into_owned())
        };
        self.health_result(HealthResult { start: run.start, end: now(), exit_code, output });
    }

    fn health_result(&mut self, result: HealthResult) {
        let (Some(check), Some(health)) = (&mut self.health, &mut self.status.health) else { return };
        let before = health.status.clone();
        let failure = (result.exit_code != 0).then(|| match result.output.lines().next_back() {
            Some(last) if !last.trim().is_empty() => format!("unhealthy: {}", last.trim()),
            _ => "unhealthy".to_owned(),
        });
        let mut start_over = false;
        let startup = check.startup.is_some();
        if let Some(startup) = &mut check.startup {
            if result.exit_code == 0 {
                startup.passed += 1;
            } else {
                startup.failed += 1;
                start_over = startup.wish.retries > 0 && startup.failed >= startup.wish.retries;
            }
            if startup.passed >= startup.needed {
                check.startup = None;
            }
        }
        if result.exit_code == 0 {
            health.failing_streak = 0;
            health.status = "healthy".into();
        } else if startup {
            // It tells when the other one begins, and nothing of the container's health.
        } else if health.status != "starting" || !check.in_start_period() {
            health.failing_streak += 1;
            let retries = u32::try_from(check.wish.retries).ok().filter(|&retries| retries > 0).unwrap_or(3);
            if health.failing_streak >= retries {
                health.status = "unhealthy".into();
            }
        }
        health.log.push(result);
        if health.log.len() > check.kept {
            health.log.remove(0);
        }
        write_log(&self.record, health);
        let starting = health.status == "starting" && check.in_start_period();
        check.due = Instant::now() + check.interval(starting);
        let after = health.status.clone();
        self.publish();
        self.tell_health(failure.as_deref());
        if before != after {
            events::container(&self.store, &self.record, &format!("health_status: {after}"), &[]);
            if after == "unhealthy" {
                self.on_unhealthy();
            }
        }
        if start_over {
            self.restart_for_health();
        }
    }

    /// `--health-on-failure`.
    fn on_unhealthy(&mut self) {
        match self.record.health_on_failure.as_str() {
            "kill" => self.signal(libc::SIGKILL),
            "stop" => drop(self.stop(self.stop_signal(), self.stop_timeout(), true)),
            "restart" => self.restart_for_health(),
            _ => {}
        }
    }

    /// The policy may be `no`: this restart is the check's, not the policy's.
    fn restart_for_health(&mut self) {
        self.restart_once = true;
        self.signal(self.stop_signal());
        let patience = u64::try_from(self.stop_timeout()).unwrap_or(10);
        self.kill_at = Some(Instant::now() + Duration::from_secs(patience));
    }
}

/// `--health-log-destination=DIR`: the same as in `inspect`. A full disk there is no reason to stop.
fn write_log(record: &Container, health: &Health) {
    let dir = &record.health_more.log_dir;
    if !dir.is_empty() {
        let path = std::path::Path::new(dir).join(format!("{}-healthcheck.log", record.id));
        let _ = contracts::atomic::write_json(&path, health, 0o600);
    }
}

fn spawn(
    store: &crate::container::Store,
    record: &Container,
    args: &[String],
) -> anyhow::Result<(i32, OwnedFd)> {
    let spec = crate::spec::read(&store.bundle(&record.id))?;
    let process = crate::spec::exec::process(&spec, args);
    let path = store.live(&record.id).join("health.json");
    let mut file = File::create(&path)?;
    file.write_all(&serde_json::to_vec(&process)?)?;
    let (output, write) = output_pipe()?;
    let mut command = tools::runtime(store, record);
    command.arg("exec").arg("--process").arg(&path).arg(&record.id);
    command.stdin(Stdio::null()).stdout(write.try_clone()?).stderr(write);
    let child = command.spawn()?;
    let flags = nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(&output, nix::fcntl::FcntlArg::F_SETFL(flags))?;
    Ok((i32::try_from(child.id())?, output))
}
