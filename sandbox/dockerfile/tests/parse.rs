//! Dockerfiles that Docker refuses, with the words in which it does; and what it makes of those that it takes.

use drydock_dockerfile::language::{
    Kind, LineWarning, Mount, MountKind, Network, Pair, Sharing, parse, parse_mount,
};

fn error(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn refusals_of_instructions_name_the_line() {
    for (line, expected) in [
        ("RUNN true", "unknown instruction: RUNN (did you mean RUN?)"),
        ("copi a b", "unknown instruction: copi (did you mean copy?)"),
        ("FOO bar", "unknown instruction: FOO (did you mean FROM?)"),
        ("FOOBAR", "unknown instruction: FOOBAR"),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a b", "FROM requires either one or three arguments"),
        (
            "FROM a AS 1x",
            "invalid name for build stage: \"1x\", name can't start with a number or contain symbols",
        ),
        ("FROM --os=x a", "unknown flag: --os"),
        ("FROM --platfor=x a", "unknown flag: --platfor (did you mean platform?)"),
        (
            "COPY a",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        (
            "ADD a",
            "ADD requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("COPY --form=x a b", "unknown flag: --form (did you mean from?)"),
        ("COPY --from=x --from=y a b", "duplicate flag specified: --from"),
        ("COPY --from a b", "missing a value on flag: --from"),
        ("COPY --link=maybe a b", "expecting boolean value for flag --link, not: maybe"),
        ("COPY --link= a b", "missing a value on flag: --link"),
        ("COPY a <<EOF\nEOF", "COPY cannot accept a heredoc as a destination"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV =x", "ENV names can not be blank"),
        ("ARG", "ARG requires at least one argument"),
        ("ARG =x", "ARG names can not be blank"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("VOLUME [\"\"]", "VOLUME specified can not be an empty string"),
        ("USER", "USER requires exactly one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        ("SHELL", "SHELL requires at least one argument"),
        ("SHELL bash -c", "SHELL requires the arguments to be in JSON form"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD maintainer x", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK FOO x", "Unknown type \"FOO\" in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK --interval=5 CMD x", "time: missing unit in duration \"5\""),
        ("HEALTHCHECK --timeout=1us CMD x", "Interval \"timeout\" cannot be less than 1ms"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("HEALTHCHECK --retries=x CMD x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("RUN --network=foo x", "invalid network mode \"foo\""),
        ("RUN --security=foo x", "security \"foo\" is not valid"),
        (
            "RUN --mount=from=$x,target=/a x",
            "'from' doesn't support variable expansion, define alias stage instead",
        ),
        ("RUN --foo x", "unknown flag: --foo"),
    ] {
        assert_eq!(
            error(&format!("FROM busybox\n\n{line}\n")),
            format!("dockerfile parse error on line 3: {expected}"),
            "{line}"
        );
    }
}

#[test]
fn refusals_of_the_text_do_not() {
    for (text, expected) in [
        ("", "file with no instructions"),
        ("# only a comment\n", "file with no instructions"),
        ("RUN x\n", "no build stage in current context"),
        ("FROM a\nRUN <<EOF\nx\n", "unterminated heredoc"),
        (
            "FROM a\nCMD [\"a\", 1]\n",
            "when using JSON array syntax, arrays must be comprised of strings only",
        ),
        ("FROM a\nENV a\n", "ENV must have two arguments"),
        ("FROM a\nLABEL a\n", "LABEL must have two arguments"),
        ("FROM a\nENV a=b c\n", "Syntax error - can't find = in \"c\". Must be of the form: name=value"),
        ("# escape=x\nFROM a\n", "invalid escape token 'x' does not match ` or \\"),
        ("# escape=`\n# escape=`\nFROM a\n", "only one escape parser directive can be used"),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
    assert_eq!(
        error(&format!("FROM a\nRUN {}\n", "x".repeat(70_000))),
        "dockerfile line greater than max allowed size of 65535"
    );
    let classic = |text: &str| parse(text).unwrap_err().of_classic("Dockerfile");
    assert_eq!(classic("FROM a\nENV a\n"), "failed to parse Dockerfile: ENV must have two arguments");
    assert_eq!(classic(""), "the Dockerfile (Dockerfile) cannot be empty");
    assert_eq!(
        classic("FROM\n"),
        "dockerfile parse error on line 1: FROM requires either one or three arguments"
    );
    assert_eq!(classic("RUN x\n"), "no build stage in current context");
    assert_eq!(parse("FROM a\n\nRUN x \\\n y\nRUNN\n").unwrap_err().lines, 5..=5);
    assert_eq!(parse("FROM a\nRUN <<EOF\n\n").unwrap_err().lines, 2..=2);
}

#[test]
fn lines_comments_and_continuations() {
    let text = "\u{feff}# syntax=docker/dockerfile:1\n# escape=`\r\n\r\nfrom a as Base\r\n  # comment\nRUN one `\n# within\n\n  two ``\nCMD x\n";
    let file = parse(text).unwrap();
    assert_eq!(file.escape, '`');
    assert_eq!(file.directives[0], ("syntax".into(), "docker/dockerfile:1".into()));
    let stage = &file.stages[0];
    assert_eq!((stage.name.as_deref(), stage.base.as_str(), stage.line), (Some("base"), "a", 4));
    assert_eq!(stage.instructions[0].source, "RUN one   two ``");
    assert_eq!((stage.instructions[0].line, stage.instructions[0].last_line), (6, 9));
    let text = "Empty continuation line found in: RUN one   two ``".to_owned();
    assert_eq!(file.warnings, [LineWarning { line: 9, text }]);
}

#[test]
fn heredocs() {
    let text = "FROM a\nRUN <<-EOF\n\techo $x\n\tEOF\nCOPY <<A <<\"B\" src /dst/\na $x\nA\nb $x\nB\nRUN cat <<A 3<<B\n1\nA\n2\nB\nRUN [\"<<EOF\"]\n";
    let file = parse(text).unwrap();
    let kinds: Vec<&Kind> = file.stages[0].instructions.iter().map(|i| &i.kind).collect();
    let (Kind::Run(first), Kind::Copy(copy), Kind::Run(both), Kind::Run(json)) =
        (kinds[0], kinds[1], kinds[2], kinds[3])
    else {
        panic!("{kinds:?}");
    };
    assert_eq!((first.command.files[0].data.as_str(), first.command.files[0].chomp), ("\techo $x\n", true));
    let files: Vec<_> = copy.files.iter().map(|f| (f.name.as_str(), f.data.as_str(), f.expand)).collect();
    assert_eq!(files, [("A", "a $x\n", true), ("B", "b $x\n", false)]);
    assert_eq!(
        (copy.sources.as_slice(), copy.destination.as_str()),
        (["src".to_owned()].as_slice(), "/dst/")
    );
    assert_eq!(both.command.files.len(), 2);
    assert!(json.command.files.is_empty() && !json.command.shell);
}

#[test]
fn every_instruction() {
    let text = r#"ARG V=1 W
FROM --platform=$BUILDPLATFORM a:$V AS b
ENV old some value
ENV a=1 b="2 3" c=x\ y
LABEL k="v w"
EXPOSE 80 53/udp 8000-8010
VOLUME ["/a b", "/c"]
VOLUME /x /y
USER u:g
WORKDIR /w d
STOPSIGNAL SIGTERM
SHELL ["/bin/bash", "-c"]
HEALTHCHECK --interval=30s --retries=3 CMD curl -f http://localhost/
ONBUILD RUN x
ENTRYPOINT exec top
ADD --chown=1:2 --chmod=644 --checksum=sha256:aa --keep-git-dir=true http://x/y /z
COPY --from=0 --link --parents --exclude=*.md --exclude=b a b c/
RUN --mount=type=cache,target=/c --mount=type=secret,id=s --network=none --security=insecure true
ARG X Y=2
"#;
    let file = parse(text).unwrap();
    assert_eq!(file.global_args[0].kind, Kind::Arg(vec![("V".into(), Some("1".into())), ("W".into(), None)]));
    let stage = &file.stages[0];
    assert_eq!(stage.platform.as_deref(), Some("$BUILDPLATFORM"));
    let kind = |at: usize| &stage.instructions[at].kind;
    let pair = |name: &str, value: &str| Pair { name: name.into(), value: value.into() };
    assert_eq!(*kind(0), Kind::Env(vec![pair("old", "some value")]));
    assert_eq!(*kind(1), Kind::Env(vec![pair("a", "1"), pair("b", "\"2 3\""), pair("c", "x\\ y")]));
    assert_eq!(*kind(3), Kind::Expose(vec!["53/udp".into(), "80".into(), "8000-8010".into()]));
    assert_eq!(*kind(4), Kind::Volume(vec!["/a b".into(), "/c".into()]));
    assert_eq!(*kind(7), Kind::Workdir("/w d".into()));
    let Kind::Healthcheck(health) = kind(10) else { panic!() };
    assert_eq!((health.interval, health.retries), (30_000_000_000, 3));
    assert_eq!(health.test.as_ref().unwrap()[0], "CMD-SHELL");
    assert_eq!(*kind(11), Kind::Onbuild("RUN x".into()));
    let Kind::Add(add) = kind(13) else { panic!() };
    assert_eq!(
        (add.keep_git_dir, add.checksum.as_str(), add.chmod.as_str()),
        (Some(true), "sha256:aa", "644")
    );
    let Kind::Copy(copy) = kind(14) else { panic!() };
    assert!(copy.link && copy.parents && copy.from.as_deref() == Some("0") && copy.exclude == ["*.md", "b"]);
    let Kind::Run(run) = kind(15) else { panic!() };
    assert!(run.insecure && run.network == Network::None && run.mounts.len() == 2);
}

#[test]
fn mounts() {
    let plain = |text: &str| Ok::<_, String>(text.to_owned());
    let mount = |text: &str| parse_mount(text, Some(&plain));
    let cache = mount("type=cache,target=/c,id=x,sharing=locked,uid=5,mode=0700").unwrap();
    let expected = Mount {
        kind: MountKind::Cache,
        target: "/c".into(),
        id: "x".into(),
        sharing: Sharing::Locked,
        uid: Some(5),
        mode: Some(0o700),
        ..Mount::default()
    };
    assert_eq!(cache, expected);
    assert!(mount("target=/a").unwrap().read_only && !mount("target=/a,rw").unwrap().read_only);
    assert_eq!(mount("type=tmpfs,target=/t,size=10m").unwrap().size, Some(10 << 20));
    assert_eq!(mount("type=bind,\"source=/a,b\",target=/t").unwrap().source, "/a,b");
    for (text, expected) in [
        ("type=cach", "unsupported mount type \"cach\" (did you mean cache?)"),
        ("type=cache,sharing=x", "unsupported sharing value \"x\""),
        ("targt=/a", "unexpected key 'targt' in 'targt=/a' (did you mean target?)"),
        ("foo", "invalid field 'foo' must be a key=value pair"),
        ("type=bind,size=1", "unexpected key 'size' for mount type 'bind'"),
        ("type=bind,uid=1", "uid not allowed for \"bind\" type mounts"),
        ("type=cache,mode=9", "invalid value 9 for mode"),
        ("type=bind,ro=x", "invalid value for ro: x"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=bind,sharing=shared", "invalid cache sharing set for bind mount"),
    ] {
        assert_eq!(mount(text).unwrap_err(), expected, "{text}");
    }
}
