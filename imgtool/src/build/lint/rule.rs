//! The rules, as BuildKit names and describes them.

/// Something that a Dockerfile should not do, though it builds.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, `StageNameCasing`.
    pub name: &'static str,
    /// What it asks for.
    pub description: &'static str,
    /// Only where `# check=experimental=…` asks for it.
    pub experimental: bool,
}

impl Rule {
    const fn new(name: &'static str, description: &'static str) -> Self {
        Self { name, description, experimental: false }
    }

    /// Where it is explained; every rule's page is named after it.
    #[must_use]
    pub fn url(&self) -> String {
        let mut page = String::new();
        let chars: Vec<char> = self.name.chars().collect();
        for (at, c) in chars.iter().enumerate() {
            let starts = at > 0
                && c.is_ascii_uppercase()
                && (chars[at - 1].is_ascii_lowercase()
                    || chars.get(at + 1).is_some_and(char::is_ascii_lowercase));
            if starts {
                page.push('-');
            }
            page.push(c.to_ascii_lowercase());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{page}/")
    }
}

/// The instructions of a file are written in one way.
pub const INSTRUCTION_CASING: Rule = Rule::new(
    "ConsistentInstructionCasing",
    "All commands within the Dockerfile should use the same casing (either upper or lower)",
);
/// COPY of what .dockerignore hides.
pub const COPY_IGNORED: Rule =
    Rule::new("CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore");
/// Two stages of one name.
pub const DUPLICATE_STAGE: Rule = Rule::new("DuplicateStageName", "Stage names should be unique");
/// EXPOSE of more than a port.
pub const EXPOSE_FORMAT: Rule = Rule::new(
    "ExposeInvalidFormat",
    "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
);
/// EXPOSE 80/TCP.
pub const EXPOSE_CASING: Rule =
    Rule::new("ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase");
/// FROM x as y.
pub const AS_CASING: Rule =
    Rule::new("FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword");
/// FROM --platform=linux/amd64.
pub const CONSTANT_PLATFORM: Rule =
    Rule::new("FromPlatformFlagConstDisallowed", "FROM --platform flag should not use a constant value");
/// FROM $X without a value for X.
pub const DEFAULT_ARG: Rule = Rule::new(
    "InvalidDefaultArgInFrom",
    "Default value for global ARG results in an empty or invalid base image name",
);
/// A comment above FROM or ARG that does not describe it.
pub const DESCRIPTION: Rule = Rule {
    experimental: true,
    ..Rule::new(
        "InvalidDefinitionDescription",
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    )
};
/// CMD in shell form.
pub const JSON_ARGS: Rule = Rule::new(
    "JSONArgsRecommended",
    "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
);
/// ENV key value.
pub const LEGACY_PAIR: Rule =
    Rule::new("LegacyKeyValueFormat", "Legacy key/value format with whitespace separator should not be used");
/// MAINTAINER.
pub const MAINTAINER: Rule = Rule::new(
    "MaintainerDeprecated",
    "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
);
/// A second CMD in a stage.
pub const MULTIPLE: Rule = Rule::new(
    "MultipleInstructionsDisallowed",
    "Multiple instructions of the same type should not be used in the same stage",
);
/// A blank line inside an instruction.
pub const EMPTY_CONTINUATION: Rule =
    Rule::new("NoEmptyContinuation", "Empty continuation lines will become errors in a future release");
/// FROM --platform=$TARGETPLATFORM.
pub const REDUNDANT_PLATFORM: Rule = Rule::new(
    "RedundantTargetPlatform",
    "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
);
/// AS scratch.
pub const RESERVED_STAGE: Rule =
    Rule::new("ReservedStageName", "Reserved words should not be used as stage names");
/// ENV PASSWORD=.
pub const SECRETS: Rule =
    Rule::new("SecretsUsedInArgOrEnv", "Sensitive data should not be used in the ARG or ENV commands");
/// AS Base.
pub const STAGE_CASING: Rule = Rule::new("StageNameCasing", "Stage names should be lowercase");
/// FROM $X without ARG X.
pub const UNDEFINED_IN_FROM: Rule = Rule::new("UndefinedArgInFrom", "FROM command must use declared ARGs");
/// $X that nobody sets.
pub const UNDEFINED: Rule = Rule::new("UndefinedVar", "Variables should be defined before their use");
/// WORKDIR x.
pub const RELATIVE_WORKDIR: Rule = Rule::new(
    "WorkdirRelativePath",
    "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_named_after_their_rules() {
        for (rule, page) in
            [(JSON_ARGS, "json-args-recommended"), (UNDEFINED_IN_FROM, "undefined-arg-in-from")]
        {
            assert_eq!(rule.url(), format!("https://docs.docker.com/go/dockerfile/rule/{page}/"));
        }
    }
}
