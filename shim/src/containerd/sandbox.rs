//! The sandbox service: a pod's sandbox is this process, whose namespaces are the machine's; the containers bring
//! their own.

use super::call::{Answer, Caller, answer, done, read};
use super::pod::Sandbox;
use super::proto::Timestamp;
use super::proto::sandbox::{
    Platform, PlatformResponse, SandboxRequest, SandboxStatusResponse, StartSandboxResponse,
};
use super::proto::task::WaitResponse;
use super::server::Server;
use super::status::{Code, Status};

impl Server {
    pub fn sandbox_call(&mut self, caller: Caller, method: &str, body: &[u8]) -> Answer {
        let request: SandboxRequest = read(body)?;
        let sandbox = &mut self.sandbox;
        if method == "CreateSandbox" {
            if sandbox.is_running() {
                let message = format!("sandbox {}: already exists", request.sandbox_id);
                return Err(Status::error(Code::AlreadyExists, message));
            }
            *sandbox =
                Sandbox { id: request.sandbox_id, created: Some(Timestamp::now()), ..Sandbox::default() };
            return done();
        }
        if method == "Platform" {
            return answer(&PlatformResponse { platform: Some(platform()) });
        }
        if sandbox.id != request.sandbox_id || sandbox.created.is_none() {
            return Err(Status::not_found(format!("sandbox {}: not found", request.sandbox_id)));
        }
        match method {
            "StartSandbox" => {
                sandbox.started = true;
                let created_at = sandbox.created;
                answer(&StartSandboxResponse { pid: std::process::id(), created_at, spec: None })
            }
            "SandboxStatus" => answer(&SandboxStatusResponse {
                sandbox_id: request.sandbox_id,
                pid: std::process::id(),
                state: if sandbox.started && sandbox.stopped.is_none() {
                    "SANDBOX_READY".into()
                } else {
                    "SANDBOX_NOTREADY".into()
                },
                info: std::collections::BTreeMap::new(),
                created_at: sandbox.created,
                exited_at: sandbox.stopped,
            }),
            "WaitSandbox" => match sandbox.stopped {
                Some(at) => answer(&WaitResponse { exit_status: 0, exited_at: Some(at) }),
                None => {
                    sandbox.waiters.push(caller);
                    Ok(None)
                }
            },
            "StopSandbox" | "ShutdownSandbox" => {
                self.stop_sandbox();
                if method == "ShutdownSandbox" && self.containers.is_empty() {
                    self.leave();
                }
                done()
            }
            "PingSandbox" => done(),
            _ => Err(Status::error(Code::Unimplemented, format!("method {method}"))),
        }
    }

    fn stop_sandbox(&mut self) {
        let at = *self.sandbox.stopped.get_or_insert_with(Timestamp::now);
        for caller in std::mem::take(&mut self.sandbox.waiters) {
            self.give(caller, answer(&WaitResponse { exit_status: 0, exited_at: Some(at) }));
        }
    }
}

/// This machine in Go's words.
fn platform() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Platform { os: "linux".into(), architecture: architecture.into(), variant: String::new() }
}
