//! `--change` of import and commit: instructions that change an image's config and nothing else.

use anyhow::{Context as _, Result};
use contracts::fault;

use super::dockerfile::instruction::Instruction;
use super::dockerfile::parse::trigger;
use super::state::State;
use crate::store::config::ImageConfig;

/// Applies `changes`, one instruction each, to `config`. The history is left to the caller.
///
/// # Errors
/// No instruction, or one that needs a root file system.
pub fn apply(config: ImageConfig, changes: &[String]) -> Result<ImageConfig> {
    let history = config.history.clone();
    let mut state = State::over(config, Vec::new(), '\\');
    for text in changes {
        let what = || format!("change \"{}\"", text.escape_debug());
        let step = match trigger(text) {
            Ok(step) => step,
            Err(wrong) => fault!(Usage, "{}: {}", what(), wrong.message),
        };
        match &step.instruction {
            Instruction::Workdir(dir) => {
                state.change_directory(dir).with_context(what)?;
            }
            other => {
                if state.configure(other).with_context(what)?.is_none() {
                    fault!(Usage, "{}: only instructions that change the config are possible here", what());
                }
            }
        }
    }
    Ok(ImageConfig { history, ..state.config })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_config_changes() {
        let changes =
            ["CMD [\"/x\"]", "env A=1 B=2", "WORKDIR /a", "WORKDIR b", "EXPOSE 80/tcp", "LABEL l=v"];
        let config = apply(ImageConfig::default(), &changes.map(str::to_owned)).unwrap();
        assert_eq!(
            (config.strings("Cmd"), config.strings("Env")),
            (vec!["/x".into()], vec!["A=1".into(), "B=2".into()])
        );
        assert_eq!(config.config["WorkingDir"], "/a/b");
        assert!(config.history.is_empty());
        for bad in ["RUN true", "COPY a b", "NOSUCH x", "", "FROM x"] {
            assert!(apply(ImageConfig::default(), &[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
