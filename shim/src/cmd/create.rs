//! `shim create`

use anyhow::Result;
use contracts::exit::Exit;

use crate::cli::CreateFlags;
use crate::container::{Store, create};
use crate::{show, volume};

pub fn run(store: &Store, flags: &CreateFlags) -> Result<Exit> {
    let created = create::create(store, flags, false)?;
    volume::options::release(store, &created.record)?;
    show::line(&created.record.id)?;
    Ok(Exit::Ok)
}
