//! Flags and verbs that docker or podman have and that mean nothing here: refused by name, with what to do instead.

/// The flag, and why not.
const FLAGS: &[(&str, &str)] = &[
    // docker's
    ("--disable-content-trust", "images are checked by `imgtool pull` and /etc/containers/policy.json"),
    ("--availability", "there are no cluster volumes"),
    ("--cluster", "there are no cluster volumes"),
    ("--limit-bytes", "there are no cluster volumes"),
    ("--required-bytes", "there are no cluster volumes"),
    ("--scope", "there are no cluster volumes"),
    ("--sharing", "there are no cluster volumes"),
    ("--topology-preferred", "there are no cluster volumes"),
    ("--topology-required", "there are no cluster volumes"),
    // podman's: pods, systemd, a remote side
    ("--pod", "there are no pods: share namespaces with --network, --pid and --ipc container:NAME"),
    ("--pod-id-file", "there are no pods: share namespaces with --network, --pid and --ipc container:NAME"),
    ("--init-ctr", "there are no pods"),
    ("--requires", "no container waits for another: start them in order"),
    ("--sdnotify", "no container speaks to systemd: see `shim boot --help`"),
    ("--systemd", "systemd runs in a container as it is"),
    ("--external", "containers of other tools are not shown"),
    ("--sync", "what is shown is always true"),
    ("--remote", "there is no service to speak to"),
    // images
    ("--authfile", "credentials are those of `imgtool login`: run `imgtool pull` first"),
    ("--creds", "credentials are those of `imgtool login`: run `imgtool pull` first"),
    ("--cert-dir", "registries are asked by `imgtool pull`: run it first"),
    ("--tls-verify", "registries are asked by `imgtool pull`: run it first"),
    ("--decryption-key", "images are not encrypted"),
    ("--retry", "registries are asked by `imgtool pull`: run it first"),
    ("--retry-delay", "registries are asked by `imgtool pull`: run it first"),
    ("--rmi", "remove it with `imgtool rmi`"),
    ("--rootfs", "containers are made of images: `imgtool import` makes one of a tree"),
    ("--squash", "`imgtool build --squash` does that"),
    ("--include-volumes", "a volume is no part of an image: `shim cp` takes its files"),
    ("--iidfile", "the id is on stdout"),
    // parts of containers that we have no hand in
    ("--cgroup-conf", "use the flags of resources"),
    ("--cgroups", "every container has a cgroup"),
    ("--chrootdirs", "only /etc/hosts, hostname and resolv.conf are made"),
    ("--conmon-pidfile", "`shim inspect` shows the container's process"),
    ("--hostuser", "the image's users count: --user UID"),
    ("--init-path", "the init of --init is this program"),
    ("--passwd-entry", "the image's users count: --user UID"),
    ("--group-entry", "the image's groups count: --group-add GID"),
    ("--passwd", "the image's users count: --user UID"),
    ("--personality", "use a runtime's config.json"),
    ("--pidfile", "`shim inspect -f '{{.State.Pid}}'` shows the process"),
    ("--preserve-fd", "only stdin, stdout and stderr are passed on"),
    ("--preserve-fds", "only stdin, stdout and stderr are passed on"),
    ("--hooks-dir", "hooks are the runtime's: in a config.json of one's own"),
    ("--intel-rdt-closid", "use a runtime's config.json"),
    ("--rdt-class", "use a runtime's config.json"),
    ("--seccomp-policy", "use --security-opt seccomp=FILE"),
    ("--secret", "use --mount type=bind,readonly"),
    ("--shm-size-systemd", "use --tmpfs /run"),
    ("--no-session", "an exec leaves no session behind"),
    ("--depend", "remove the others first"),
    ("--overwrite", "an existing file is overwritten, a directory is not"),
    ("--image-volume", "use --mount, -v or --tmpfs at that place"),
    // of a verb that takes one container
    ("--latest", "name the container: `shim ps -lq` prints the one that was made last"),
    ("--cidfile", "name the container: \"$(cat FILE)\""),
    ("--all", "name the containers: `shim ps -aq` prints them"),
    ("--watch", "watch(1) does that"),
];

/// Verbs, and whose they are.
const VERBS: &[(&[&str], &str)] = &[
    (
        &[
            "build", "builder", "buildx", "history", "image", "images", "import", "load", "login", "logout",
            "manifest", "pull", "push", "rmi", "save", "tag", "trust", "untag",
        ],
        "images are imgtool's: see `imgtool --help`",
    ),
    (&["network"], "networks are netctl's: see `netctl --help`"),
    (&["unshare"], "`imgtool unshare` does that"),
    (&["system"], "see `shim info`, `shim events`, `shim prune` and `imgtool prune`"),
    (&["search"], "no registry is searched: `imgtool catalog` lists one's repositories"),
    (&["compose"], "there is no compose"),
    (&["pod"], "there are no pods: share namespaces with --network, --pid and --ipc container:NAME"),
    (&["kube", "play", "generate"], "there are no pods and no units: see `shim boot --help`"),
    (&["quadlet", "auto-update"], "nothing runs by itself: see `shim boot --help`"),
    (&["secret"], "there are no secrets: use --mount type=bind,readonly"),
    (&["runlabel"], "`shim run` takes what the label says"),
    (&["machine", "context"], "containers are on this machine"),
    (&["config", "node", "plugin", "service", "stack", "swarm"], "there is no swarm"),
    (&["farm", "artifact", "scout"], "see `imgtool --help`"),
];

/// What to do instead of a verb that is known elsewhere; `None` for one that nobody knows.
pub fn whose(verb: &str) -> Option<&'static str> {
    VERBS.iter().find(|(known, _)| known.contains(&verb)).map(|(_, why)| *why)
}

/// Why a flag that is known elsewhere is not taken; `None` for one that nobody knows.
pub fn why(flag: &str) -> Option<&'static str> {
    let name = flag.split('=').next().unwrap_or(flag);
    FLAGS.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_known_by_its_name() {
        assert!(why("--pod").is_some_and(|why| why.contains("no pods")));
        assert!(why("--pod=x").is_some() && why("--podd").is_none());
        assert!(whose("images").is_some_and(|why| why.contains("imgtool")) && whose("imagse").is_none());
        // None of ours is among them.
        let ours = super::super::command();
        assert!(
            ours.get_subcommands()
                .all(|verb| verb.get_name_and_visible_aliases().iter().all(|name| whose(name).is_none()))
        );
    }
}
