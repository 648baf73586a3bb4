//! Which devices a container may use, on a cgroup: rules as version 1 can hold them, or a program in version 2.

use anyhow::{Context as _, Result, bail};
use oci_spec::runtime::LinuxResources;

use super::device_program;
use super::device_rules::{Rule, rules};
use super::file::{Dir, write_whole};
use super::owner::may_go_without;

/// Sets the rules on a new cgroup. A rootless container cannot have any, and needs none: it cannot make nodes.
///
/// # Errors
/// A rule makes no sense, or the kernel refuses.
pub fn apply(dirs: &[Dir], resources: Option<&LinuxResources>, rootless: bool) -> Result<()> {
    let rules = rules(resources)?;
    if rules.len() == 1 && rules[0].allow {
        return Ok(()); // a new cgroup has its parent's rules, and cannot have more
    }
    let done = match dirs {
        [dir] if dir.is_unified() => device_program::attach(dir, &rules),
        _ => match dirs.iter().find(|dir| dir.has("devices")) {
            Some(dir) => write_v1(dir, &rules),
            None => Ok(()),
        },
    };
    match done {
        Err(err) if may_go_without(rootless, &err) => Ok(()),
        other => other,
    }
}

fn write_v1(dir: &Dir, rules: &[Rule]) -> Result<()> {
    let allow = dir.open_to_write("devices.allow")?;
    let deny = dir.open_to_write("devices.deny")?;
    for rule in rules_v1(rules)? {
        let file = if rule.allow { &allow } else { &deny };
        write_whole(file, &rule.to_string()).with_context(|| {
            format!(
                "write {rule} to {}",
                dir.name_of(if rule.allow { "devices.allow" } else { "devices.deny" })
            )
        })?;
    }
    Ok(())
}

/// The rules as v1 can hold them: one word about all, then exceptions from it. What repeats that word changes
/// nothing, unless it takes an exception back, which v1 can do only for that very exception.
///
/// # Errors
/// A rule takes back a part of an exception.
pub fn rules_v1(rules: &[Rule]) -> Result<Vec<Rule>> {
    let Some((first, rest)) = rules.split_first() else { return Ok(Vec::new()) };
    let mut exceptions: Vec<Rule> = Vec::new();
    for rule in rest {
        if rule.allow != first.allow {
            exceptions.push(*rule);
            continue;
        }
        for one in &mut exceptions {
            let same = (one.kind, one.major, one.minor) == (rule.kind, rule.major, rule.minor);
            if same {
                one.access &= !rule.access;
            } else if one.access & rule.access != 0 && overlap(one, rule) && !covers(rule, one) {
                bail!("resources.devices: cgroup v1 cannot take \"{rule}\" out of \"{one}\"");
            } else if covers(rule, one) {
                one.access &= !rule.access;
            }
        }
        exceptions.retain(|one| one.access != 0);
    }
    Ok(std::iter::once(*first).chain(exceptions).collect())
}

fn overlap(one: &Rule, other: &Rule) -> bool {
    fn meet<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
        one.is_none() || other.is_none() || one == other
    }
    meet(one.kind, other.kind) && meet(one.major, other.major) && meet(one.minor, other.minor)
}

fn covers(wide: &Rule, narrow: &Rule) -> bool {
    fn holds<T: PartialEq>(wide: Option<T>, narrow: Option<T>) -> bool {
        wide.is_none() || wide == narrow
    }
    holds(wide.kind, narrow.kind) && holds(wide.major, narrow.major) && holds(wide.minor, narrow.minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(devices: serde_json::Value) -> Vec<Rule> {
        let resources: LinuxResources = serde_json::from_value(json!({"devices": devices})).unwrap();
        rules(Some(&resources)).unwrap()
    }

    fn v1(devices: serde_json::Value) -> Vec<String> {
        let rules = rules_v1(&parsed(devices)).unwrap();
        rules.iter().map(|rule| format!("{} {rule}", if rule.allow { "+" } else { "-" })).collect()
    }

    #[test]
    fn all_is_refused_but_the_allowed() {
        let lines = v1(json!([{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]));
        assert_eq!(lines[..3], ["- a *:* rwm", "+ c 10:229 rw", "+ c *:* m"]);
        assert!(lines.contains(&"+ c 136:* rwm".to_owned()));
    }

    #[test]
    fn a_privileged_container_keeps_all() {
        assert_eq!(
            v1(json!([{"allow": false, "access": "rwm"}, {"allow": true, "access": "rwm"}])),
            ["+ a *:* rwm"]
        );
    }

    #[test]
    fn a_refusal_takes_its_exception_back() {
        let kvm = |allow| json!({"allow": allow, "type": "c", "major": 10, "minor": 232, "access": "rw"});
        assert!(!v1(json!([kvm(true), kvm(false)])).iter().any(|line| line.contains("10:232")));
        let hole = parsed(json!([{"allow": true, "type": "c", "major": 10, "access": "rw"}, kvm(false)]));
        assert!(format!("{:#}", rules_v1(&hole).unwrap_err()).contains("c 10:232 rw"));
    }
}
