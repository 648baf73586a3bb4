//! `-v`, `--mount` and `--tmpfs`, as docker reads them.

use anyhow::Result;
use contracts::container::MountPoint;
use contracts::fault;

/// A mount the user asked for, before volumes exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    pub point: MountPoint,
    /// A missing host directory is made (`-v`) or an error (`--mount`).
    pub make_source: bool,
    /// A new volume is not filled from the image.
    pub no_copy: bool,
    /// Mount options beyond `ro` and propagation: `size=`, `mode=`, ….
    pub options: Vec<String>,
    /// A directory inside the volume.
    pub subpath: String,
    /// A directory inside the image (`type=image`).
    pub image_subpath: String,
    /// Whether `readonly` or `rw` was said.
    access: bool,
    /// Options of a volume that is made for this mount.
    pub volume_options: Vec<(String, String)>,
    /// Labels of a volume that is made for this mount.
    pub volume_labels: Vec<(String, String)>,
}

const PROPAGATION: &[&str] = &["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// `-v [SOURCE:]TARGET[:OPTIONS]`.
pub fn volume(text: &str) -> Result<Wish> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => fault!(Usage, "invalid volume specification: '{text}'"),
    };
    if target.is_empty() || (parts.len() > 1 && source.is_empty()) {
        fault!(Usage, "invalid spec: {text}: empty section between colons");
    }
    let bind = source.starts_with('/')
        || source.starts_with("./")
        || source.starts_with("../")
        || source == "."
        || source == "..";
    let kind = if bind { "bind" } else { "volume" };
    check_target(
        &format!("invalid volume specification: '{text}': invalid mount config for type \"{kind}\": "),
        target,
    )?;
    let mut wish = Wish {
        point: MountPoint {
            kind: kind.into(),
            destination: clean(target),
            mode: mode.into(),
            rw: true,
            ..MountPoint::default()
        },
        make_source: bind,
        ..Wish::default()
    };
    if bind {
        wish.point.source = absolute(source)?;
        wish.point.propagation = "rprivate".into();
    } else {
        wish.point.driver = "local".into();
        volume_name(source)?;
        wish.point.name = source.into();
    }
    modes(mode, &mut wish)?;
    Ok(wish)
}

fn modes(mode: &str, wish: &mut Wish) -> Result<()> {
    let mut seen: Vec<&str> = Vec::new();
    for word in mode.split(',').filter(|word| !word.is_empty()) {
        let class = match word {
            "ro" | "rw" => "access",
            "z" | "Z" => "label",
            "nocopy" if wish.point.kind == "volume" => "copy",
            "delegated" | "cached" | "consistent" => "consistency",
            _ if word == "idmap" || word.starts_with("idmap=") => "idmap",
            _ if PROPAGATION.contains(&word) && wish.point.kind == "bind" => "propagation",
            _ => fault!(Usage, "invalid mode: {mode}"),
        };
        if seen.contains(&class) {
            fault!(Usage, "invalid mode: {mode}");
        }
        seen.push(class);
        match word {
            "ro" => wish.point.rw = false,
            "nocopy" => wish.no_copy = true,
            _ if class == "idmap" => wish.point.idmap = word.into(),
            _ if class == "propagation" => wish.point.propagation = word.into(),
            _ => {}
        }
    }
    Ok(())
}

/// `--mount type=…,src=…,dst=…`.
pub fn mount(text: &str) -> Result<Wish> {
    let wrong = |why: String| format!("invalid argument \"{text}\" for \"--mount\" flag: {why}");
    let mut wish = Wish::default();
    wish.point.kind = "volume".into();
    wish.point.rw = true;
    for field in text.split(',') {
        let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
        let on = match value {
            None | Some("true" | "1") => true,
            Some("false" | "0") => false,
            Some(_) => true,
        };
        let text_of = || value.unwrap_or_default().to_owned();
        match key.to_ascii_lowercase().as_str() {
            "readonly" | "ro" => (wish.point.rw, wish.access) = (!on, true),
            // As podman spells it for images.
            "rw" | "readwrite" => (wish.point.rw, wish.access) = (on, true),
            "volume-nocopy" => wish.no_copy = on,
            "idmap" => wish.point.idmap = field.into(),
            "bind-nonrecursive" => wish.point.recursive = if on { "disabled".into() } else { String::new() },
            _ if value.is_none() => {
                fault!(Usage, "{}", wrong(format!("invalid field '{field}' must be a key=value pair")))
            }
            "type" => wish.point.kind = text_of().to_ascii_lowercase(),
            "src" | "source" => wish.point.source = text_of(),
            "dst" | "destination" | "target" => wish.point.destination = text_of(),
            "bind-propagation" if PROPAGATION.contains(&text_of().as_str()) => {
                wish.point.propagation = text_of()
            }
            "bind-recursive" => match text_of().as_str() {
                "enabled" => wish.point.recursive = String::new(),
                how @ ("disabled" | "writable" | "readonly") => wish.point.recursive = how.into(),
                how => fault!(
                    Usage,
                    "{}",
                    wrong(format!(
                        "invalid value for bind-recursive: {how} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                    ))
                ),
            },
            "bind-create-src" => wish.make_source = on,
            "volume-subpath" => wish.subpath = text_of(),
            // The second is podman's.
            "image-subpath" | "subpath" => wish.image_subpath = text_of(),
            "volume-driver" if text_of() == "local" => {}
            "volume-driver" => {
                fault!(Unsupported, "error looking up volume plugin {0}: plugin \"{0}\" not found", text_of())
            }
            "volume-label" => wish.volume_labels.push(pair(&text_of())),
            "volume-opt" => wish.volume_options.push(pair(&text_of())),
            "tmpfs-size" => wish.options.push(format!("size={}", super::units::size("--mount", &text_of())?)),
            "tmpfs-mode" if u32::from_str_radix(&text_of(), 8).is_ok() => {
                wish.options.push(format!("mode={}", text_of()))
            }
            "consistency" => {}
            _ => fault!(Usage, "{}", wrong(format!("unexpected key '{key}' in '{field}'"))),
        }
    }
    if wish.point.destination.is_empty() {
        fault!(Usage, "{}", wrong("target is required".into()));
    }
    finish(wish)
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.into(), value.into())
}

fn finish(mut wish: Wish) -> Result<Wish> {
    let kind = wish.point.kind.clone();
    let prefix = format!("invalid mount config for type \"{kind}\": ");
    fits(&wish, &kind)?;
    if !wish.point.idmap.is_empty() && !["bind", "volume"].contains(&kind.as_str()) {
        fault!(Usage, "{prefix}idmap is for binds and volumes");
    }
    match kind.as_str() {
        "bind" => {
            if wish.point.source.is_empty() {
                fault!(Usage, "{prefix}field Source must not be empty");
            }
            wish.point.source = absolute(&wish.point.source)?;
            if wish.point.propagation.is_empty() {
                wish.point.propagation = "rprivate".into();
            }
        }
        "volume" => {
            volume_name(&wish.point.source)?;
            wish.point.name = std::mem::take(&mut wish.point.source);
            wish.point.driver = "local".into();
            if !wish.subpath.is_empty() && wish.point.name.is_empty() {
                fault!(Usage, "{prefix}must not set Subpath when using anonymous volumes");
            }
        }
        "tmpfs" if !wish.point.source.is_empty() => {
            fault!(Usage, "{prefix}field Source must not be specified")
        }
        "tmpfs" => {}
        "image" => {
            if wish.point.source.is_empty() {
                fault!(Usage, "{prefix}field Source must not be empty");
            }
            wish.point.name = std::mem::take(&mut wish.point.source);
            wish.point.subpath = image_subpath(&prefix, &wish.image_subpath)?;
            wish.point.rw &= wish.access;
        }
        "cluster" | "npipe" => fault!(Unsupported, "{prefix}not supported"),
        _ => fault!(Usage, "{prefix}mount type unknown"),
    }
    check_target(&prefix, &wish.point.destination)?;
    wish.point.destination = clean(&wish.point.destination);
    Ok(wish)
}

/// A place below the image's root, without a slash at its beginning; empty for all of it.
fn image_subpath(prefix: &str, text: &str) -> Result<String> {
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        fault!(Usage, "{prefix}invalid image subpath: '{text}' must be a relative path within the image");
    }
    Ok(clean(text).trim_start_matches('/').to_owned())
}

/// Options of one type say nothing about another: asking for them is a mistake.
fn fits(wish: &Wish, kind: &str) -> Result<()> {
    let bind = !wish.point.propagation.is_empty() || !wish.point.recursive.is_empty() || wish.make_source;
    let volume = wish.no_copy
        || !wish.subpath.is_empty()
        || !wish.volume_options.is_empty()
        || !wish.volume_labels.is_empty();
    let image = !wish.image_subpath.is_empty();
    for (used, owner) in
        [(bind, "bind"), (volume, "volume"), (!wish.options.is_empty(), "tmpfs"), (image, "image")]
    {
        if used && kind != owner {
            fault!(Usage, "cannot mix '{owner}-*' options with mount type '{kind}'");
        }
    }
    match wish.point.recursive.as_str() {
        "writable" | "readonly" if wish.point.rw => {
            let how = &wish.point.recursive;
            fault!(Usage, "option 'bind-recursive={how}' requires 'readonly' to be specified in conjunction")
        }
        "readonly" if wish.point.propagation != "rprivate" => fault!(
            Usage,
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
        ),
        _ => Ok(()),
    }
}

/// `--tmpfs TARGET[:OPTIONS]`.
pub fn tmpfs(text: &str) -> Result<(String, String)> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    check_target("invalid mount config for type \"tmpfs\": ", target)?;
    Ok((clean(target), options.into()))
}

/// Two mounts on one place are a mistake.
pub fn check_duplicates<'a>(targets: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for target in targets {
        if !seen.insert(target) {
            fault!(Usage, "Duplicate mount point: {target}");
        }
    }
    Ok(())
}

fn check_target(prefix: &str, target: &str) -> Result<()> {
    if !target.starts_with('/') {
        fault!(Usage, "{prefix}invalid mount path: '{target}' mount path must be absolute");
    }
    if clean(target) == "/" {
        fault!(Usage, "{prefix}invalid specification: destination can't be '/'");
    }
    Ok(())
}

/// A volume's name; an empty one is made up later.
pub fn volume_name(name: &str) -> Result<()> {
    if !name.is_empty() && (contracts::name::check("volume name", name).is_err() || name.len() < 2) {
        fault!(
            Usage,
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        );
    }
    Ok(())
}

fn absolute(path: &str) -> Result<String> {
    let path = std::path::absolute(path)?;
    match path.to_str() {
        Some(path) => Ok(clean(path)),
        None => fault!(Usage, "{} is not UTF-8, which config.json needs", path.display()),
    }
}

/// A path without empty, `.` and `..` parts.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_and_binds() {
        let wish = volume("data:/d:ro,nocopy").unwrap();
        assert!(wish.point.kind == "volume" && !wish.point.rw && wish.no_copy && wish.point.name == "data");
        let wish = volume("/h/../x:/d/:rshared").unwrap();
        assert_eq!(
            (&*wish.point.source, &*wish.point.destination, &*wish.point.propagation),
            ("/x", "/d", "rshared")
        );
        assert_eq!(volume("/data").unwrap().point.name, "");
    }

    #[test]
    fn refused_volumes() {
        for wrong in
            ["a:b:c:d", "v1:/d:bogus", "v1:/d:ro,rw", "v1:/", "/x:relative", "rel/dir:/x", ":/x", "v1:"]
        {
            assert!(volume(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn mounts() {
        let wish = mount("type=bind,src=/a,dst=/b,readonly").unwrap();
        assert!(!wish.point.rw && !wish.make_source && wish.point.source == "/a");
        assert_eq!(
            mount("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700").unwrap().options,
            ["size=1048576", "mode=700"]
        );
        assert_eq!(mount("src=vol,dst=/v").unwrap().point.name, "vol");
        assert_eq!(mount("type=bind,src=/a,dst=/b,bind-nonrecursive").unwrap().point.recursive, "disabled");
        let image = mount("type=image,source=app:1,target=/i,image-subpath=./etc//x").unwrap().point;
        assert!(!image.rw && image.name == "app:1" && image.source.is_empty() && image.subpath == "etc/x");
        assert!(mount("type=image,source=app,target=/i,rw=true").unwrap().point.rw);
        let labelled = mount("src=vol,dst=/v,volume-label=a=b=c").unwrap();
        assert_eq!(labelled.volume_labels, [("a".to_owned(), "b=c".to_owned())]);
        for wrong in [
            "src=a",
            "type=bogus,dst=/t",
            "type=bind,dst=/t",
            "dst=/t,bogus=1",
            "dst=t",
            "type=tmpfs,src=/a,dst=/t",
            "type=tmpfs,dst=/t,volume-nocopy",
            "type=bind,src=/a,dst=/t,volume-label=a=b",
            "type=bind,src=/a,dst=/t,bind-recursive=bogus",
            "type=bind,src=/a,dst=/t,bind-recursive=writable",
            "type=image,dst=/t",
            "type=image,src=i,dst=/t,image-subpath=../x",
            "type=image,src=i,dst=/t,image-subpath=/x",
            "type=bind,src=/a,dst=/t,image-subpath=x",
            "type=image,src=i,dst=/t,volume-subpath=x",
        ] {
            assert!(mount(wrong).is_err(), "{wrong}");
        }
    }
}
