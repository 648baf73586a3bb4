//! Health check and restart policy flags.

use anyhow::Result;
use contracts::container::{Container, HealthMore, Healthcheck, RestartPolicy};
use contracts::fault;

use super::units::duration;
use crate::cli::HealthFlags;

/// The check the flags ask for; fields that stay zero or empty come from the image.
pub fn check(flags: &HealthFlags) -> Result<Option<Healthcheck>> {
    let mut check = Healthcheck::default();
    if let Some(command) = &flags.health_cmd {
        check.test = vec!["CMD-SHELL".into(), command.clone()];
    }
    check.retries = flags.health_retries.unwrap_or_default();
    if check.retries < 0 {
        fault!(Usage, "--health-retries cannot be negative");
    }
    let fields = [
        ("health-interval", "Interval", &flags.health_interval, &mut check.interval),
        ("health-timeout", "Timeout", &flags.health_timeout, &mut check.timeout),
        ("health-start-period", "StartPeriod", &flags.health_start_period, &mut check.start_period),
        ("health-start-interval", "StartInterval", &flags.health_start_interval, &mut check.start_interval),
    ];
    for (flag, field, text, value) in fields {
        if let Some(text) = text {
            *value = duration(flag, text)?;
            if *value != 0 && *value < 1_000_000 {
                fault!(Usage, "{field} in Healthcheck cannot be less than 1ms");
            }
        }
    }
    let asked = check != Healthcheck::default();
    if flags.no_healthcheck {
        if asked {
            fault!(Usage, "--no-healthcheck conflicts with --health-* options");
        }
        return Ok(Some(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() }));
    }
    Ok(asked.then_some(check))
}

/// What only podman's flags ask for.
pub fn more(flags: &HealthFlags) -> Result<HealthMore> {
    let mut more = HealthMore {
        startup_success: flags.health_startup_success.unwrap_or_default(),
        max_log_count: flags.health_max_log_count,
        max_log_size: flags.health_max_log_size,
        ..HealthMore::default()
    };
    match flags.health_log_destination.as_deref() {
        // Both are where they always are: in `inspect`, and among the events.
        None | Some("local" | "events_logger") => {}
        Some(dir) => {
            let path = std::path::absolute(dir)?;
            if !path.is_dir() {
                fault!(
                    Usage,
                    "--health-log-destination={dir}: use local, events_logger or an existing directory"
                );
            }
            more.log_dir = path.display().to_string();
        }
    }
    let Some(command) = &flags.health_startup_cmd else {
        let others = [&flags.health_startup_interval, &flags.health_startup_timeout];
        let numbers = [flags.health_startup_retries, flags.health_startup_success];
        if others.iter().any(|flag| flag.is_some()) || numbers.iter().any(Option::is_some) {
            fault!(Usage, "--health-startup-* options need --health-startup-cmd");
        }
        return Ok(more);
    };
    let time = |flag: &str, text: &Option<String>| text.as_ref().map_or(Ok(0), |text| duration(flag, text));
    more.startup = Some(Healthcheck {
        test: vec!["CMD-SHELL".into(), command.clone()],
        interval: time("health-startup-interval", &flags.health_startup_interval)?,
        timeout: time("health-startup-timeout", &flags.health_startup_timeout)?,
        retries: flags.health_startup_retries.unwrap_or_default().into(),
        ..Healthcheck::default()
    });
    Ok(more)
}

/// A startup check comes before a check, which may be the image's.
pub fn has_what_it_starts(record: &Container) -> Result<()> {
    let test = record.config.healthcheck.as_ref().and_then(|check| check.test.first());
    if record.health_more.startup.is_some() && test.is_none_or(|word| word == "NONE") {
        fault!(Usage, "a startup health check needs a health check to begin with: use --health-cmd");
    }
    Ok(())
}

/// `update`: what the flags change of a container's check; what they do not name stays.
pub fn change(flags: &HealthFlags, record: &mut Container) -> Result<()> {
    if let Some(asked) = check(flags)? {
        let runs = |known: &Healthcheck| known.test.first().is_some_and(|word| word != "NONE");
        let known = record.config.healthcheck.take().filter(|known| runs(known) && !flags.no_healthcheck);
        let check = inherit(Some(asked), known);
        if check.as_ref().is_some_and(|check| check.test.is_empty()) {
            fault!(Usage, "there is no health check to change: give one with --health-cmd");
        }
        record.config.healthcheck = check;
    }
    let known = std::mem::take(&mut record.health_more);
    let mut all = flags.clone();
    let before = known.startup.as_ref().and_then(|check| check.test.get(1).cloned());
    all.health_startup_cmd = all.health_startup_cmd.or(before);
    let mut more = more(&all)?;
    let retries = flags.health_startup_retries.map(i64::from);
    more.startup = inherit(more.startup, known.startup);
    if let (Some(startup), Some(retries)) = (&mut more.startup, retries) {
        startup.retries = retries;
    }
    more.startup_success = flags.health_startup_success.unwrap_or(known.startup_success);
    more.max_log_count = more.max_log_count.or(known.max_log_count);
    more.max_log_size = more.max_log_size.or(known.max_log_size);
    if flags.health_log_destination.is_none() {
        more.log_dir = known.log_dir;
    }
    if flags.no_healthcheck {
        more.startup = None;
    }
    record.health_more = more;
    if let Some(action) = &flags.health_on_failure {
        record.health_on_failure.clone_from(action);
    }
    has_what_it_starts(record)
}

/// The image's check under the user's.
pub fn inherit(user: Option<Healthcheck>, image: Option<Healthcheck>) -> Option<Healthcheck> {
    let (Some(mut check), Some(image)) = (user.clone(), image.clone()) else { return user.or(image) };
    if check.test.is_empty() {
        check.test = image.test;
    }
    for (mine, theirs) in [
        (&mut check.interval, image.interval),
        (&mut check.timeout, image.timeout),
        (&mut check.start_period, image.start_period),
        (&mut check.start_interval, image.start_interval),
        (&mut check.retries, image.retries),
    ] {
        if *mine == 0 {
            *mine = theirs;
        }
    }
    Some(check)
}

/// `no`, `on-failure[:N]`, `always`, `unless-stopped`.
pub fn restart_policy(text: &str) -> Result<RestartPolicy> {
    let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
    let name = if name.is_empty() { "no" } else { name };
    if !["no", "on-failure", "always", "unless-stopped"].contains(&name) {
        fault!(
            Usage,
            "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        );
    }
    let maximum_retry_count = match count.map(str::parse::<i64>) {
        None => 0,
        Some(Ok(count)) if count < 0 => {
            fault!(Usage, "invalid restart policy: maximum retry count cannot be negative")
        }
        Some(Ok(count)) => match u32::try_from(count) {
            Ok(count) => count,
            Err(_) => fault!(Usage, "invalid restart policy: maximum retry count {count} is too large"),
        },
        Some(Err(_)) => {
            fault!(Usage, "invalid restart policy format: maximum retry count must be an integer")
        }
    };
    if count.is_some() && name != "on-failure" {
        fault!(Usage, "invalid restart policy: maximum retry count can only be used with 'on-failure'");
    }
    Ok(RestartPolicy { name: name.into(), maximum_retry_count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        assert_eq!(restart_policy("on-failure:3").unwrap().maximum_retry_count, 3);
        assert_eq!(restart_policy("").unwrap().name, "no");
        for wrong in ["bogus", "always:3", "on-failure:-1", "on-failure:x", "no:0"] {
            assert!(restart_policy(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_image_fills_what_the_user_left_out() {
        let user = Healthcheck { retries: 2, ..Healthcheck::default() };
        let image = Healthcheck {
            test: vec!["CMD".into(), "x".into()],
            retries: 5,
            timeout: 7,
            ..Healthcheck::default()
        };
        let both = inherit(Some(user), Some(image)).unwrap();
        assert_eq!((both.test.len(), both.retries, both.timeout), (2, 2, 7));
    }
}
