//! What is said of a Dockerfile before anything runs.

use crate::world::World;
use drydock_dockerfile::build::{BuildError, Config, Mode, Options, check, check_references};
use drydock_dockerfile::language::parse;
use std::collections::BTreeMap;

fn options() -> Options {
    Options { mode: Mode::BuildKit, ..Options::default() }
}

fn said(error: BuildError) -> (String, Option<usize>) {
    (error.message, error.lines.map(|lines| *lines.start()))
}

#[test]
fn references_are_checked_in_all_stages() {
    let check = |text: &str| said(check_references(&parse(text).unwrap(), &options()).unwrap_err());
    let expected = |message: &str, line| (message.to_owned(), line);
    assert_eq!(
        check("ARG x\nFROM a$\nFROM $x\nFROM b"),
        expected("base name ($x) should not be blank", Some(3))
    );
    assert_eq!(
        check("FROM --platform=$p a\nFROM b"),
        expected("empty platform value from expression $p", Some(1))
    );
    assert_eq!(check("FROM a AS unused\nCOPY --from=7 x /\nFROM b"), expected("invalid stage index 7", None));
    assert!(
        check("FROM a\nCOPY --from=$x y /").0.starts_with("variable expansion is not supported for --from")
    );
    let circle = expected("circular dependency detected on stage: one", Some(2));
    assert_eq!(check("FROM a AS one\nCOPY --from=two x /\nFROM b AS two\nCOPY --from=one x /"), circle);
    let itself = expected("circular dependency detected on stage: stage-0", Some(2));
    assert_eq!(check("FROM a\nCOPY --from=0 x /"), itself);
    let file = parse("FROM a AS one\nFROM b\nCOPY --from=one x /\nRUN --mount=from=one,target=/m y").unwrap();
    check_references(&file, &options()).unwrap();
}

#[test]
fn instructions_are_checked_in_the_stages_that_are_needed() {
    let base = Config {
        env: vec!["P=99999999".into()],
        on_build: Some(vec!["STOPSIGNAL nonsense".into()]),
        ..Config::default()
    };
    let bases = BTreeMap::from([("triggers".to_owned(), base)]);
    let check = |text: &str| check(&parse(text).unwrap(), &options(), &bases).map_err(said);
    for (wrong, message) in [
        ("EXPOSE 99999999", "invalid containerPort: 99999999"),
        ("STOPSIGNAL FOO", "invalid signal: FOO"),
        ("VOLUME $nothing", "VOLUME specified can not be an empty string"),
        (
            "COPY --chmod=9999 f /",
            "invalid chmod parameter: '9999'. it should be octal string and between 0 and 07777",
        ),
        ("COPY https://x.example/f /", "source can't be a URL for COPY"),
        ("ADD --checksum=sha256:00 f /", "checksum requires HTTP(S) or Git sources"),
        ("ENV a=${b:?nope}", "failed to process \"${b:?nope}\": b: nope"),
        ("RUN --mount=target=/ x", "invalid mount target \"/\""),
        (
            "RUN --mount=from=late,target=/m x",
            "cannot mount from stage \"late\" to \"/m\", stage needs to be defined before current command",
        ),
        (
            "COPY --from=late f /",
            "cannot copy from stage \"late\", it needs to be defined before current stage \"stage-0\"",
        ),
    ] {
        let text = format!("FROM a\nRUN x\n{wrong}\nFROM b AS late\nFROM a\nCOPY --from=0 x /\n");
        assert_eq!(check(&text), Err((message.to_owned(), Some(3))), "{wrong}");
        let unused = format!("FROM a\n{wrong}\nFROM b AS late\nRUN y\n");
        assert_eq!(check(&unused), Ok(()), "{wrong}");
    }
    assert_eq!(check("FROM a\nFROM triggers"), Err(("invalid signal: nonsense".to_owned(), Some(2))));
    let value = Config { env: vec!["P=99999999".into()], ..Config::default() };
    let bases = BTreeMap::from([("with-env".to_owned(), value)]);
    let file = parse("FROM with-env\nEXPOSE $P").unwrap();
    assert!(drydock_dockerfile::build::check(&file, &options(), &bases).is_err());
}

#[test]
fn a_check_runs_nothing() {
    let world = World::buildkit();
    let text = "FROM busybox AS a\nWORKDIR /x\nRUN one\nFROM a\nADD https://h.example/none /\nCOPY --from=a /no /\nRUN \
                --mount=type=secret,id=s --mount=from=a,source=/no,target=/m two\n";
    check(&parse(text).unwrap(), &world.options, &BTreeMap::new()).unwrap();
    assert_eq!(world.runs().len(), 0);
}
