//! Where a container's cgroup is going to be, and the part of it that its process is born in.

use anyhow::Result;
use contracts::fault;

use super::layout::{self, Found, Layout, Place};
use super::{Cgroup, Location, Member, Request, beneath, may_be_none, systemd, v1, v2};

impl Cgroup {
    /// Makes what a process can be born in: the directory in the unified hierarchy, without limits. The rest is for
    /// [`Cgroup::complete`], which can work while the process sets itself up.
    ///
    /// `record` is told where all of it is going to be before anything is made, so that a caller who is killed
    /// meanwhile leaves a trail.
    ///
    /// # Errors
    /// It exists and has processes, or may not be made. Nothing new is left then.
    pub fn prepare(request: &Request<'_>, record: impl FnOnce(&Location) -> Result<()>) -> Result<Self> {
        if request.disabled {
            return Self::none(request, record);
        }
        let layout = match Layout::find_for(request.path) {
            Err(_) if request.path.is_none() && may_be_none(request.rootless) => {
                return Self::none(request, record);
            }
            other => other?,
        };
        let planned = plan(&layout, request)?;
        if let (Layout::V1(_), Some(_)) = (&layout, request.delegated()) {
            fault!(Unsupported, "annotation {}: needs cgroup v2, this machine has v1", beneath::DELEGATED);
        }
        record(&planned)?;
        match layout {
            Layout::V2(root) => Self::prepare_v2(&root, request, planned.systemd_v1),
            Layout::V1(hierarchies) => Self::prepare_v1(hierarchies, request, planned),
        }
    }

    fn prepare_v2(root: &Found, request: &Request<'_>, systemd_v1: Option<Member>) -> Result<Self> {
        if request.systemd {
            let (dirs, location, placeholder) = systemd::create(root, request)?;
            return Self { placeholder, ..Self::of(dirs, location) }.with_systemd_v1(systemd_v1);
        }
        let place = layout::relative_path(request.path, request.id)?;
        let (dirs, location) = v2::create(root, &place, request)?;
        Self { place: Some(place), ..Self::of(dirs, location) }.with_systemd_v1(systemd_v1)
    }

    fn prepare_v1(mut later: Vec<Found>, request: &Request<'_>, planned: Location) -> Result<Self> {
        if request.systemd {
            let started = systemd::create_v1(&later, request)?;
            let first = started.placeholder.as_ref().map(|placeholder| placeholder.pid);
            let place = Place::FromRoot(started.path);
            let location = Location { dirs: members(&later, &place), ..planned };
            let unified: Vec<_> = later.extract_if(.., |found| found.controllers.is_empty()).collect();
            let (dirs, _) = v1::create(&unified, &place, request, first)?;
            let placeholder = started.placeholder;
            return Ok(Self { later, place: Some(place), placeholder, ..Self::of(dirs, location) });
        }
        let place = layout::relative_path(request.path, request.id)?;
        // Which ones it gets is known only when all have been tried.
        if may_be_none(request.rootless) {
            let (dirs, location) = v1::create(&later, &place, request, None)?;
            return Ok(Self { place: Some(place), ..Self::of(dirs, location) });
        }
        let unified: Vec<_> = later.extract_if(.., |found| found.controllers.is_empty()).collect();
        let (dirs, _) = v1::create(&unified, &place, request, None)?;
        Ok(Self { later, place: Some(place), ..Self::of(dirs, planned) })
    }
}

/// Where [`Cgroup::create`] is going to make directories, and the unit that it is going to start.
fn plan(layout: &Layout, request: &Request<'_>) -> Result<Location> {
    let (unit, place) = if request.systemd {
        let (unit, path) = systemd::plan(request)?;
        (Some(unit), Place::FromRoot(path))
    } else {
        (None, layout::relative_path(request.path, request.id)?)
    };
    let root = match layout {
        Layout::V1(all) => return Ok(Location { dirs: members(all, &place), unit, systemd_v1: None }),
        Layout::V2(root) => root,
    };
    let systemd_v1 = request.systemd_v1(|found| match &unit {
        Some(unit) => found.own.join(unit),
        None => place.in_hierarchy(found),
    })?;
    // Where an ordinary user's systemd puts a unit is known only afterwards.
    let dirs = if unit.is_some() { Vec::new() } else { members(std::slice::from_ref(root), &place) };
    Ok(Location { dirs, unit, systemd_v1 })
}

fn members(hierarchies: &[Found], place: &Place) -> Vec<Member> {
    let member = |found: &Found| Member {
        controllers: found.controllers.clone(),
        path: found.mount.join(place.in_hierarchy(found)),
    };
    hierarchies.iter().map(member).collect()
}
