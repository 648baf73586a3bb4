//! `process.capabilities`.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::case::Case;
use crate::rig::Rig;

const SECTION: &str = "config.md#linux-process";

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("capabilities/sets", SECTION, sets),
    Case::new("capabilities/none", SECTION, none),
    Case::new("capabilities/absent", SECTION, absent),
    Case::new("capabilities/ambient", SECTION, ambient),
    Case::new("capabilities/ordinary-user", SECTION, ordinary_user),
    Case::new("capabilities/inheritable-empty", SECTION, inheritable_empty),
    Case::new("capabilities/bounding-only", SECTION, bounding_only),
];

/// Bit numbers of linux/capability.h.
const CHOWN: u64 = 1 << 0;
const KILL: u64 = 1 << 5;
const NET_BIND_SERVICE: u64 = 1 << 10;

fn check(facts: &Value, wanted: [(&str, u64); 5]) -> Result<()> {
    for (set, bits) in wanted {
        let text = facts["status"][set].as_str().unwrap_or_default();
        let found = u64::from_str_radix(text, 16)?;
        ensure!(found == bits, "{set} is {found:#x}, not {bits:#x}");
    }
    Ok(())
}

fn sets(rig: &mut Rig<'_>) -> Result<()> {
    rig.set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN", "CAP_KILL"],
        }),
    )?;
    // With no_new_privs an exec as root does not raise permitted to the bounding set.
    let (all, two) = (CHOWN | KILL | NET_BIND_SERVICE, CHOWN | KILL);
    check(&rig.facts()?, [("CapBnd", all), ("CapPrm", two), ("CapEff", two), ("CapInh", 0), ("CapAmb", 0)])
}

fn none(rig: &mut Rig<'_>) -> Result<()> {
    let empty: [&str; 0] = [];
    let sets = json!({"bounding": empty, "permitted": empty, "effective": empty, "inheritable": empty, "ambient": empty});
    rig.set("/process/capabilities", sets)?;
    check(&rig.facts()?, [("CapBnd", 0), ("CapPrm", 0), ("CapEff", 0), ("CapInh", 0), ("CapAmb", 0)])
}

fn absent(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.remove("/process", "capabilities").facts()?;
    check(&facts, [("CapBnd", 0), ("CapPrm", 0), ("CapEff", 0), ("CapInh", 0), ("CapAmb", 0)])
}

fn ambient(rig: &mut Rig<'_>) -> Result<()> {
    let one = ["CAP_NET_BIND_SERVICE"];
    rig.set("/process/user", json!({"uid": 1000, "gid": 1000}))?.set(
        "/process/capabilities",
        json!({"bounding": one, "permitted": one, "effective": one, "inheritable": one, "ambient": one}),
    )?;
    let bit = NET_BIND_SERVICE;
    check(
        &rig.facts()?,
        [("CapBnd", bit), ("CapPrm", bit), ("CapEff", bit), ("CapInh", bit), ("CapAmb", bit)],
    )
}

fn ordinary_user(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.set("/process/user", json!({"uid": 1000, "gid": 1000}))?.facts()?;
    for set in ["CapPrm", "CapEff", "CapAmb"] {
        let text = facts["status"][set].as_str().unwrap_or_default();
        ensure!(u64::from_str_radix(text, 16)? == 0, "{set} of uid 1000 is {text}");
    }
    Ok(())
}

fn inheritable_empty(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let facts = rig.exec(&["--cap", "CAP_NET_RAW"], &["facts"])?.ok()?.json()?;
    let text = facts["status"]["CapInh"].as_str().unwrap_or_default();
    ensure!(
        u64::from_str_radix(text, 16)? == 0,
        "CapInh after exec --cap is {text} (CVE-2022-29162, CVE-2022-27650)"
    );
    Ok(())
}

fn bounding_only(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/process/user", json!({"uid": 1000, "gid": 1000}))?
        .set("/process/capabilities", json!({"bounding": ["CAP_CHOWN"]}))?;
    check(&rig.facts()?, [("CapBnd", CHOWN), ("CapPrm", 0), ("CapEff", 0), ("CapInh", 0), ("CapAmb", 0)])
}
