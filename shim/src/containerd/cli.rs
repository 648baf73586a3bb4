//! The command line that containerd gives to a shim, in Go's syntax: `-name value`, `-name=value`, then an action.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// What containerd said.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Flags {
    pub namespace: String,
    pub id: String,
    /// containerd's gRPC socket.
    pub address: String,
    /// A program that publishes events, where there is no socket for them.
    pub publish_binary: PathBuf,
    pub bundle: PathBuf,
    pub debug: bool,
    pub version: bool,
    pub info: bool,
    pub help: bool,
    /// `start`, `delete`, or empty.
    pub action: String,
}

pub const HELP: &str = "\
Usage: containerd-shim-bulkhead-v2 [OPTION...] start|delete

containerd starts it for `--runtime io.containerd.bulkhead.v2`; it looks after the tasks of one container, or of all
containers of one pod. Its options are those of io.containerd.runc.v2 (BinaryName, Root, SystemdCgroup, ...).

  -namespace NS  -id ID        the container
  -address SOCKET              containerd's
  -publish-binary PROGRAM      publishes events where TTRPC_ADDRESS is not set
  -bundle DIR                  for `delete`
  -debug                       log more
  -info                        what the runtime can do, as containerd.types.RuntimeInfo
  -v                           version
";

/// Reads the words after the program's name.
pub fn parse(words: &[String]) -> Result<Flags> {
    let mut flags = Flags::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            flags.action.clone_from(word);
            break;
        };
        let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
        let switch = match name {
            "debug" => &mut flags.debug,
            "v" | "version" => &mut flags.version,
            "info" => &mut flags.info,
            "h" | "help" => &mut flags.help,
            _ => {
                let value = match value {
                    Some(value) => value,
                    None => words.next().with_context(|| format!("flag needs an argument: -{name}"))?,
                };
                flags.value(name, value)?;
                continue;
            }
        };
        *switch = !matches!(value, Some("false" | "0"));
    }
    Ok(flags)
}

impl Flags {
    fn value(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "namespace" => value.clone_into(&mut self.namespace),
            "id" => value.clone_into(&mut self.id),
            "address" => value.clone_into(&mut self.address),
            "publish-binary" => self.publish_binary = value.into(),
            "bundle" => self.bundle = value.into(),
            _ => bail!("flag provided but not defined: -{name}"),
        }
        Ok(())
    }

    /// The words that make the same flags again.
    pub fn words(&self, action: &str) -> Vec<String> {
        let mut words: Vec<String> =
            ["-namespace", &self.namespace, "-id", &self.id, "-address", &self.address]
                .map(Into::into)
                .into();
        words.extend(["-publish-binary".into(), self.publish_binary.to_string_lossy().into_owned()]);
        if self.debug {
            words.push("-debug".into());
        }
        words.push(action.into());
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(Into::into).collect()
    }

    #[test]
    fn as_containerd_writes_them() {
        let flags =
            parse(&words("-namespace k8s.io -address /a -publish-binary /b -id=c -debug start")).unwrap();
        assert_eq!((flags.namespace.as_str(), flags.id.as_str()), ("k8s.io", "c"));
        assert_eq!((flags.debug, flags.action.as_str()), (true, "start"));
        assert_eq!(parse(&flags.words("start")).unwrap(), flags);
        assert!(parse(&words("-nonsense x")).is_err());
        assert!(parse(&words("-id")).is_err());
        assert!(!parse(&words("-debug=false start")).unwrap().debug);
    }
}
