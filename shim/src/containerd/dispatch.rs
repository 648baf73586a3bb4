//! Calls come in, answers go out.

use prost::Message as _;

use super::call::{Answer, Caller, done, read};
use super::frame::{self, Frame, Next};
use super::proto::ttrpc::{Request, Response};
use super::server::Server;
use super::status::{Code, Status};

impl Server {
    /// Answers what has come on a connection.
    pub fn serve(&mut self, connection: u64) {
        while let Some(wire) = self.connections.get_mut(&connection) {
            let (stream, result) = match wire.next() {
                Next::Nothing => return,
                Next::TooLong { stream, length } => {
                    let message = format!("message length {length} exceeds {}", frame::LONGEST);
                    (stream, Err(Status::error(Code::ResourceExhausted, message)))
                }
                Next::Frame(Frame { stream, kind: frame::REQUEST, body }) => {
                    (stream, self.call(Caller { connection, stream }, &body))
                }
                // No call of ours is a stream: there is nobody to give data to.
                Next::Frame(_) => continue,
            };
            self.give(Caller { connection, stream }, result);
        }
    }

    fn call(&mut self, caller: Caller, body: &[u8]) -> Answer {
        let request: Request = read(body)?;
        let method = request.method.as_str();
        match request.service.as_str() {
            "containerd.task.v2.Task" | "containerd.task.v3.Task" => {
                self.task(caller, method, &request.payload)
            }
            "containerd.runtime.sandbox.v1.Sandbox" => self.sandbox_call(caller, method, &request.payload),
            service => Err(Status::error(Code::Unimplemented, format!("service {service}"))),
        }
    }

    fn task(&mut self, caller: Caller, method: &str, body: &[u8]) -> Answer {
        match method {
            "State" => self.state(&read(body)?),
            "Create" => self.create(caller, read(body)?),
            "Start" => self.start(caller, &read(body)?),
            "Delete" => self.delete(caller, &read(body)?),
            "Pids" => self.pids(&read(body)?),
            "Pause" => self.pause(caller, &read(body)?, true),
            "Resume" => self.pause(caller, &read(body)?, false),
            "Checkpoint" => self.checkpoint(caller, &read(body)?),
            "Kill" => self.kill(caller, &read(body)?),
            "Exec" => self.exec(read(body)?),
            "ResizePty" => self.resize(&read(body)?),
            "CloseIO" => self.close_io(&read(body)?),
            "Update" => self.update(caller, &read(body)?),
            "Wait" => self.wait(caller, &read(body)?),
            "Stats" => self.stats(&read(body)?),
            "Connect" => self.connect(&read(body)?),
            "Shutdown" => {
                if self.containers.is_empty() && !self.sandbox.is_running() {
                    self.leave();
                }
                done()
            }
            _ => Err(Status::error(Code::Unimplemented, format!("method {method}"))),
        }
    }

    /// Sends an answer, unless it comes later.
    pub fn give(&mut self, caller: Caller, result: Answer) {
        let response = match result {
            Ok(None) => return,
            Ok(Some(payload)) => Response { status: None, payload },
            Err(err) => Response { status: Some(Status::encode(&err)), payload: Vec::new() },
        };
        let Some(wire) = self.connections.get_mut(&caller.connection) else { return };
        wire.send(caller.stream, frame::RESPONSE, &response.encode_to_vec());
        if !wire.flush(&self.epoll) {
            self.disconnect(caller.connection);
        }
    }
}
