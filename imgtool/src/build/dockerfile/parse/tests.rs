//! The parser on chosen and on random Dockerfiles.

use super::*;

fn first(text: &str) -> Result<Instruction, Wrong> {
    Ok(dockerfile(&format!("FROM x\n{text}"))?.stages[0].steps[0].instruction.clone())
}

#[test]
fn wrong_ones_say_why() {
    for (text, why) in [
        ("FOO bar", "unknown instruction: FOO"),
        ("LABLE a=b", "did you mean LABEL"),
        ("COPY --nope=1 a /a", "unknown flag: --nope"),
        ("COPY a", "at least two arguments"),
        ("ONBUILD ONBUILD RUN true", "Chaining ONBUILD"),
        ("ONBUILD FROM x", "FROM isn't allowed"),
        ("ENV A=1 B", "can't find ="),
        ("ENV A", "must have two arguments"),
        ("SHELL /bin/sh", "JSON form"),
        ("HEALTHCHECK --interval=0.5us CMD x", "less than 1ms"),
        ("HEALTHCHECK FOO", "Unknown type"),
        ("RUN --network=x y", "invalid value"),
        ("EXPOSE", "at least one argument"),
        ("FROM a b", "either one or three"),
        ("FROM a AS 1x", "invalid name"),
    ] {
        let wrong = dockerfile(&format!("FROM x\n{text}")).unwrap_err();
        assert!(wrong.message.contains(why), "{text}: {}", wrong.message);
        assert_eq!(wrong.span.first, 2, "{text}");
    }
    assert!(dockerfile("RUN x").is_err() && dockerfile("ARG x").is_err());
}

#[test]
fn parts_are_told_apart() {
    let Instruction::Copy(copy) = first("COPY --from=0 --chown=1:2 --link a b /d/").unwrap() else {
        panic!()
    };
    assert_eq!((copy.sources.len(), copy.dest.as_str(), copy.link), (2, "/d/", true));
    let Instruction::Copy(copy) = first("COPY [\"with space\", \"/d d/\"]").unwrap() else { panic!() };
    assert_eq!((copy.sources[0].as_str(), copy.dest.as_str()), ("with space", "/d d/"));
    let Instruction::Copy(copy) = first("COPY <<A b /d/\nx\nA").unwrap() else { panic!() };
    assert_eq!((copy.sources, copy.heredocs[0].content.as_str()), (vec!["b".to_owned()], "x\n"));
    let Instruction::Healthcheck(health) =
        first("HEALTHCHECK --interval=1m30s --retries=2 CMD curl x || exit 1").unwrap()
    else {
        panic!()
    };
    assert_eq!((health.interval, health.retries), (90_000_000_000, 2));
    let Instruction::Run(run) = first("RUN [ -d /tmp ] && echo").unwrap() else { panic!() };
    assert!(matches!(run.command, Command::Shell(_)));
}

/// Pieces that Dockerfiles are made of, and rubbish.
fn piece() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    prop_oneof![
        proptest::sample::select(vec![
            "FROM ",
            "RUN ",
            "COPY ",
            "ADD ",
            "ENV ",
            "ARG ",
            "LABEL ",
            "ONBUILD ",
            "HEALTHCHECK ",
            "SHELL ",
            "CMD ",
            "EXPOSE ",
            "VOLUME ",
            "--mount=type=",
            "--from=",
            "<<EOT",
            "EOT",
            "\\\n",
            "\n",
            "# escape=`\n",
            "# check=skip=all\n",
            "[\"a\", \"b\"]",
            "$X",
            "${X:-y}",
            "${",
            "'",
            "\"",
            "=",
            " AS ",
            "x ",
            "\\",
            "`",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ]
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(pieces in proptest::collection::vec(piece(), 0..24)) {
        let text = pieces.concat();
        match dockerfile(&text) {
            Ok(file) => {
                // What was read is told with its lines, and can be asked about.
                let lines = text.split('\n').count();
                for stage in &file.stages {
                    proptest::prop_assert!(stage.span.first >= 1 && stage.span.last <= lines);
                    for step in &stage.steps {
                        proptest::prop_assert!(step.span.first > stage.span.first.saturating_sub(1));
                    }
                }
            }
            Err(wrong) => {
                let source = super::super::Source { name: "Dockerfile".into(), text };
                proptest::prop_assert!(!source.excerpt(&wrong).is_empty());
            }
        }
    }

    #[test]
    fn an_instruction_reads_the_same_over_several_lines(words in proptest::collection::vec("[a-z]{1,6}", 1..6)) {
        let one = dockerfile(&format!("FROM x\nRUN {}", words.join(" "))).unwrap();
        let several = dockerfile(&format!("FROM x\nRUN {}", words.join(" \\\n# comment\n"))).unwrap();
        let text = |file: &Dockerfile| file.stages[0].steps[0].text.clone();
        proptest::prop_assert_eq!(text(&one), text(&several));
    }
}
