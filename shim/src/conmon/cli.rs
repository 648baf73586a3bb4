//! conmon's command line, in GLib's syntax: `--x v`, `--x=v`, `-x v`, `-xv`.
//!
//! Read by hand: the process that reads it stays as long as the container, and should stay small.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

/// What conmon is asked to do.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // one per flag
pub struct Options {
    /// Messages on the sync pipe are `{"data": N}`; else podman's and CRI-O's older keys.
    pub api_version: bool,
    pub bundle: Option<PathBuf>,
    pub cid: String,
    pub cuuid: String,
    pub name: String,
    pub runtime: PathBuf,
    /// Before the runtime's subcommand.
    pub runtime_args: Vec<String>,
    /// After the subcommand's own flags.
    pub runtime_opts: Vec<String>,
    pub systemd_cgroup: bool,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    pub container_pidfile: Option<PathBuf>,
    pub conmon_pidfile: Option<PathBuf>,
    pub terminal: bool,
    pub stdin: bool,
    pub leave_stdin_open: bool,
    pub log_paths: Vec<String>,
    /// Bytes after which a log starts anew; 0 for never.
    pub log_size_max: u64,
    /// Bytes after which nothing is logged any more; 0 for never.
    pub log_global_size_max: u64,
    pub log_rotate: bool,
    pub log_max_files: u32,
    pub log_allowlist_dirs: Vec<PathBuf>,
    pub log_tag: String,
    pub log_labels: Vec<String>,
    pub no_container_partial_message: bool,
    pub syslog: bool,
    pub exit_dir: Option<PathBuf>,
    pub persist_dir: Option<PathBuf>,
    pub exit_command: Option<PathBuf>,
    pub exit_args: Vec<String>,
    /// Seconds.
    pub exit_delay: u64,
    pub socket_dir: Option<PathBuf>,
    pub full_attach: bool,
    pub exec: bool,
    pub exec_process_spec: Option<PathBuf>,
    pub exec_attach: bool,
    pub restore: Option<PathBuf>,
    /// Seconds; 0 for none.
    pub timeout: u64,
    /// Supervise in this very process.
    pub sync: bool,
    pub no_sync_log: bool,
    pub replace_listen_pid: bool,
    pub sdnotify_socket: Option<PathBuf>,
    pub version: bool,
    pub help: bool,
}

const SHORT: &[(char, &str)] = &[
    ('b', "bundle"),
    ('c', "cid"),
    ('u', "cuuid"),
    ('n', "name"),
    ('r', "runtime"),
    ('s', "systemd-cgroup"),
    ('p', "container-pidfile"),
    ('P', "conmon-pidfile"),
    ('t', "terminal"),
    ('i', "stdin"),
    ('l', "log-path"),
    ('e', "exec"),
    ('T', "timeout"),
    ('h', "help"),
];

/// For `--help`.
pub const HELP: &str = "\
Usage: conmon -c ID -u ID -r RUNTIME -l LOG [OPTION...]

Looks after one container for podman or CRI-O: runs the runtime, keeps the output, serves clients, writes the exit file.

Container
  -c, --cid ID                  its id: the runtime's last argument
  -u, --cuuid ID                its id in the journal and below --socket-dir-path
  -n, --name NAME               its name in the journal
  -b, --bundle DIR              its bundle; ctl, winsz and attach are made there
  -p, --container-pidfile FILE  where the runtime writes its pid
  -P, --conmon-pidfile FILE     where conmon writes its own pid
  -t, --terminal                with a terminal
  -i, --stdin                   with stdin
      --leave-stdin-open        also when a client ends its own
      --restore DIR             restore it from a checkpoint
      --sdnotify-socket PATH    pass its notifications on to PATH
  -T, --timeout SECONDS         kill it then
Exec
  -e, --exec                    a process in a running container
      --exec-process-spec FILE  what to run
      --exec-attach             wait until a client is attached
Runtime
  -r, --runtime PATH            the OCI runtime
      --runtime-arg ARG         before its subcommand
      --runtime-opt ARG         after its subcommand
  -s, --systemd-cgroup  --no-pivot  --no-new-keyring
      --replace-listen-pid      set LISTEN_PID to the runtime's pid, whoever had it
Log
  -l, --log-path SPEC           [k8s-file:]PATH, journald, none, passthrough; repeatable
      --log-size-max BYTES      start the file anew then
      --log-rotate  --log-max-files N   keep N old ones
      --log-global-size-max BYTES       write no more than that in all
      --log-allowlist-dir DIR   only log there
      --log-tag TAG  --log-label KEY=VALUE  --no-container-partial-message   journald only
      --no-sync-log             do not wait for the disk at the end
      --log-level LEVEL  --syslog       conmon's own messages
End
      --exit-dir DIR  --persist-dir DIR   where the exit code is written
      --exit-command PROGRAM  --exit-command-arg ARG  --exit-delay SECONDS
Other
      --socket-dir-path DIR  --full-attach   where clients attach
      --sync                    stay in the foreground; end with the container's code
      --api-version             messages as podman reads them
      --version  --help
";

/// Reads the words after the program's name. Positional words mean nothing, as to conmon: `--api-version 1` leaves one.
pub fn parse(words: &[String]) -> Result<Options> {
    let mut options = Options { log_max_files: 1, ..Options::default() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        }
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) =
                long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            if options.switch(name) {
                continue;
            }
            let value = match value {
                Some(value) => value.to_owned(),
                None if is_known(name) => match words.next() {
                    Some(next) => next.clone(),
                    None => bail!("option parsing failed: Missing argument for --{name}"),
                },
                None => bail!("option parsing failed: Unknown option --{name}"),
            };
            options.value(name, value)?;
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            options.letters(letters, &mut words)?;
        }
    }
    Ok(options)
}

/// Whether an option takes a value.
fn is_known(name: &str) -> bool {
    Options::default().value(name, "1".into()).is_ok() || name == "log-level"
}

impl Options {
    fn letters(&mut self, letters: &str, words: &mut std::slice::Iter<'_, String>) -> Result<()> {
        for (at, letter) in letters.char_indices() {
            let Some((_, name)) = SHORT.iter().find(|(short, _)| *short == letter) else {
                bail!("option parsing failed: Unknown option -{letter}")
            };
            if self.switch(name) {
                continue;
            }
            let rest = &letters[at + letter.len_utf8()..];
            let value = match (rest, words.as_slice().first()) {
                ("", Some(next)) => {
                    words.next();
                    next.clone()
                }
                ("", None) => bail!("option parsing failed: Missing argument for -{letter}"),
                (rest, _) => rest.to_owned(),
            };
            return self.value(name, value);
        }
        Ok(())
    }

    fn switch(&mut self, name: &str) -> bool {
        let switch = match name {
            "api-version" => &mut self.api_version,
            "systemd-cgroup" => &mut self.systemd_cgroup,
            "no-pivot" => &mut self.no_pivot,
            "no-new-keyring" => &mut self.no_new_keyring,
            "terminal" => &mut self.terminal,
            "stdin" => &mut self.stdin,
            "leave-stdin-open" => &mut self.leave_stdin_open,
            "log-rotate" => &mut self.log_rotate,
            "no-container-partial-message" => &mut self.no_container_partial_message,
            "syslog" => &mut self.syslog,
            "full-attach" => &mut self.full_attach,
            "exec" => &mut self.exec,
            "exec-attach" => &mut self.exec_attach,
            "sync" => &mut self.sync,
            "no-sync-log" => &mut self.no_sync_log,
            "replace-listen-pid" => &mut self.replace_listen_pid,
            "version" => &mut self.version,
            "help" => &mut self.help,
            _ => return false,
        };
        *switch = true;
        true
    }

    fn value(&mut self, name: &str, value: String) -> Result<()> {
        match name {
            "bundle" => self.bundle = Some(value.into()),
            "cid" => self.cid = value,
            "cuuid" => self.cuuid = value,
            "name" => self.name = value,
            "runtime" => self.runtime = value.into(),
            "runtime-arg" => self.runtime_args.push(value),
            "runtime-opt" | "restore-arg" => self.runtime_opts.push(value),
            "container-pidfile" | "pidfile" => self.container_pidfile = Some(value.into()),
            "conmon-pidfile" => self.conmon_pidfile = Some(value.into()),
            "log-path" => self.log_paths.push(value),
            // Negative means none, as to conmon.
            "log-size-max" => self.log_size_max = u64::try_from(number(name, &value)?).unwrap_or(0),
            "log-global-size-max" => {
                self.log_global_size_max = u64::try_from(number(name, &value)?).unwrap_or(0);
            }
            "log-max-files" => {
                let files = number(name, &value)?;
                ensure!(files >= 0, "log-max-files must be non-negative, got {files}");
                match u32::try_from(files) {
                    Ok(files) if i32::try_from(files).is_ok() => self.log_max_files = files,
                    _ => bail!("log-max-files {files} is out of range: at most {}", i32::MAX),
                }
            }
            "log-allowlist-dir" => self.log_allowlist_dirs.push(value.into()),
            "log-tag" => self.log_tag = value,
            "log-label" => self.log_labels.push(value),
            "log-level" => {
                const LEVELS: &[&str] =
                    &["error", "fatal", "panic", "warn", "warning", "info", "debug", "trace"];
                ensure!(LEVELS.contains(&value.as_str()), "No such log level {value}");
            }
            "exit-dir" => self.exit_dir = Some(value.into()),
            "persist-dir" => self.persist_dir = Some(value.into()),
            "exit-command" => self.exit_command = Some(value.into()),
            "exit-command-arg" => self.exit_args.push(value),
            "exit-delay" => match u64::try_from(number(name, &value)?) {
                Ok(seconds) => self.exit_delay = seconds,
                Err(_) => bail!("Delay before invoking exit command must be greater than or equal to 0"),
            },
            "socket-dir-path" => self.socket_dir = Some(value.into()),
            "exec-process-spec" => self.exec_process_spec = Some(value.into()),
            "restore" => self.restore = Some(value.into()),
            "timeout" => self.timeout = u64::try_from(number(name, &value)?).unwrap_or(0),
            "sdnotify-socket" => self.sdnotify_socket = Some(value.into()),
            _ => bail!("option parsing failed: Unknown option --{name}"),
        }
        Ok(())
    }

    /// What makes no sense together, in conmon's words.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.cid.is_empty(), "Container ID not provided. Use --cid");
        ensure!(!self.exec || self.restore.is_none(), "Cannot use 'exec' and 'restore' at the same time");
        ensure!(self.exec || !self.exec_attach, "Attach can only be specified with exec");
        ensure!(
            self.api_version || !self.exec_attach,
            "Attach can only be specified for a non-legacy exec session"
        );
        let legacy_exec = self.exec && !self.api_version;
        ensure!(!self.cuuid.is_empty() || legacy_exec, "Container UUID not provided. Use --cuuid");
        ensure!(!self.runtime.as_os_str().is_empty(), "Runtime path not provided. Use --runtime");
        let runtime = nix::unistd::access(&self.runtime, nix::unistd::AccessFlags::X_OK);
        ensure!(runtime.is_ok(), "Runtime path {} is not valid", self.runtime.display());
        ensure!(
            !self.exec || self.exec_process_spec.is_some(),
            "Exec process spec path not provided. Use --exec-process-spec"
        );
        ensure!(!self.log_paths.is_empty(), "Log driver not provided. Use --log-path");
        ensure!(
            !self.log_rotate || self.log_max_files > 0,
            "log-max-files must be at least 1 when log-rotate is enabled, got 0"
        );
        Ok(())
    }

    /// Whether the container keeps conmon's own stdin, stdout and stderr.
    pub fn passthrough(&self) -> bool {
        self.log_paths.iter().any(|spec| spec.trim_end_matches(':') == "passthrough")
    }
}

fn number(name: &str, text: &str) -> Result<i64> {
    match text.parse() {
        Ok(number) => Ok(number),
        Err(_) => bail!("option parsing failed: Cannot parse integer value \"{text}\" for --{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options> {
        parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn glibs_syntax() {
        let options =
            read("--api-version 1 -c ID --cuuid=U -rRT -ti -l k8s-file:/x --runtime-arg --log=1 -T5")
                .unwrap();
        assert!(options.api_version && options.terminal && options.stdin);
        assert_eq!((&*options.cid, &*options.cuuid, options.timeout), ("ID", "U", 5));
        assert_eq!(options.runtime_args, ["--log=1"]);
        assert_eq!(read("--exit-delay 2 --log-size-max -1").unwrap().exit_delay, 2);
    }

    #[test]
    fn refused() {
        let why = |line: &str| match read(line).and_then(|options| options.check()) {
            Ok(()) => String::new(),
            Err(err) => err.to_string(),
        };
        assert!(why("--bogus").contains("option parsing failed: Unknown option --bogus"));
        assert!(why("--cuuid u").contains("Container ID not provided"));
        assert!(why("-c x --exit-delay -1").contains("greater than or equal to 0"));
        assert!(why("-c x -u x").contains("Runtime path not provided"));
        assert!(why("-c x -u x -r /nosuch").contains("Runtime path /nosuch is not valid"));
        assert!(why("--log-level loud").contains("No such log level loud"));
        assert!(why("-c x -u x -e --restore d").contains("at the same time"));
    }
}
