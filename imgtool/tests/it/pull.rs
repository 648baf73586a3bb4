//! pull and push against a real registry.

use crate::rig::Rig;
use crate::rig::registry::{Guard, Registry};

#[test]
fn what_was_pushed_is_pulled() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Plain));
    let name = format!("{}/my/bb:1", registry.host);
    let id = rig.load("bb:1", "x");
    rig.ok(&format!("tag bb:1 {name}"));
    let pushed = rig.ok(&format!("push {name}"));
    let digest = pushed.split_whitespace().nth(2).unwrap().to_owned();
    assert!(pushed.starts_with("1: digest: sha256:") && pushed.contains(" size: "), "{pushed}");
    assert_eq!(rig.ok(&format!("push {name}")), pushed, "compressed to another digest");

    let other = Rig::new();
    let ended = other.run(&format!("pull {name}"));
    assert!(ended.stderr().contains(&format!("Status: Downloaded newer image for {name}")));
    assert_eq!(ended.ok(), format!("{name}\n"));
    assert!(other.run(&format!("pull {name}")).stderr().contains("Status: Image is up to date"));
    assert_eq!(other.ok(&format!("inspect {name} -f {{{{.Id}}}}")).trim(), id);
    let known = other.ok(&format!("inspect {name} -f {{{{.RepoDigests}}}}"));
    let known = known.trim().trim_matches(['[', ']']);
    assert_eq!(known, format!("{}/my/bb@{digest}", registry.host));
    other.verify();

    // Its digest goes alone while a tag holds it.
    assert_eq!(other.ok(&format!("rmi {known}")), format!("Untagged: {known}\n"));
    other.ok(&format!("inspect {name}"));

    // By digest: no name, but found by its digest.
    let third = Rig::new();
    third.ok(&format!("pull -q {}", known));
    assert_eq!(third.ok(&format!("inspect {} -f {{{{.Id}}}}", known)).trim(), id);
    assert!(third.ok("images").contains("<none>"));
    third.ok(&format!("rmi {}", known));
    assert!(third.blobs().is_empty());
}

#[test]
fn every_tag_goes_and_comes() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Plain));
    rig.load("bb:1", "x");
    rig.load("bb:2", "y");
    let repository = format!("{}/bb", registry.host);
    rig.ok(&format!("tag bb:1 {repository}:1"));
    rig.ok(&format!("tag bb:2 {repository}:2"));
    rig.ok(&format!("push -a {repository}"));
    let tags = rig.ok(&format!("list-tags {repository}"));
    let mut tags: Vec<&str> = tags.lines().collect();
    tags.sort_unstable();
    assert_eq!(tags, ["1", "2"]);
    assert_eq!(rig.ok(&format!("catalog {}", registry.host)), "bb\n");
    let other = Rig::new();
    assert_eq!(other.ok(&format!("pull -qa {repository}")).lines().count(), 2);
    let digest = other.ok(&format!("digest {repository}:1"));
    other.ok(&format!("delete {repository}:1"));
    assert!(other.fails(&format!("manifest {repository}:1"), 3).contains("not found"));
    assert!(digest.starts_with("sha256:"));
}

#[test]
fn zstd_layers_go_and_come() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Plain));
    let id = rig.load("bb:1", "x");
    let name = format!("{}/bb:z", registry.host);
    rig.ok(&format!("push --compression-format zstd bb:1 {name}"));
    let other = Rig::new();
    other.ok(&format!("pull {name}"));
    assert!(other.ok(&format!("inspect --raw {name}")).contains("tar+zstd"));
    assert_eq!(other.ok(&format!("inspect {name} -f {{{{.Id}}}}")).trim(), id);
}

#[test]
fn what_is_not_there_is_said_in_one_line() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Plain));
    let host = &registry.host;
    let err = rig.fails(&format!("pull {host}/nosuch"), 3);
    assert_eq!(err, format!("imgtool: manifest for {host}/nosuch:latest not found: manifest unknown"));
    let err = rig.fails(&format!("push {host}/nolocal"), 3);
    assert_eq!(err, format!("imgtool: An image does not exist locally with the tag: {host}/nolocal"));
    assert!(rig.fails(&format!("list-tags {host}/nosuch"), 3).contains("not found"));
    assert!(rig.blobs().is_empty());
}

#[test]
fn a_dead_registry_is_said_at_once() {
    let rig = Rig::new();
    crate::rig::registry::loopback_up();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert!(rig.fails(&format!("pull 127.0.0.1:{port}/x"), 6).contains("Connection refused"));
    assert!(rig.fails("pull nosuch.invalid/x", 6).contains("nosuch.invalid"));
    assert!(rig.blobs().is_empty() && rig.partials().is_empty());
    rig.load("x:1", "x");
    assert!(rig.fails(&format!("push x:1 127.0.0.1:{port}/x"), 6).contains("Connection refused"));
}

#[test]
fn a_certificate_is_verified_where_asked_for() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Tls));
    rig.load("bb:1", "x");
    let name = format!("{}/bb:1", registry.host);
    rig.ok(&format!("push bb:1 {name}"));
    assert!(rig.fails(&format!("pull --tls-verify {name}"), 6).contains("unknown authority"));
    rig.ok(&format!("pull --tls-verify --cert-dir {} {name}", registry.cert_dir().display()));
    // The same from the directory where users keep such things.
    let certs = rig.path("config/certs.d").join(&registry.host);
    std::fs::create_dir_all(certs.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(registry.cert_dir(), certs).unwrap();
    rig.ok(&format!("pull --tls-verify {name}"));
}

#[test]
fn mirrors_and_blocks_of_registries_conf_count() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Plain));
    rig.load("bb:1", "x");
    rig.ok(&format!("push bb:1 {}/hub/library/bb:1", registry.host));
    let conf = format!(
        "[[registry]]\nprefix = 'docker.io'\nlocation = 'docker.io'\n[[registry.mirror]]\nlocation = '{}/hub'\n\
         [[registry]]\nlocation = 'bad.example'\nblocked = true\n[aliases]\nshort = '{}/hub/library/bb'\n",
        registry.host, registry.host
    );
    std::fs::write(rig.path("registries.conf"), conf).unwrap();
    rig.ok("rmi bb:1");
    assert_eq!(rig.ok("pull -q bb:1"), "docker.io/library/bb:1\n");
    rig.ok("pull -q short:1");
    assert!(rig.fails("pull bad.example/x", 1).contains("blocked"));
    std::fs::write(rig.path("registries.conf"), "[[registry").unwrap();
    assert!(rig.fails("pull bb:1", 1).contains("registries.conf"));
}

#[test]
fn names_without_a_registry_are_searched() {
    let (rig, first, second) = (Rig::new(), Registry::start(Guard::Plain), Registry::start(Guard::Plain));
    rig.load("bb:1", "x");
    for name in ["both", "own/second"] {
        rig.ok(&format!("push bb:1 {}/{name}:1", second.host));
    }
    rig.ok(&format!("push bb:1 {}/both:1", first.host));
    rig.ok("rmi bb:1");
    let configure = |registries: &str, mode: &str| {
        let text = format!(
            "unqualified-search-registries = [{registries}]\n{mode}\n[aliases]\nshort = '{}/both'\n",
            second.host
        );
        std::fs::write(rig.path("registries.conf"), text).unwrap();
    };
    let both = format!("'{}', '{}'", first.host, second.host);
    for mode in ["", "short-name-mode = 'permissive'", "short-name-mode = 'disabled'"] {
        configure(&both, mode);
        assert_eq!(rig.ok("pull -q both:1"), format!("{}/both:1\n", first.host));
        assert_eq!(rig.ok("pull -q own/second:1"), format!("{}/own/second:1\n", second.host));
        let told = rig.fails("pull -q nosuch", 3);
        assert!(told.contains(&first.host) && told.contains(&second.host), "{told}");
    }
    assert_eq!(rig.ok("pull -q -a own/second"), format!("{}/own/second:1\n", second.host));

    // Here they are found by the same rule, and what is not is fetched for a bundle.
    rig.ok("inspect own/second:1");
    rig.ok("rmi own/second:1");
    rig.fails("inspect own/second:1", 3);
    for name in ["own/second:1", "short:1"] {
        let dir = rig.path("b");
        rig.ok(&format!("bundle {name} {}", dir.display()));
        rig.ok(&format!("unbundle {}", dir.display()));
    }
    std::fs::create_dir(rig.path("context")).unwrap();
    std::fs::write(rig.path("context/Dockerfile"), "FROM own/second:1\nLABEL a=b\n").unwrap();
    rig.ok(&format!("build -q --pull -t made {}", rig.path("context").display()));

    // Nobody can choose here, and where there is nothing to choose nobody has to.
    configure(&both, "short-name-mode = 'enforcing'");
    let told = rig.fails("pull both:1", 2);
    assert!(told.contains(&format!("{}/both:1, {}/both:1", first.host, second.host)), "{told}");
    rig.ok("pull -q short:1");
    rig.ok(&format!("pull -q {}/both:1", first.host));
    configure(&format!("'{}'", second.host), "short-name-mode = 'enforcing'");
    assert_eq!(rig.ok("pull -q both:1"), format!("{}/both:1\n", second.host));
    configure("", "");
    assert!(rig.fails("pull other", 3).contains("unqualified-search-registries is empty"));

    // A registry that fails is told, and the next one asked.
    configure(&format!("'127.0.0.1:1', '{}'", second.host), "");
    rig.ok("pull -q --retry 0 both:1");
    assert!(rig.fails("pull -q --retry 0 nosuch", 6).contains("127.0.0.1:1"));
}

#[test]
fn platforms_are_chosen_from_an_index() {
    use serde_json::json;

    use crate::rig::image::{manifest, sha256, tar};

    let (rig, registry) = (Rig::new(), Registry::start(Guard::Plain));
    let layout = rig.path("layout");
    std::fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let put = |bytes: &[u8]| {
        std::fs::write(layout.join("blobs/sha256").join(&sha256(bytes)[7..]), bytes).unwrap();
        (sha256(bytes), bytes.len())
    };
    let mut children = Vec::new();
    for architecture in ["amd64", "arm64", "s390x"] {
        let layer = tar(&[("arch", architecture.as_bytes())]);
        let config = json!({ "architecture": architecture, "os": "linux", "rootfs": { "diff_ids": [sha256(&layer)] } });
        let config = serde_json::to_vec(&config).unwrap();
        let manifest = manifest(&config, &layer);
        put(&layer);
        put(&config);
        let (digest, size) = put(&manifest);
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let platform = json!({ "architecture": architecture, "os": "linux" });
        children.push(json!({ "mediaType": kind, "digest": digest, "size": size, "platform": platform }));
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": children });
    let (digest, size) = put(&serde_json::to_vec(&index).unwrap());
    let top =
        json!({ "schemaVersion": 2, "manifests": [{ "mediaType": kind, "digest": digest, "size": size }] });
    std::fs::write(layout.join("index.json"), top.to_string()).unwrap();

    let name = format!("{}/multi:1", registry.host);
    rig.ok(&format!("copy -a oci:{} docker://{name}", layout.display()));
    assert_eq!(rig.ok(&format!("digest {name}")).trim(), digest, "the index changed on the way");
    let architecture = || rig.ok(&format!("inspect {name} -f {{{{.Architecture}}}}"));
    rig.ok(&format!("pull {name}"));
    assert_eq!(architecture().trim(), "amd64");
    rig.ok(&format!("pull --platform linux/arm64 {name}"));
    assert_eq!(architecture().trim(), "arm64");
    assert!(rig.fails(&format!("pull --platform linux/riscv64 {name}"), 3).contains("linux/riscv64"));
    rig.ok(&format!("pull --platform linux/amd64,linux/s390x {name}"));
    assert_eq!(architecture().trim(), "amd64");
    rig.ok(&format!("inspect --platform linux/s390x {name}"));
    rig.fails(&format!("inspect --platform linux/arm64 {name}"), 3);
    rig.ok(&format!("pull --all-platforms {name}"));
    rig.ok(&format!("inspect --platform linux/arm64 {name}"));
    let whole = rig.command(&format!("save {name}")).output().unwrap().stdout;
    let other = Rig::new();
    assert_eq!(other.feed("load", &whole).ok(), format!("Loaded image: {name}\n"));
    other.ok(&format!("inspect --platform linux/s390x {name}"));
    rig.verify();
}

#[test]
fn an_image_for_another_machine_is_not_passed_off() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Plain));
    rig.load("bb:1", "x");
    let name = format!("{}/bb:1", registry.host);
    rig.ok(&format!("push bb:1 {name}"));
    let err = rig.fails(&format!("pull --platform linux/arm64 {name}"), 3);
    assert!(err.contains("was not built for linux/arm64"), "{err}");
    rig.ok(&format!("pull --platform linux/amd64 {name}"));
}
