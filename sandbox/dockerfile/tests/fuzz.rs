//! Whatever text comes, it is answered: no panic, no endless loop, no endless memory.

use drydock_dockerfile::ignore;
use drydock_dockerfile::language::shell::{Lexer, variables};
use drydock_dockerfile::language::{parse, parse_instructions, parse_mount};
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// Pieces from which Dockerfiles are made, so that chance gets deeper than the first word.
fn piece() -> impl Strategy<Value = String> {
    let known = [
        "FROM ",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "ARG ",
        "LABEL ",
        "ONBUILD ",
        "HEALTHCHECK ",
        "CMD ",
        "SHELL ",
        "VOLUME ",
        "EXPOSE ",
        "USER ",
        "\n",
        "\r\n",
        "\\\n",
        "`\n",
        "#",
        "# escape=`\n",
        "<<EOF",
        "<<-'A B'",
        "EOF\n",
        "--from=",
        "--mount=type=",
        "--",
        "=",
        "\"",
        "'",
        "$",
        "${",
        "}",
        ":-",
        "##",
        "%",
        "/",
        "//",
        "[",
        "]",
        "\"a\"",
        ",",
        " ",
        "\t",
        "\u{a0}",
        "a",
        "é",
        "\0",
        "*",
        "?",
        "\\",
        "AS",
        "CMD",
        "--interval=1s",
    ];
    prop_oneof![8 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => ".{0,6}"]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_dockerfile_is_answered(text in text()) {
        let file = format!("FROM a\n{text}");
        for text in [&text, &file] {
            if let Err(error) = parse(text) {
                prop_assert!(!error.message.is_empty());
                prop_assert!(*error.lines.end() <= text.lines().count() + 1);
            }
            _ = parse_instructions(text);
        }
    }

    #[test]
    fn any_word_is_answered(text in text(), quotes: bool, unset: bool) {
        let set = variables(&["a=aé/a", "b="]);
        let lexer = Lexer { skip_quotes: quotes, skip_unset: unset, ..Lexer::new('\\') };
        _ = lexer.words(&text, &set);
        _ = parse_mount(&text, Some(&|t: &str| lexer.word(t, &set)));
        _ = parse_mount(&text, None);
    }

    #[test]
    fn a_word_without_special_characters_stays(text in "[a-zA-Z0-9 .:/=_-]{0,40}") {
        prop_assert_eq!(Lexer::new('\\').word(&text, &variables::<&str>(&[])).unwrap(), text);
    }

    #[test]
    fn any_ignore_file_is_answered(text in text(), file in "[a-z/.*]{0,12}") {
        if let Ok(patterns) = ignore::Patterns::new(&ignore::read(&text)) {
            patterns.matches(&file);
        }
    }
}

#[test]
fn hostile_files_take_bounded_time() {
    let deep_json = format!("FROM a\nCMD {}", "[".repeat(60_000));
    let continued = |part: &str| format!("FROM a\n{}x\n", format!("{part}\\\n").repeat(20_000));
    let heredocs = format!("FROM a\nRUN {}\n", "<<A ".repeat(10_000));
    for text in [
        deep_json,
        continued("ONBUILD "),
        continued("${a:-"),
        continued("ENV a=b "),
        continued("--a "),
        continued("\"'"),
        heredocs,
        format!("FROM a\nHEALTHCHECK --interval={}s CMD x", "9".repeat(60_000)),
        format!("{} x\n", "Q".repeat(60_000)),
        "\n".repeat(1 << 20),
        "x".repeat(8 << 20),
    ] {
        let start = Instant::now();
        _ = parse(&text);
        assert!(start.elapsed() < Duration::from_secs(5), "{:.40}", text);
    }
}
