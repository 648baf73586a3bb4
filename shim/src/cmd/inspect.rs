//! `shim inspect`

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;
use contracts::report;

use crate::cli::InspectFlags;
use crate::container::{Store, status};
use crate::{inspect, show};

pub fn run(store: &Store, flags: &InspectFlags) -> Result<Exit> {
    if flags.r#type != "container" {
        fault!(
            Unsupported,
            "inspect --type {}: images are inspected by `imgtool inspect`, networks by `netctl inspect`, volumes by `shim volume inspect`",
            flags.r#type
        );
    }
    let (mut objects, mut errors) = (Vec::new(), Vec::new());
    for name in &flags.containers {
        let one = || {
            let id = store.resolve(name)?;
            let status = status::read(store, &id)?;
            Ok(inspect::object(store, &store.load(&id)?, &status, flags.size))
        };
        match one() {
            Ok(object) => objects.push(object),
            Err(err) => errors.push(err),
        }
    }
    // What was found is shown, then what was not.
    show::objects(flags.format.as_deref(), &objects)?;
    errors.iter().for_each(|err| report::print_error("shim", err));
    Ok(errors.first().map_or(Exit::Ok, Exit::from))
}
