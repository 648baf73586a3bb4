//! What users configure around a registry, each against a real one: client certificates, proxies, tokens, insecure
//! registries and mirrors; and an upload that the next command goes on with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::rig::peer::{Answer, Peer, ok, status};
use crate::rig::registry::{Guard, Registry};
use crate::rig::relay::{Proxy, Relay};
use crate::rig::{Ended, Rig, image};

#[test]
fn a_killed_push_is_gone_on_with() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Plain));
    let noise = image::noise(2_000_000);
    rig.feed("load", &image::archive(&["bb:1"], &[("file", &noise)])).ok();
    let relay = Relay::start(&registry.host, 5);
    let push = format!("push -q --chunk-size 256KiB bb:1 {}/bb:1", relay.host);
    let mut child = rig.start(&push);
    relay.await_held();
    child.kill().unwrap();
    child.wait().unwrap();
    let noted = |rig: &Rig| rig.partials().iter().filter(|name| name.starts_with("upload-")).count();
    assert_eq!(noted(&rig), 1);
    let before = relay.bytes();
    // Four pieces and the config.
    assert!(before > 1_000_000, "{before}");
    relay.release();
    rig.ok(&push);
    let sent = relay.bytes() - before;
    assert!(sent < 1_100_000, "{sent} bytes sent again");
    assert_eq!(rig.partials(), Vec::<String>::new());
    rig.ok("rmi bb:1");
    rig.ok(&format!("pull -q {}/bb:1", registry.host));
    rig.verify();
}

#[test]
fn an_upload_that_the_registry_forgot_is_begun_anew() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Plain));
    rig.feed("load", &image::archive(&["bb:1"], &[("file", &image::noise(2_000_000))])).ok();
    let relay = Relay::start(&registry.host, 2);
    let push = format!("push -q --chunk-size 256KiB bb:1 {}/bb:1", relay.host);
    let mut child = rig.start(&push);
    relay.await_held();
    child.kill().unwrap();
    child.wait().unwrap();
    relay.release();
    let uploads = registry.data("docker/registry/v2/repositories/bb/_uploads");
    fs::remove_dir_all(uploads).unwrap();
    rig.ok(&push);
    assert_eq!(rig.partials(), Vec::<String>::new());
    rig.ok("rmi bb:1");
    rig.ok(&format!("pull -q {}/bb:1", registry.host));
}

#[test]
fn client_certificates_are_found_where_docker_has_them() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Certificate));
    rig.load("bb:1", "x");
    let host = &registry.host;
    let dir = rig.path("config/certs.d").join(host);
    registry.certificates(&dir, false);
    let verify = "--tls-verify=true --retry 0";
    let refused = rig.fails(&format!("push -q {verify} bb:1 {host}/bb:1"), 6);
    assert!(refused.to_lowercase().contains("certificate"), "{refused}");
    registry.certificates(&dir, true);
    rig.ok(&format!("push -q {verify} bb:1 {host}/bb:1"));
    fs::remove_dir_all(&dir).unwrap();
    rig.fails(&format!("pull -q {verify} {host}/bb:1"), 6);
    registry.certificates(&rig.path("own"), true);
    rig.ok(&format!("pull -q {verify} --cert-dir {} {host}/bb:1", rig.path("own").display()));
    // docker's and podman's own directories, in an /etc of this command's own.
    for tool in ["docker", "containers"] {
        let script = format!(
            "mount -t tmpfs tmpfs /etc && mkdir -p /etc/{tool}/certs.d/{host} && cp {own}/* /etc/{tool}/certs.d/{host}/ && \
             exec {imgtool} pull -q {verify} {host}/bb:1",
            own = rig.path("own").display(),
            imgtool = env!("CARGO_BIN_EXE_imgtool"),
        );
        let mut command = Command::new("unshare");
        rig.furnish(&mut command);
        Ended::of(tool, command.args(["-m", "sh", "-c", &script]).output().unwrap()).ok();
    }
    // A certificate that is too old to be used is an error, no panic.
    fs::copy(rig.path("own/version1"), rig.path("own/client.cert")).unwrap();
    let old = rig.fails(&format!("pull -q --cert-dir {} {host}/bb:1", rig.path("own").display()), 1);
    assert!(old.contains("client.cert"), "{old}");
    // A certificate without its key says which key.
    fs::remove_file(rig.path("own/client.key")).unwrap();
    let missing = rig.fails(&format!("pull -q --cert-dir {} {host}/bb:1", rig.path("own").display()), 1);
    assert!(missing.contains("client.key"), "{missing}");
}

#[test]
fn proxies_are_asked_unless_excepted() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Tls));
    rig.load("bb:1", "x");
    let name = format!("registry.test:{}", registry.port());
    registry.certificates(&rig.path("config/certs.d").join(&name), false);
    let proxy = Proxy::start(&registry.host);
    let run = |arguments: &str, variables: &[(&str, &str)]| {
        let mut command = rig.command(arguments);
        command.envs(variables.iter().copied());
        Ended::of(arguments, command.output().unwrap())
    };
    let with_user = format!("http://user:secret@{}", proxy.host);
    let push = format!("push -q --retry 0 bb:1 {name}/bb:1");
    // Nobody knows the name but the proxy.
    rig.fails(&push, 6);
    run(&push, &[("HTTPS_PROXY", &with_user)]).ok();
    let asked = proxy.asked();
    assert!(asked[0].starts_with(&format!("CONNECT {name} ")), "{asked:?}");
    assert!(asked[0].to_lowercase().contains("proxy-authorization: basic dxnlcjpzzwnyzxq="), "{asked:?}");
    // In small letters, and without a scheme.
    run(&format!("pull -q {name}/bb:1"), &[("https_proxy", &proxy.host)]).ok();
    // The variable of the other scheme, and exceptions.
    let plain = format!("http://{}", proxy.host);
    let before = proxy.asked().len();
    let pull = format!("pull -q --retry 0 {name}/bb:1");
    run(&pull, &[("HTTP_PROXY", &plain)]).fails(6);
    run(&pull, &[("HTTPS_PROXY", &plain), ("NO_PROXY", "x.io, test")]).fails(6);
    run(&pull, &[("HTTPS_PROXY", &plain), ("NO_PROXY", "*")]).fails(6);
    run(&format!("pull -q --tls-verify=false {}/bb:1", registry.host), &[("HTTPS_PROXY", &plain)]).ok();
    assert_eq!(proxy.asked().len(), before);
    run(&pull, &[("HTTPS_PROXY", &plain), ("NO_PROXY", "other.test,registry.test:1")]).ok();
    assert!(proxy.asked().len() > before);
    assert!(!run(&pull, &[("HTTPS_PROXY", "http://u:pw@:bad:")]).fails(2).contains("pw"));
}

#[test]
fn identity_tokens_are_exchanged() {
    let rig = Rig::new();
    rig.load("bb:1", "x");
    let script = r#"
        openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=token -keyout t.key -out t.crt -days 9 2>/dev/null
        b64() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
        now=$(date +%s)
        h=$(printf '{"typ":"JWT","alg":"RS256","x5c":["%s"]}' "$(openssl x509 -in t.crt -outform DER | openssl base64 -A)" | b64)
        p=$(printf '{"iss":"issuer","sub":"me","aud":"service","exp":%d,"nbf":%d,"iat":%d,"jti":"1","access":[{"type":"repository","name":"bb","actions":["pull","push"]}]}' $((now + 9999)) $((now - 99)) $now | b64)
        s=$(printf %s.%s "$h" "$p" | openssl dgst -sha256 -sign t.key -binary | b64)
        printf '{"access_token":"%s.%s.%s"}' "$h" "$p" "$s""#;
    fs::create_dir(rig.path("token")).unwrap();
    let made = Command::new("sh").args(["-ec", script]).current_dir(rig.path("token")).output().unwrap();
    let token = Ended::of("openssl", made).ok();
    let server = Peer::start(move |asked, _| {
        if asked.method == "POST" && asked.body.contains("refresh_token=IDENTITY") {
            return ok(token.as_bytes());
        }
        match asked.method.as_str() {
            "POST" => Answer::Full(401, Vec::new(), b"{\"details\":\"who are you\"}".to_vec()),
            _ => status(401),
        }
    });
    let config = format!(
        "auth:\n  token:\n    realm: http://{}/token\n    service: service\n    issuer: issuer\n    rootcertbundle: {}\n",
        server.host,
        rig.path("token/t.crt").display()
    );
    let registry = Registry::at("127.0.0.1", Guard::Plain, &config);
    let host = &registry.host;
    let auth = |text: String| {
        fs::write(rig.path("auth.json"), text).unwrap();
        format!("--authfile {}", rig.path("auth.json").display())
    };
    rig.fails(&format!("push -q bb:1 {host}/bb:1"), 6);
    let wrong = auth(format!("{{\"auths\":{{\"{host}\":{{\"identitytoken\":\"NOBODY\"}}}}}}"));
    rig.fails(&format!("push -q {wrong} bb:1 {host}/bb:1"), 6);
    let right = auth(format!("{{\"auths\":{{\"{host}\":{{\"identitytoken\":\"IDENTITY\"}}}}}}"));
    rig.ok(&format!("push -q {right} bb:1 {host}/bb:1"));
    let form = server.asked().pop().unwrap().body;
    for part in ["grant_type=refresh_token", "service=service", "scope=repository%3Abb%3A"] {
        assert!(form.contains(part), "{form}");
    }
    // As a credential helper tells it.
    fs::create_dir(rig.path("bin")).unwrap();
    let helper = rig.path("bin/docker-credential-test");
    fs::write(&helper, "#!/bin/sh\nread server\necho '{\"Username\":\"<token>\",\"Secret\":\"IDENTITY\"}'\n")
        .unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let helped = auth(format!("{{\"credHelpers\":{{\"{host}\":\"test\"}}}}"));
    let arguments = format!("pull -q {helped} {host}/bb:1");
    let mut command = rig.command(&arguments);
    command.env("PATH", format!("{}:/usr/bin:/bin", rig.path("bin").display()));
    Ended::of(&arguments, command.output().unwrap()).ok();
}

#[test]
fn dockers_daemon_json_is_followed() {
    let rig = Rig::new();
    rig.load("bb:1", "x");
    // An address that is not loopback's, so that it is not insecure by itself.
    let added = Command::new("ip").args(["addr", "add", "10.11.12.13/32", "dev", "lo"]).output().unwrap();
    assert!(added.status.success() || String::from_utf8_lossy(&added.stderr).contains("exists"));
    let registry = Registry::at("10.11.12.13", Guard::Plain, "");
    let push = format!("push -q --retry 0 bb:1 {}/library/bb:1", registry.host);
    let refused = rig.fails(&push, 6);
    assert!(refused.contains("HTTP response to HTTPS client"), "{refused}");
    fs::create_dir_all(rig.path("config")).unwrap();
    let daemon = |text: &str| fs::write(rig.path("config/daemon.json"), text).unwrap();
    for insecure in ["10.11.12.0/24", &registry.host] {
        daemon(&format!("{{\"insecure-registries\":[\"{insecure}\"]}}"));
        rig.ok(&push);
    }
    daemon(&format!("{{\"registry-mirrors\":[\"http://{}/\"]}}", registry.host));
    rig.ok("rmi bb:1");
    assert_eq!(rig.ok("pull -q bb:1").trim(), "docker.io/library/bb:1");
    daemon("{ nonsense");
    assert!(rig.fails("pull -q bb:1", 1).contains("daemon.json"));
}
