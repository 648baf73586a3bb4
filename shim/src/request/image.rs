//! The image's config under the user's wishes.

use std::collections::BTreeMap;

use anyhow::Result;
use contracts::bundle::Report;
use contracts::container::{Container, PortBinding};
use contracts::fault;
use contracts::network::Port;
use serde::Deserialize;
use serde_json::Value;

use super::{env, health};

/// What of an image config a container takes over.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ImageConfig {
    env: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    working_dir: String,
    user: String,
    exposed_ports: Option<BTreeMap<String, Value>>,
    volumes: Option<BTreeMap<String, Value>>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: String,
    healthcheck: Option<contracts::container::Healthcheck>,
    shell: Option<Vec<String>>,
}

/// Fills `record` from the image; decides the command.
pub fn inherit(record: &mut Container, report: &Report) -> Result<()> {
    let value = Value::Object(report.config.clone());
    let image: ImageConfig = match serde_json::from_value(value) {
        Ok(image) => image,
        Err(err) => fault!(Usage, "image {}: its config is not what an image config is: {err}", record.image),
    };
    record.image_id.clone_from(&report.image_id);
    record.platform.clone_from(&report.platform);
    let config = &mut record.config;
    config.env = env::merge(&image.env.unwrap_or_default(), &config.env);
    // An entrypoint of the user's own makes the image's CMD meaningless, as in docker.
    let own_entrypoint = config.entrypoint.is_some();
    if !own_entrypoint {
        config.entrypoint = image.entrypoint;
    }
    if config.cmd.is_none() && !own_entrypoint {
        config.cmd = image.cmd;
    }
    // `--entrypoint ""` clears the image's.
    config.entrypoint = config.entrypoint.take().filter(|words| words.iter().any(|word| !word.is_empty()));
    let mut words = config.entrypoint.iter().chain(&config.cmd).flatten().cloned();
    let Some(path) = words.next() else { fault!(Usage, "no command specified") };
    record.path = path;
    record.args = words.collect();
    let take = |mine: &mut String, theirs: String| {
        if mine.is_empty() {
            *mine = theirs;
        }
    };
    take(&mut config.working_dir, image.working_dir);
    take(&mut config.user, image.user);
    take(&mut config.stop_signal, image.stop_signal);
    config.shell = image.shell;
    config.volumes = image.volumes.filter(|volumes| !volumes.is_empty());
    config.exposed_ports.extend(image.exposed_ports.unwrap_or_default());
    let mut labels = image.labels.unwrap_or_default();
    labels.append(&mut config.labels);
    config.labels = labels;
    config.healthcheck = health::inherit(config.healthcheck.take(), image.healthcheck);
    health::has_what_it_starts(record)?;
    if record.host_config.publish_all_ports {
        publish_all(record);
    }
    Ok(())
}

fn publish_all(record: &mut Container) {
    for key in record.config.exposed_ports.keys() {
        let (number, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
        let Ok(container_port) = number.parse() else { continue };
        let published = |port: &Port| port.container_port == container_port && port.protocol == protocol;
        if !record.network.ports.iter().any(published) {
            record.network.ports.push(Port { container_port, protocol: protocol.into(), ..Port::default() });
            let key = format!("{container_port}/{protocol}");
            record.host_config.port_bindings.insert(key, vec![PortBinding::default()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(config: Value) -> Report {
        let Value::Object(config) = config else { panic!() };
        Report {
            version: 1,
            bundle: "/b".into(),
            image_id: "sha256:0".into(),
            image: "i".into(),
            platform: "linux/amd64".into(),
            config,
        }
    }

    fn command(record: &mut Container) -> (String, Vec<String>) {
        let report = report(json!({"Entrypoint": ["/e"], "Cmd": ["c"], "Env": ["PATH=/bin", "A=1"]}));
        inherit(record, &report).unwrap();
        (record.path.clone(), record.args.clone())
    }

    #[test]
    fn entrypoint_and_cmd() {
        assert_eq!(command(&mut Container::default()), ("/e".into(), vec!["c".into()]));
        let mut own = Container::default();
        own.config.cmd = Some(vec!["mine".into()]);
        assert_eq!(command(&mut own), ("/e".into(), vec!["mine".into()]));
        let mut cleared = Container::default();
        cleared.config.entrypoint = Some(vec![String::new()]);
        cleared.config.cmd = Some(vec!["echo".into(), "x".into()]);
        assert_eq!(command(&mut cleared), ("echo".into(), vec!["x".into()]));
    }

    #[test]
    fn no_command_is_an_error() {
        let err = inherit(&mut Container::default(), &report(json!({}))).unwrap_err();
        assert_eq!(err.to_string(), "no command specified");
    }

    #[test]
    fn publish_all_takes_exposed_ports_once() {
        let mut record = Container::default();
        record.host_config.publish_all_ports = true;
        let image = report(json!({"Cmd": ["x"], "ExposedPorts": {"80/tcp": {}, "53/udp": {}}}));
        inherit(&mut record, &image).unwrap();
        assert_eq!(record.network.ports.len(), 2);
    }
}
