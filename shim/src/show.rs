//! stdout: data, written once, in one go.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use contracts::output::template::Template;
use serde_json::Value;

/// Writes text to stdout.
pub fn text(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to stdout")
}

/// Writes a line to stdout.
pub fn line(line: &str) -> Result<()> {
    text(&format!("{line}\n"))
}

/// What keys of docker's objects print in a template where they are null.
const NULLS: &[(&str, &str)] = &[
    ("Aliases", "[]"),
    ("Binds", "[]"),
    ("CapAdd", "[]"),
    ("CapDrop", "[]"),
    ("Cmd", "[]"),
    ("DNSNames", "[]"),
    ("DeviceCgroupRules", "[]"),
    ("DeviceRequests", "[]"),
    ("DriverOpts", "map[]"),
    ("Entrypoint", "[]"),
    ("ExecIDs", "[]"),
    ("ExtraHosts", "[]"),
    ("GroupAdd", "[]"),
    ("IPAMConfig", "<nil>"),
    ("Labels", "map[]"),
    ("Links", "[]"),
    ("MemorySwappiness", "<nil>"),
    ("OnBuild", "[]"),
    ("Options", "map[]"),
    ("PidsLimit", "<nil>"),
    ("SecondaryIPAddresses", "[]"),
    ("SecondaryIPv6Addresses", "[]"),
    ("SecurityOpt", "[]"),
    ("Volumes", "map[]"),
    ("VolumesFrom", "[]"),
];

/// `inspect`: an indented JSON list, or a template's line per object.
pub fn objects(format: Option<&str>, objects: &[Value]) -> Result<()> {
    match format {
        None => {
            let mut bytes = Vec::new();
            let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, indent);
            serde::Serialize::serialize(objects, &mut serializer)?;
            line(&String::from_utf8_lossy(&bytes))
        }
        Some("json") => line(&serde_json::to_string(objects)?),
        Some(template) => {
            let template = Template::parse(template)?;
            let mut out = String::new();
            for object in objects {
                out.push_str(&template.render_with(object, NULLS)?);
                out.push('\n');
            }
            text(&out)
        }
    }
}
