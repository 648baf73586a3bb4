//! `process.terminal` and the console socket.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::net::UnixListener;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::expect::same;
use crate::case::Case;
use crate::kernel;
use crate::rig::Rig;

const SECTION: &str = "config.md#process";

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("terminal/console-socket", SECTION, console_socket),
    Case::new("terminal/size", SECTION, size),
    Case::new("terminal/controlling", SECTION, controlling),
    Case::new("terminal/none", SECTION, none),
    Case::new("terminal/socket-missing", SECTION, socket_missing),
    Case::new("terminal/console-device", "config-linux.md#default-devices", console_device),
];

/// Runs `verb` on a terminal that comes over a console socket; what it printed there.
fn on_terminal(rig: &mut Rig<'_>, verb: &[&str]) -> Result<String> {
    let path = rig.dir.join("console.sock");
    let listener = UnixListener::bind(&path).context("listen on the console socket")?;
    rig.set("/process/terminal", true)?.program(verb)?;
    rig.create_with(&["--console-socket", &path.to_string_lossy()])?.ok()?;
    // create has ended: who wanted to connect has done so, and this must not wait for who did not.
    listener.set_nonblocking(true)?;
    let (socket, _) = listener.accept().context("nobody connected to the console socket")?;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(crate::tool::LIMIT))?;
    let mut terminal = File::from(kernel::receive_descriptor(&socket).context("receive the terminal")?);
    rig.call(&["start", &rig.id])?.ok()?;
    rig.wait()?;
    let mut text = vec![0; 4096];
    let count = terminal.read(&mut text).context("read from the terminal")?;
    Ok(String::from_utf8_lossy(&text[..count]).into_owned())
}

fn facts(rig: &mut Rig<'_>) -> Result<Value> {
    let text = on_terminal(rig, &["tty"])?;
    serde_json::from_str(text.trim()).with_context(|| format!("the terminal shows {text:?}"))
}

fn console_socket(rig: &mut Rig<'_>) -> Result<()> {
    let facts = facts(rig)?;
    same("stdin is a terminal", &facts["stdin"], true)?;
    same("stdout is a terminal", &facts["stdout"], true)
}

fn size(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/process/consoleSize", json!({"height": 33, "width": 101}))?;
    same("rows and columns", &facts(rig)?["size"], json!([33, 101]))
}

fn controlling(rig: &mut Rig<'_>) -> Result<()> {
    let facts = facts(rig)?;
    same("the session", &facts["session"], facts["pid"].clone())?;
    same("/dev/tty can be opened", &facts["controlling"], true)
}

fn none(rig: &mut Rig<'_>) -> Result<()> {
    let run = rig.program(&["tty"])?.run()?.ok()?;
    same("stdin is a terminal", &run.json()?["stdin"], false)
}

fn socket_missing(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/process/terminal", true)?.create()?.fails()?;
    Ok(())
}

fn console_device(rig: &mut Rig<'_>) -> Result<()> {
    let text = on_terminal(rig, &["try", "stat /dev/console"])?;
    let tries: Value =
        serde_json::from_str(text.trim()).with_context(|| format!("the terminal shows {text:?}"))?;
    let stat = super::expect::allowed(&tries, "stat /dev/console")?;
    ensure!(
        stat["type"] == "char" && stat["major"] == 136,
        "/dev/console is {stat}, not the pseudo-terminal"
    );
    Ok(())
}
