//! One function for each target.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use contracts::{passwd as accounts, report};

use crate::cgroup::layout::{Place, parse_mount, relative_path};
use crate::container::state::State;
use crate::container::status::Status;
use crate::container::view::{self, View};
use crate::init::channel;
use crate::lifecycle::{exec, kill};
use crate::machine;
use crate::namespace::Namespaces;
use crate::rootfs::pivot::bare_mount;
use crate::rootfs::{mount, propagation};
use crate::seccomp;
use crate::security::capabilities::{self, Masks};
use crate::security::scheduling;
use crate::spec::check;
use crate::spec::document::Document;
use crate::spec::seccomp::Seccomp;

/// An error of ours is one line, whatever it quotes.
pub(crate) fn one_line<T>(result: anyhow::Result<T>) -> Option<T> {
    result
        .inspect_err(|err| {
            let line = report::one_line(err);
            assert!(!line.is_empty() && !line.contains('\n'), "an error of several lines: {line:?}");
        })
        .ok()
}

/// config.json, up to the point where something would be made of it.
pub fn config(bytes: &[u8]) {
    let Ok(mut document) = serde_json::from_slice::<Document>(bytes) else { return };
    // Paths of namespaces are opened, and what stands there is the machine's.
    for namespace in &mut document.linux.namespaces {
        namespace.path = PathBuf::new();
    }
    let Some(namespaces) = one_line(Namespaces::read(&document.linux.namespaces)) else { return };
    let sound = one_line(check::document(&document, &namespaces)).is_some();
    one_line(propagation::read(&document.linux.rootfs_propagation));
    one_line(mount::plan(&document.mounts, Path::new("/bundle"), Some(Path::new("/bundle/rootfs"))));
    if let Some(capabilities) = document.process.as_ref().and_then(|process| process.capabilities.as_ref()) {
        let masks = Masks::read(capabilities);
        drop(format!("{masks:?}"));
    }
    if let Some(profile) = &document.linux.seccomp {
        compiled(profile);
    }
    if sound {
        assert!(
            document.process.is_some_and(|process| !process.args.is_empty() && process.cwd.is_absolute())
        );
        for name in document.linux.sysctl.keys() {
            let path = check::sysctl_path(name);
            assert!(!path.split('/').any(|part| part == ".."), "{name:?} leads to {path:?}");
        }
    }
}

/// state.json: what is read can be written, read again and shown.
pub fn state(bytes: &[u8]) {
    let Ok(state) = serde_json::from_slice::<State>(bytes) else { return };
    let written = serde_json::to_vec(&state).expect("what was read can be written");
    let again: State = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(written, serde_json::to_vec(&again).expect("and written"), "it changes by being read");
    let view = View::new(&state, Status::Stopped).with_owner("root".to_owned());
    serde_json::to_vec(&view).expect("it can be shown");
    let hook = view::for_hook(&state, Status::Creating, 1);
    serde_json::from_slice::<serde_json::Value>(&hook).expect("hooks get JSON");
}

/// `linux.seccomp`: the kernel takes every program that we make, and a call that no rule names gets the default.
pub fn seccomp_profile(bytes: &[u8]) {
    if let Ok(profile) = serde_json::from_slice::<Seccomp>(bytes) {
        compiled(&profile);
    }
}

fn compiled(profile: &Seccomp) {
    let Some(program) = one_line(seccomp::compile(profile)) else { return };
    let program = program.instructions;
    machine::accepts(&program);
    // 0x3fffffff is below x32's numbers, and -1 is what a tracer leaves of a call to be skipped.
    let (skipped, far) = (u32::MAX, 0x3fff_ffff);
    let native = 0xc000_003e;
    let verdicts: BTreeSet<u32> =
        [1, 2, u64::MAX].map(|arg| machine::verdict(&program, native, skipped, [arg; 6])).into();
    assert_eq!(verdicts.len(), 1, "the arguments of no call are looked at");
    assert_eq!(machine::verdict(&program, 0x1234, far, [0; 6]), 0, "a foreign architecture is killed");
}

/// Words of the command line.
pub fn words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some((uid, gid)) = one_line(exec::parse_user(text, 7)) {
        assert!(uid != u32::MAX && gid != u32::MAX, "{text:?} is nobody");
        let digits = text.split(':').next().unwrap_or_default().trim_start_matches('0');
        assert_eq!(if uid == 0 { String::new() } else { uid.to_string() }, digits, "{text:?} is {uid}");
    }
    if let Some(signal) = one_line(kill::parse_signal(text)) {
        assert!((1..=64).contains(&signal), "{text:?} is signal {signal}");
    }
    if let Some(size) = contracts::flag::size::memory(text) {
        assert!(size >= 0, "{text:?} is {size} bytes");
    }
    if let Some(bit) = capabilities::bit(text) {
        assert!(bit.count_ones() == 1 && text.starts_with("CAP_"), "{text:?} is {bit:#x}");
    }
    one_line(scheduling::parse_list("list", text));
    if contracts::name::check("id", text).is_ok() {
        let path = Path::new(text);
        assert_eq!(path.components().count(), 1, "the id {text:?} leaves its directory");
        assert!(!matches!(text, "." | "..") && !text.contains(['/', '\0']), "the id {text:?}");
    }
}

/// Lines of `/proc/self/mountinfo`, and a `cgroupsPath`.
pub fn mountinfo(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for mount in text.lines().filter_map(parse_mount) {
        for controllers in ["", "memory", "cpu,cpuacct", "name=systemd"] {
            let unified = mount.is_of("");
            assert!(!mount.is_of(controllers) || unified == controllers.is_empty());
        }
    }
    for at in text.lines().filter_map(bare_mount) {
        assert!(at.as_os_str().len() <= text.len(), "{} is longer than its line", at.display());
    }
    if let Some(place) = one_line(relative_path(Some(Path::new(&*text)), "id")) {
        let (Place::FromRoot(path) | Place::FromOwn(path)) = place;
        let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        assert!(inside && (path.components().count() > 0), "{text:?} leads to {}", path.display());
    }
}

/// A user spec, then after a zero byte /etc/passwd, and after another /etc/group.
pub fn passwd(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let Ok(spec) = std::str::from_utf8(next()) else { return };
    let root = tempfile::tempdir_in("/dev/shm").expect("a directory");
    std::fs::create_dir(root.path().join("etc")).expect("a directory");
    for name in ["etc/passwd", "etc/group"] {
        std::fs::write(root.path().join(name), next()).expect("a file");
    }
    let root = sys::path::Root::open(root.path()).expect("a root");
    if let Some(user) = one_line(accounts::resolve(&root, spec)) {
        assert!(user.uid != u32::MAX && user.gid != u32::MAX, "{spec:?} is {user:?}");
        assert!(user.home.starts_with('/'), "{spec:?} lives in {:?}", user.home);
        let number = spec.split(':').next().and_then(|name| name.parse::<u32>().ok());
        let plain = spec.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
        assert!(!plain || number.is_none_or(|uid| uid == user.uid), "{spec:?} is {user:?}");
    }
    one_line(accounts::group(&root, spec));
}

/// A packet of a failed process: its kind and line survive being sent once more.
pub fn channel(bytes: &[u8]) {
    let first = channel::decode(bytes);
    let packet = channel::encode(&first);
    let second = channel::decode(&packet);
    assert_eq!(contracts::fault::Kind::of(&first), contracts::fault::Kind::of(&second));
    assert_eq!(channel::encode(&second), packet, "it changes by being sent");
}
