//! `config.dump`: a container as podman and checkpointctl look at it, and all of our record of it beside that.

use contracts::container::Container;
use contracts::network;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::container::checkpoints::Note;

/// Our own part of `config.dump`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ours {
    /// Format of this document: 1.
    pub version: u32,
    /// The container.
    pub record: Container,
    /// What the restore needs to know.
    pub note: Note,
}

/// The key of [`Ours`].
const KEY: &str = "bulkhead";

/// `config.dump` of a container.
pub fn config(record: &Container, note: &Note) -> Value {
    let runtime = record.runtime.file_name().map(|name| name.to_string_lossy().into_owned());
    let volumes = record.mounts.iter().filter(|point| point.kind == "volume");
    let volumes: Vec<Value> = volumes
        .map(|point| json!({ "volumeName": point.name, "dest": point.destination, "options": ["rw"] }))
        .collect();
    let mut config = json!({
        "id": record.id, "name": record.name, "createdTime": record.created, "checkpointedTime": note.created,
        "rootfsImageName": record.image, "rootfsImageID": record.image_id.trim_start_matches("sha256:"),
        "rawImageName": record.image, "runtime": runtime, "namedVolumes": volumes, "labels": record.config.labels,
        "user": record.config.user, "logDriver": "k8s-file", "stopSignal": 15,
    });
    config[KEY] = json!(Ours { version: 1, record: record.clone(), note: note.clone() });
    config
}

/// Our part of a `config.dump`; `None` in one of podman's own.
pub fn ours(config: &Value) -> Option<Ours> {
    serde_json::from_value(config.get(KEY)?.clone()).ok()
}

/// `network.status`, as netavark writes it: by network what the container's interfaces have.
pub fn addresses(status: Option<&network::Status>) -> Value {
    let ends = status.into_iter().flat_map(|status| &status.networks);
    let one = |end: &network::Endpoint| {
        let subnet = |address: &String, gateway| json!({ "ipnet": address, "gateway": gateway });
        let mut subnets = vec![subnet(&end.address, end.gateway)];
        subnets.extend(end.address6.as_ref().map(|address| subnet(address, end.gateway6)));
        let mut interfaces = Map::new();
        interfaces.insert(end.interface.clone(), json!({ "mac_address": end.mac, "subnets": subnets }));
        json!({ "interfaces": interfaces })
    };
    ends.map(|(name, end)| (name.clone(), one(end))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_found_again_in_what_podman_reads() {
        let record =
            Container { id: "1f".into(), name: "web".into(), image: "img".into(), ..Container::default() };
        let dump = config(&record, &Note::new(vec!["--file-locks".into()], None));
        assert_eq!((dump["id"].as_str(), dump["rootfsImageName"].as_str()), (Some("1f"), Some("img")));
        let found = ours(&dump).unwrap();
        assert_eq!(
            (found.record.name.as_str(), &found.note.flags[..]),
            ("web", &["--file-locks".to_owned()][..])
        );
        assert!(ours(&json!({ "id": "1f" })).is_none());
    }
}
