//! Names without a registry: what `unqualified-search-registries`, `short-name-mode` and `[aliases]` of registries.conf
//! make of them.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, stdin, stdout};

use anyhow::{Context as _, Result};
use contracts::fault;
use serde::Deserialize;

use crate::reference::Reference;

/// The merged keys of all files.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ShortNames {
    /// In the order they are asked; `None` is docker.io alone.
    unqualified_search_registries: Option<Vec<String>>,
    short_name_mode: Option<Mode>,
    aliases: BTreeMap<String, String>,
}

/// What to do where a name may mean several images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// The user chooses.
    Enforcing,
    /// The first that has it.
    Permissive,
    /// The same.
    Disabled,
}

impl ShortNames {
    /// A later file: what it sets counts.
    pub fn merge(&mut self, later: Self) {
        self.unqualified_search_registries =
            later.unqualified_search_registries.or_else(|| self.unqualified_search_registries.take());
        self.short_name_mode = later.short_name_mode.or(self.short_name_mode);
        self.aliases.extend(later.aliases);
    }

    /// A name without registry and with an alias becomes what the alias says.
    #[must_use]
    pub fn alias(&self, written: &str) -> Option<Reference> {
        let name = written.parse::<Reference>().ok().filter(|_| Reference::is_short(written))?;
        let bare = written.split(['@', ':']).next().unwrap_or_default();
        let target = self.aliases.get(bare)?.parse::<Reference>().ok()?;
        Some(name.with_repository(target.domain(), target.path()))
    }

    /// All that `written` may mean, in the order to ask.
    ///
    /// # Errors
    /// It is no image name; a registry of the configuration is none; there is no registry to search.
    pub fn candidates(&self, written: &str) -> Result<Vec<Reference>> {
        let name = written.parse::<Reference>()?;
        if let Some(target) = self.alias(written) {
            return Ok(vec![target]);
        }
        let Some(registries) = self.unqualified_search_registries.as_ref() else { return Ok(vec![name]) };
        if !Reference::is_short(written) {
            return Ok(vec![name]);
        }
        if registries.is_empty() {
            fault!(NotFound, "{written} has no registry, and unqualified-search-registries is empty");
        }
        let full = |registry: &String| {
            let parsed = format!("{registry}/{written}").parse::<Reference>().ok();
            parsed.with_context(|| format!("\"{registry}\" in unqualified-search-registries is no registry"))
        };
        registries.iter().map(full).collect()
    }

    /// [`ShortNames::candidates`], of which the user chose one where the mode wants that.
    ///
    /// # Errors
    /// As [`ShortNames::candidates`]; nobody is there to choose.
    pub fn chosen(&self, written: &str) -> Result<Vec<Reference>> {
        let mut candidates = self.candidates(written)?;
        if self.short_name_mode != Some(Mode::Enforcing) || candidates.len() < 2 {
            return Ok(candidates);
        }
        let listed: Vec<String> = candidates.iter().map(ToString::to_string).collect();
        if !(stdin().is_terminal() && stdout().is_terminal()) {
            let listed = listed.join(", ");
            fault!(Usage, "{written} may be any of {listed}: name one (short-name-mode is enforcing)");
        }
        contracts::report::say(format_args!("{written} may be any of"));
        for (at, name) in listed.iter().enumerate() {
            contracts::report::say(format_args!("  {}  {name}", at + 1));
        }
        contracts::report::say(format_args!("Which one? [1-{}]", listed.len()));
        let mut answer = String::new();
        stdin().read_line(&mut answer).context("read the choice")?;
        match answer.trim().parse::<usize>() {
            Ok(number) if (1..=candidates.len()).contains(&number) => {
                Ok(vec![candidates.swap_remove(number - 1)])
            }
            _ => fault!(Usage, "\"{}\" is none of the choices for {written}", answer.trim().escape_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(keys: &ShortNames, written: &str) -> Vec<String> {
        keys.candidates(written).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn short_names_are_searched_in_order() {
        let mut keys: ShortNames = toml::from_str(
            "unqualified-search-registries = ['q.io', 'docker.io', 'r.lan:5000/all']\n\
             short-name-mode = 'enforcing'\n[aliases]\nfedora = 'f.org/fedora'",
        )
        .unwrap();
        assert_eq!(names(&keys, "web"), ["q.io/web", "docker.io/library/web", "r.lan:5000/all/web"]);
        assert_eq!(names(&keys, "a/web:1"), ["q.io/a/web:1", "docker.io/a/web:1", "r.lan:5000/all/a/web:1"]);
        assert_eq!(names(&keys, "fedora:40"), ["f.org/fedora:40"]);
        for full in ["x.io/web", "localhost/web", "h:1/web"] {
            assert_eq!(names(&keys, full), [full]);
        }
        keys.merge(toml::from_str("[aliases]\nweb = 'w.io/web'").unwrap());
        assert_eq!(keys.short_name_mode, Some(Mode::Enforcing));
        assert_eq!(names(&keys, "web"), ["w.io/web"]);
        keys.merge(
            toml::from_str("unqualified-search-registries = []\nshort-name-mode = 'disabled'").unwrap(),
        );
        assert_eq!(keys.short_name_mode, Some(Mode::Disabled));
        assert!(keys.candidates("other").unwrap_err().to_string().contains("is empty"));
        assert_eq!(names(&ShortNames::default(), "web"), ["docker.io/library/web"]);
        keys.merge(toml::from_str("unqualified-search-registries = ['no where']").unwrap());
        assert!(keys.candidates("other").unwrap_err().to_string().contains("\"no where\""));
        assert!(toml::from_str::<ShortNames>("short-name-mode = 'strict'").is_err());
    }
}
