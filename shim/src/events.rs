//! What happened, for `shim events`: one JSON object per line, each appended in one write.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use contracts::container::Container;
use serde_json::{Map, Value, json};

use crate::container::{Store, make_dir};

/// At this size the file becomes `events.json.1`.
const LARGEST: u64 = 8 << 20;

/// Notes an event of a container. A note that cannot be written is nobody's to report to.
pub fn container(store: &Store, record: &Container, action: &str, more: &[(&str, &str)]) {
    let mut attributes: Map<String, Value> =
        record.config.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    attributes.insert("image".into(), json!(record.image));
    attributes.insert("name".into(), json!(record.name));
    for (key, value) in more {
        attributes.insert((*key).to_owned(), json!(value));
    }
    append(store, "container", action, &record.id, attributes);
}

/// Notes an event of a volume.
pub fn volume(store: &Store, name: &str, action: &str) {
    let attributes = [("driver".to_owned(), json!("local"))].into_iter().collect();
    append(store, "volume", action, name, attributes);
}

fn append(store: &Store, kind: &str, action: &str, id: &str, attributes: Map<String, Value>) {
    let now = jiff::Timestamp::now();
    let event = json!({
        "Type": kind, "Action": action, "Actor": { "ID": id, "Attributes": attributes }, "scope": "local",
        "time": now.as_second(), "timeNano": i64::try_from(now.as_nanosecond()).unwrap_or_default(),
    });
    let path = store.paths.events();
    let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    let file = open().or_else(|_| {
        let _ = make_dir(&store.paths.store);
        open()
    });
    let Ok(mut file) = file else { return };
    if file.metadata().is_ok_and(|meta| meta.len() > LARGEST) {
        let mut old = path.clone().into_os_string();
        old.push(".1");
        let _ = fs::rename(&path, old);
        match open() {
            Ok(fresh) => file = fresh,
            Err(_) => return,
        }
    }
    let _ = file.write_all(format!("{event}\n").as_bytes());
}
