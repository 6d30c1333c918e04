//! Steps, cache, variables, stages.

use crate::world::{World, events, letters};
use drydock_dockerfile::build::{
    Config, ErrorKind, Mode, NamedContext, RunSource, Stream, apply_changes, signal_number,
};
use drydock_dockerfile::language::Network;
use std::sync::Arc;

const APP: &str = "FROM busybox\nENV A=1\nWORKDIR /app\nRUN make $A\nCMD [\"cat\", \"out\"]\n";

fn playing() -> World {
    let mut world = World::new();
    world.play = Arc::new(|root, request, log| {
        log(Stream::Stdout, format!("ran {}\n", request.argv.join(" ")).as_bytes());
        std::fs::write(root.join("app/out"), "made").unwrap();
        0
    });
    world
}

#[test]
fn the_classic_builders_lines() {
    let world = playing();
    let first = world.build(APP);
    let expected = "\
Step 1/5 : FROM busybox
 ---> A
Step 2/5 : ENV A=1
 ---> Running in B
 ---> Removed intermediate container B
 ---> C
Step 3/5 : WORKDIR /app
 ---> Running in D
 ---> Removed intermediate container D
 ---> E
Step 4/5 : RUN make $A
 ---> Running in F
ran /bin/sh -c make $A
 ---> Removed intermediate container F
 ---> G
Step 5/5 : CMD [\"cat\", \"out\"]
 ---> Running in H
 ---> Removed intermediate container H
 ---> I
Successfully built I
";
    assert_eq!(letters(&first.lines), expected);
    assert_eq!(first.read("app/out"), "made");
    let history = world.history(&first.image);
    assert_eq!(
        history,
        [
            "/bin/sh -c #(nop)  ENV A=1 (empty)",
            "/bin/sh -c #(nop) WORKDIR /app",
            "/bin/sh -c make $A",
            "/bin/sh -c #(nop)  CMD [\"cat\" \"out\"] (empty)",
        ]
    );
    let config = &first.image.config;
    assert_eq!(config.env, ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=1"]);
    assert_eq!(
        (config.cmd.as_deref(), config.working_dir.as_str()),
        (Some(["cat".into(), "out".into()].as_slice()), "/app")
    );
    assert_eq!(world.state.lock().unwrap().dropped, 2, "a container is still there");
}

#[test]
fn a_second_build_comes_from_the_cache_up_to_the_first_change() {
    let world = playing();
    let first = world.build(APP);
    let second = world.build(APP);
    assert_eq!(first.image, second.image);
    assert_eq!(second.lines.matches(" ---> Using cache\n").count(), 4);
    let changed = world.build(&APP.replace("make", "remake"));
    assert_eq!(changed.lines.matches(" ---> Using cache\n").count(), 2);
    assert_ne!(changed.image.id, first.image.id);
    let mut world = world;
    world.options.no_cache = true;
    assert_eq!(world.build(APP).lines.matches("Using cache").count(), 0);
}

#[test]
fn only_named_stages_leave_the_cache_alone() {
    let mut world = World::new();
    world.play = Arc::new(|_, _, _| 0);
    let text = "FROM busybox AS one\nRUN one\nFROM busybox AS Two\nRUN two\nFROM busybox\nRUN three\n";
    world.build(text);
    world.options.no_cache_stages = vec!["two".into()];
    let again = world.build(text).lines;
    assert_eq!(again.matches(" ---> Using cache\n").count(), 2, "{again}");
}

#[test]
fn a_failed_command_ends_the_build_with_its_code() {
    let mut world = World::new();
    world.play = Arc::new(|_, _, _| 3);
    let error = world.refused("FROM busybox\nRUN exit 3\n");
    assert_eq!(error.message, "The command '/bin/sh -c exit 3' returned a non-zero code: 3");
    assert_eq!((error.code, error.lines.clone()), (Some(3), Some(2..=2)));
    let (lines, _) = world.try_build("FROM busybox\nRUN exit 3\n");
    assert!(!lines.contains("Removed"), "{lines}");
    world.options.force_remove = true;
    assert!(world.try_build("FROM busybox\nRUN exit 3\n").0.contains("Removed intermediate container"));
    world.options.mode = Mode::BuildKit;
    let error = world.refused("FROM busybox\nRUN exit 3\n");
    assert_eq!(error.message, "process \"/bin/sh -c exit 3\" did not complete successfully: exit code: 3");
}

#[test]
fn arguments_have_their_scopes() {
    let mut world = World::new();
    world.options.build_args.insert("GIVEN".into(), Some("g".into()));
    world.options.build_args.insert("HTTP_PROXY".into(), Some("p".into()));
    world.options.build_args.insert("NOBODY".into(), Some("n".into()));
    world.image("tool:g", Config::default(), |_| {});
    let built = world.build(
        "ARG GIVEN=default\nARG GLOBAL=global\nFROM tool:$GIVEN\nARG GLOBAL\nARG X=x$GLOBAL Y\nENV X=env\nRUN one\n\
         FROM busybox\nLABEL g=\"$GLOBAL$X\" t=$TARGETOS\nARG GIVEN TARGETOS\nLABEL h=$GIVEN p=$HTTP_PROXY o=$TARGETOS\nRUN two\n",
    );
    let labels = built.image.config.labels.clone().unwrap();
    let label = |name: &str| labels[name].clone();
    assert_eq!(
        (label("g"), label("t"), label("h"), label("p"), label("o")),
        (String::new(), String::new(), "g".into(), "p".into(), "linux".into())
    );
    assert!(
        built.lines.contains("[Warning] One or more build-args [NOBODY] were not consumed\n"),
        "{}",
        built.lines
    );
    let runs = world.runs();
    assert!(
        runs[0].env.ends_with(&["X=env".into(), "GLOBAL=global".into(), "HTTP_PROXY=p".into()]),
        "{:?}",
        runs[0].env
    );
    assert!(!runs[1].env.contains(&"GLOBAL=global".into()) && runs[1].env.contains(&"GIVEN=g".into()));
    // The proxy is in the environment, not in history.
    assert_eq!(world.history(&built.image).last().unwrap(), "|2 GIVEN=g TARGETOS=linux /bin/sh -c two");
}

#[test]
fn in_buildkit_stages_inherit_arguments_and_the_last_of_a_name_counts() {
    let world = World::buildkit();
    let built = world.build(
        "FROM busybox AS base\nARG V=1\nARG W=base\nENV W=env E=env\nFROM base\nARG V\nARG E=arg\nRUN one\n\
         ENV E=again\nRUN two\n",
    );
    let runs = world.runs();
    let values = |run: usize, name: &str| -> Vec<String> {
        let lines = runs[run].env.iter().filter_map(|line| line.strip_prefix(&format!("{name}=")));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(
        (values(0, "V"), values(0, "W"), values(0, "E")),
        (vec!["1".into()], vec!["env".into()], vec!["arg".into()])
    );
    assert_eq!(values(1, "E"), ["again"]);
    let history = world.history(&built.image);
    assert!(history.contains(&"RUN |3 W=env V=1 E=arg /bin/sh -c one # buildkit".to_owned()), "{history:?}");
    assert!(history.contains(&"ARG V (empty)".to_owned()), "{history:?}");
    assert!(built.image.config.env.contains(&"E=again".to_owned()));
}

#[test]
fn buildkits_titles_have_variables_and_sums_of_scripts() {
    let mut world = World::buildkit();
    world.options.build_args.insert("HTTP_PROXY".into(), Some("http://p".into()));
    world.file("f g", "x");
    let seen = events(
        &world,
        "FROM busybox\nARG A=1\nENV B=2 S=env\nrun echo '$A' \"$B\" ${A} $C\nRUN --mount=type=secret,id=s,env=S echo $S$HTTP_PROXY\n\
         WORKDIR /\nWORKDIR /w$A\nCOPY [\"f g\", \"/$B\"]\nRUN <<E\necho $A\ntwo\nE\nRUN cat <<E\none\nE\n",
    );
    for expected in [
        "[stage-0 2/8] RUN echo '$A' \"2\" 1 $C",
        "[stage-0 3/8] RUN --mount=type=secret,id=s,env=S echo ****$HTTP_PROXY",
        "[stage-0 4/8] WORKDIR /w1",
        "[stage-0 5/8] COPY [f g, /2]",
        "[stage-0 6/8] RUN <<E (echo 1...)",
        "[stage-0 7/8] RUN cat <<E",
    ] {
        assert!(seen.iter().any(|event| event == expected), "{expected}: {seen:?}");
    }
    assert!(!seen.iter().any(|event| event.ends_with("WORKDIR /") || event.contains("ENV")), "{seen:?}");
}

#[test]
fn what_a_step_uses_is_told_before_it() {
    let world = World::buildkit();
    world.image("tool", Config::default(), |_| {});
    let seen = events(
        &world,
        "FROM busybox\nRUN --mount=type=cache,target=/c,mode=0700 --mount=from=tool,target=/t a\n\
         RUN --mount=type=cache,target=/c b\nRUN <<S\n#!/bin/c\nS\nCOPY <<D /d\nd\nD\n",
    );
    assert_eq!(
        seen,
        [
            "[internal] setting cache mount permissions",
            "FROM tool",
            "[stage-0 2/5] RUN --mount=type=cache,target=/c,mode=0700 --mount=from=tool,target=/t a",
            "[stage-0 3/5] RUN --mount=type=cache,target=/c b",
            "[internal] preparing inline document",
            "[stage-0 4/5] RUN <<S (#!/bin/c)",
            "[internal] preparing inline document",
            "[stage-0 5/5] COPY <<D /d",
            "done 0",
        ]
    );
}

#[test]
fn buildkits_numbers_follow_what_a_stage_begins_with() {
    let mut world = World::buildkit();
    world.options.contexts.insert("ctx".into(), NamedContext::Image("busybox".into()));
    let runs = |text: &str| {
        let seen = events(&world, text);
        seen.into_iter().filter(|event| event.contains("RUN")).collect::<Vec<_>>()
    };
    assert_eq!(runs("FROM busybox\nRUN a\n"), ["[2/2] RUN a"]);
    assert_eq!(runs("FROM scratch\nRUN a\n"), ["[1/1] RUN a"]);
    assert_eq!(runs("FROM ctx\nRUN a\n"), ["[1/2] RUN a"]);
    assert_eq!(
        runs("FROM busybox AS one\nRUN b\nFROM one\nRUN c\n"),
        ["[one 2/2] RUN b", "[stage-1 1/1] RUN c"]
    );
    // Of what is mounted or copied BuildKit makes stages, so that this one is not alone.
    let mounts = "FROM busybox\nRUN --mount=type=tmpfs,target=/t d\n";
    assert_eq!(runs(mounts), ["[stage-0 2/2] RUN --mount=type=tmpfs,target=/t d"]);
    assert_eq!(runs("FROM busybox\nCOPY --from=busybox /etc /e\nRUN f\n"), ["[stage-0 3/3] RUN f"]);
}

#[test]
fn in_buildkit_triggers_are_steps_of_their_own() {
    let world = World::buildkit();
    world.file("a", "a");
    let on_build = Some(vec!["ENV T=1".to_owned(), "COPY a /a".to_owned(), "RUN there $T".to_owned()]);
    world.image("base", Config { on_build, ..Config::default() }, |_| {});
    let seen = events(&world, "FROM base\nRUN own\n");
    assert_eq!(seen, ["[2/5] ONBUILD COPY a /a", "[3/5] ONBUILD RUN there 1", "[4/5] RUN own", "done 0",]);
    world.image("wrong", Config { on_build: Some(vec!["RUNN x".to_owned()]), ..Config::default() }, |_| {});
    assert_eq!(world.refused("FROM busybox\nFROM wrong\n").lines, Some(2..=2));
}

#[test]
fn another_argument_is_another_run() {
    let mut world = World::new();
    let text = "FROM busybox\nARG V=1\nRUN x\n";
    world.build(text);
    world.options.build_args.insert("V".into(), Some("2".into()));
    let built = world.build(text);
    assert_eq!(built.lines.matches("Using cache").count(), 1);
    assert_eq!(world.history(&built.image).last().unwrap(), "|1 V=2 /bin/sh -c x");
}

#[test]
fn stages_targets_and_their_refusals() {
    let mut world = World::new();
    world.file("a", "a");
    let text = "FROM busybox AS one\nCOPY a /a\nFROM busybox AS two\nRUN two\nFROM one AS three\nCOPY --from=0 /a /b\nCOPY --from=two /etc /e\n";
    let built = world.build(text);
    assert_eq!((built.read("a"), built.read("b")), ("a".into(), "a".into()));
    assert!(built.lines.contains("Step 7/7 : COPY --from=two /etc /e\n"));
    world.options.target = "ONE".into();
    let built = world.build(text);
    assert!(built.lines.contains("Step 2/2 : COPY a /a\n ---> Using cache\n"), "{}", built.lines);
    world.options.target = "four".into();
    assert_eq!(world.refused(text).message, "target stage \"four\" could not be found");
    world.options.target.clear();
    for (text, expected) in [
        ("FROM busybox\nCOPY --from=0 a b\n", "invalid from flag value 0: refers to current build stage"),
        ("FROM busybox\nCOPY --from=5 a b\n", "invalid from flag value 5: index out of bounds"),
        ("FROM busybox AS x\nFROM busybox AS x\n", "x stage name already used"),
        ("FROM $NOTHING\n", "base name ($NOTHING) should not be blank"),
        ("FROM scratch\n", "No image was generated. Is your Dockerfile empty?"),
        ("FROM busybox\nSTOPSIGNAL NONSENSE\n", "invalid signal: NONSENSE"),
        ("FROM busybox\nEXPOSE x\n", "invalid containerPort: x"),
        (
            "FROM busybox\nENV a=${b\n",
            "failed to process \"${b\": unsupported modifier (\u{fffd}) in substitution",
        ),
        (
            "FROM nobody/x\n",
            "pull access denied for nobody/x, repository does not exist or may require 'docker login': denied: requested access \
             to the resource is denied",
        ),
    ] {
        assert_eq!(world.refused(text).message, expected, "{text}");
    }
    world.options.mode = Mode::BuildKit;
    for (text, expected) in [
        (
            "FROM busybox AS x\nCOPY --from=y a b\nFROM busybox AS y\nCOPY --from=x a b\n",
            "cannot copy from stage \"y\", it needs to be defined before current stage \"x\"",
        ),
        ("FROM busybox\nCOPY --from=5 a b\n", "invalid stage index 5"),
        (
            "FROM busybox\nARG F=x\nCOPY --from=$F a b\n",
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
        ),
    ] {
        assert_eq!(world.refused(text).message, expected, "{text}");
    }
}

#[test]
fn buildkit_builds_only_what_is_needed_and_numbers_what_it_shows() {
    let world = World::buildkit();
    world.file("a", "a");
    let text = "FROM busybox AS unused\nRUN never\nFROM busybox AS left\nRUN left\nFROM busybox AS right\nENV x=1\nRUN right\n\
                FROM left\nCOPY --from=right /etc/passwd /p\nRUN --mount=from=2,target=/m x\n";
    let seen = events(&world, text);
    assert!(seen.iter().all(|event| !event.contains("unused")), "{seen:?}");
    for expected in
        ["[left 2/2] RUN left", "[right 2/2] RUN right", "[stage-3 2/2] RUN --mount=from=2,target=/m x"]
    {
        assert!(seen.iter().any(|event| event == expected), "{expected}: {seen:?}");
    }
    assert_eq!(seen.last().unwrap(), "done 3");
    assert_eq!(world.runs().len(), 3);
}

#[test]
fn stages_that_need_nothing_of_each_other_run_at_the_same_time() {
    let mut world = World::buildkit();
    let meeting = Arc::new(std::sync::Barrier::new(2));
    world.play = Arc::new(move |_, request, _| {
        // Each waits for the other; one after the other would hang.
        if request.argv[2] != "last" {
            meeting.wait();
        }
        0
    });
    let text = "FROM busybox AS a\nRUN a\nFROM busybox AS b\nRUN b\nFROM busybox\nCOPY --from=a /etc /a\nCOPY --from=b /etc /b\nRUN last\n";
    world.build(text);
}

#[test]
fn a_failed_stage_ends_the_others() {
    let mut world = World::buildkit();
    world.play = Arc::new(|_, request, _| i32::from(request.argv[2] == "a"));
    let text = "FROM busybox AS a\nRUN a\nFROM a AS b\nRUN b\nFROM b\nRUN c\n";
    assert_eq!(world.refused(text).code, Some(1));
    assert_eq!(world.runs().len(), 1);
}

#[test]
fn buildkits_history() {
    let world = World::buildkit();
    world.file("f.txt", "x");
    let built = world.build(
        "FROM busybox\nARG X=1\nENV FOO=bar\nWORKDIR /app\nCOPY --chown=web f.txt .\nRUN echo building $X > out\n\
         HEALTHCHECK CMD true\nEXPOSE 80\nVOLUME /v\nSHELL [\"/bin/bash\", \"-c\"]\nCMD exec cat out\n",
    );
    assert_eq!(
        world.history(&built.image),
        [
            "ARG X=1 (empty)",
            "ENV FOO=bar (empty)",
            "WORKDIR /app",
            "COPY --chown=web f.txt . # buildkit",
            "RUN |1 X=1 /bin/sh -c echo building $X > out # buildkit",
            "HEALTHCHECK &{[\"CMD-SHELL\" \"true\"] \"0s\" \"0s\" \"0s\" \"0s\" '\\x00'} (empty)",
            "EXPOSE [80/tcp] (empty)",
            "VOLUME [/v] (empty)",
            "SHELL [/bin/bash -c] (empty)",
            "CMD [\"/bin/bash\" \"-c\" \"exec cat out\"] (empty)",
        ]
    );
    let json = serde_json::to_value(&built.image.config).unwrap();
    assert_eq!(json["ExposedPorts"], serde_json::json!({"80/tcp": {}}));
    assert_eq!(json["Healthcheck"], serde_json::json!({"Test": ["CMD-SHELL", "true"]}));
    assert_eq!(json["Entrypoint"], serde_json::Value::Null);
}

#[test]
fn triggers_of_the_base_run_first_and_are_not_inherited() {
    let world = World::new();
    world.file("a", "a");
    let on_build = Some(vec!["COPY a /a".to_owned(), "RUN there".to_owned()]);
    world.image("base", Config { on_build, ..Config::default() }, |_| {});
    let built = world.build("FROM base\nRUN own\n");
    assert!(
        built.lines.starts_with("Step 1/2 : FROM base\n# Executing 2 build triggers\n ---> Running in"),
        "{}",
        built.lines
    );
    assert_eq!(built.read("a"), "a");
    assert_eq!(world.runs().iter().map(|r| r.argv[2].clone()).collect::<Vec<_>>(), ["there", "own"]);
    assert_eq!(built.image.config.on_build, None);
    let child = world.build("FROM busybox\nONBUILD RUN later\n");
    assert_eq!(child.image.config.on_build, Some(vec!["RUN later".into()]));
}

#[test]
fn labels_entrypoints_and_the_rest_of_the_configuration() {
    let mut world = World::new();
    world.options.labels.insert("k".into(), "$HOME v".into());
    let built = world.build(
        "FROM busybox\nMAINTAINER me\nUSER web\nENTRYPOINT [\"top\"]\nVOLUME /a /b\nSTOPSIGNAL SIGINT\nHEALTHCHECK --interval=5s CMD x\nHEALTHCHECK NONE\n",
    );
    let config = &built.image.config;
    assert_eq!(config.labels.as_ref().unwrap()["k"], "$HOME v");
    assert_eq!((config.cmd.clone(), config.entrypoint.clone()), (None, Some(vec!["top".into()])));
    assert_eq!(
        (built.image.author.as_str(), config.stop_signal.as_str(), config.user.as_str()),
        ("me", "SIGINT", "web")
    );
    assert!(built.lines.contains("Note: overriding previous HEALTHCHECK: [CMD-SHELL x]\n"));
    assert!(built.lines.contains("Step 9/9 : LABEL k=$HOME v\n"), "{}", built.lines);
    let kept = world.build("FROM busybox\nCMD [\"x\"]\nENTRYPOINT y\n");
    assert_eq!(kept.image.config.cmd, Some(vec!["x".into()]));
    world.options.squash = true;
    assert_eq!(world.refused("FROM busybox\n").message, "squash is only supported with experimental mode");
}

#[test]
fn commands_get_heredocs_mounts_and_networks() {
    let mut world = World::new();
    world.file("src/x", "x");
    world.secrets.insert("s".into(), b"hush".to_vec());
    world.play = Arc::new(|root, request, _| {
        // What a runtime does: mount points appear in the root.
        for mount in &request.mounts {
            std::fs::create_dir_all(root.join(&mount.target[1..])).unwrap();
        }
        0
    });
    let built = world.build(
        "FROM busybox\nWORKDIR /w\nRUN <<EOF\none\ntwo\nEOF\nRUN <<-EOF\n\t#!/bin/awk\n\tx\nEOF\nRUN cat <<A && b\ntext\nA\n\
         RUN --mount=type=bind,source=src,target=in --mount=type=cache,target=/root/.cache,id=c --mount=type=tmpfs,target=/t,size=1m \
         --mount=type=secret,id=s --mount=type=secret,id=s,env=TOKEN --mount=type=ssh --network=none go\n",
    );
    let runs = world.runs();
    assert_eq!(runs[0].argv, ["/bin/sh", "-c", "one\ntwo\n"]);
    assert_eq!(
        (runs[1].argv.last().unwrap().as_str(), runs[1].mounts[0].target.as_str()),
        ("/dev/pipes/EOF", "/dev/pipes/EOF")
    );
    assert_eq!(runs[2].argv[2], "cat <<A && b\ntext\nA");
    let last = &runs[3];
    let targets: Vec<&str> = last.mounts.iter().map(|m| m.target.as_str()).collect();
    assert_eq!(targets, ["/w/in", "/root/.cache", "/t", "/run/secrets/s", "/run/buildkit/ssh_agent.5"]);
    assert_eq!(last.network, Network::None);
    assert!(
        matches!(&last.mounts[0].source, RunSource::Bind { path, discard: false } if path.ends_with("context/src"))
    );
    assert!(
        matches!(&last.mounts[3].source, RunSource::Content { data, mode: 0o400, .. } if data == b"hush")
    );
    assert!(
        last.env.contains(&"TOKEN=hush".into())
            && last.env.contains(&"SSH_AUTH_SOCK=/run/buildkit/ssh_agent.5".into())
    );
    assert_eq!(built.files(), ["w"], "mount points are left in the image");
    world.file("src/x", "changed");
    let text = "FROM busybox\nRUN --mount=source=src,target=/in x\n";
    world.build(text);
    assert!(world.build(text).lines.contains("Using cache"));
    world.file("src/x", "again");
    assert!(!world.build(text).lines.contains("Using cache"));
    // One cache twice is one lock, and a step from the cache takes none.
    let twice =
        "FROM busybox\nRUN --mount=type=cache,id=k,target=/a --mount=type=cache,id=k,target=/b,source=in x\n";
    world.build(twice);
    assert_eq!(world.state.lock().unwrap().caches, ["c", "k"]);
    assert!(world.build(twice).lines.contains("Using cache"));
    assert_eq!(world.state.lock().unwrap().caches.len(), 2);
    let last = world.runs().pop().unwrap();
    assert!(matches!(&last.mounts[1].source, RunSource::Bind { path, .. } if path.ends_with("caches/k/in")));
    let missing = world.refused("FROM busybox\nRUN --mount=type=secret,id=none,required=true x\n");
    assert_eq!(missing.message, "secret none: not found");
    assert_eq!(world.refused("FROM busybox\nRUN --mount=target=/ x\n").message, "invalid mount target \"/\"");
}

#[test]
fn named_contexts_and_scratch() {
    let mut world = World::buildkit();
    let other = world.dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("f"), "other").unwrap();
    world.options.contexts.insert("extra".into(), NamedContext::Directory(other));
    world.options.contexts.insert("alpine".into(), NamedContext::Image("busybox".into()));
    let built = world.build("FROM scratch AS s\nCOPY --from=extra f /f\nFROM alpine\nCOPY --from=s / /\n");
    assert_eq!(built.read("f"), "other");
    assert!(built.root.join("etc/passwd").exists());
}

#[test]
fn many_stages_are_built_and_too_many_refused() {
    let world = World::buildkit();
    let stages: String = (1..200).map(|n| format!("FROM s{} AS s{n}\nENV a=1\n", n - 1)).collect();
    world.build(&format!("FROM busybox AS s0\n{stages}"));
    let too_many = "FROM busybox\n".repeat(1001);
    assert_eq!(world.refused(&too_many).message, "dockerfile contains more than 1000 stages");
}

#[test]
fn a_cancelled_build_ends_at_the_next_step() {
    let mut world = World::new();
    let state = Arc::clone(&world.state);
    world.play = Arc::new(move |_, _, _| {
        state.lock().unwrap().cancelled = true;
        0
    });
    let (lines, result) = world.try_build("FROM busybox\nRUN one\nRUN two\n");
    let error = result.unwrap_err();
    assert_eq!((error.message.as_str(), error.kind), ("Build cancelled", ErrorKind::Cancelled));
    assert!(lines.ends_with("Build cancelled\n") && world.runs().len() == 1);
    assert_eq!(world.state.lock().unwrap().dropped, 1);
}

#[test]
fn changes_of_docker_commit() {
    let mut config = Config::default();
    let changes = ["ENV a=1 b=$x", "CMD [\"x\"]", "EXPOSE 80", "WORKDIR sub", "LABEL k=v", "USER me"]
        .map(str::to_owned);
    apply_changes(&mut config, &changes).unwrap();
    assert_eq!(
        (config.env.as_slice(), config.working_dir.as_str()),
        (["a=1".to_owned(), "b=".to_owned()].as_slice(), "/sub")
    );
    assert_eq!((config.cmd.unwrap().len(), config.user.as_str(), config.labels.unwrap().len()), (1, "me", 1));
    for (change, expected) in [
        ("RUN x", "RUN is not a valid change command"),
        ("foo x", "foo is not a valid change command"),
        ("EXPOSE x", "invalid containerPort: x"),
    ] {
        assert_eq!(apply_changes(&mut Config::default(), &[change.into()]).unwrap_err().message, expected);
    }
}

#[test]
fn signals() {
    for (text, number) in [
        ("9", Some(9)),
        ("sigterm", Some(15)),
        ("SIGRTMIN+3", Some(37)),
        ("RTMAX-1", Some(63)),
        ("0", None),
        ("X", None),
    ] {
        assert_eq!(signal_number(text), number, "{text}");
    }
}

#[test]
fn what_a_dockerfile_can_ask_for_has_limits() {
    let world = World::new();
    let steps = format!("FROM busybox\n{}", "ENV a=1\n".repeat(10_000));
    assert_eq!(world.refused(&steps).message, "dockerfile contains more than 10000 instructions");
    let doubled = "ENV a=$a$a\n".repeat(40);
    let error = world.refused(&format!("FROM busybox\nENV a=xx\n{doubled}"));
    assert!(error.message.ends_with("expanded value is too large"), "{:.200}", error.message);
    let kilobyte = "x".repeat(1000);
    let doubled = "ARG A=$A$A\n".repeat(9);
    let many: String = (0..10).map(|n| format!("ARG V{n}=$A\n")).collect();
    assert_eq!(
        world.refused(&format!("ARG A={kilobyte}\n{doubled}{many}FROM busybox\n")).message,
        "build arguments are too large"
    );
    let many: String = (0..10).map(|n| format!("LABEL l{n}=$A\n")).collect();
    let error = world.refused(&format!("FROM busybox\nARG A={kilobyte}\n{doubled}{many}"));
    assert_eq!(error.message, "image configuration is too large");
    let ports = "0-65535 ".repeat(5);
    assert_eq!(
        world.refused(&format!("FROM busybox\nEXPOSE {ports}\n")).message,
        "EXPOSE names too many ports"
    );
}

#[test]
fn commands_of_the_classic_builder_see_the_volumes_declared_before() {
    let world = World::new();
    let built = world.build("FROM busybox\nRUN early\nVOLUME /run /etc\nRUN late\n");
    let runs = world.runs();
    assert!(runs[0].mounts.is_empty());
    let mounts: Vec<_> = runs[1].mounts.iter().map(|m| (m.target.as_str(), m.read_only, &m.source)).collect();
    let [("/etc", false, etc), ("/run", false, run)] = mounts[..] else { panic!("{mounts:?}") };
    for (source, name) in [(etc, "etc"), (run, "run")] {
        // What is written there is lost.
        assert!(
            matches!(source, RunSource::Bind { path, discard: true } if path.ends_with(name)),
            "{source:?}"
        );
    }
    assert!(built.files().contains(&"run".to_owned()), "the mount point of a volume is left in the image");
    let file = world.refused("FROM busybox\nVOLUME /etc/passwd\nRUN x\n");
    assert_eq!(file.message, "cannot mount volume over existing file, file exists /etc/passwd");
    let world = World::buildkit();
    world.build("FROM busybox\nVOLUME /run\nRUN late\n");
    assert!(world.runs()[0].mounts.is_empty(), "BuildKit's see none");
}

#[test]
fn empty_lists_are_no_command() {
    let world = World::new();
    let built = world.build("FROM busybox\nENTRYPOINT [\"top\"]\nCMD []\n");
    assert_eq!(built.image.config.cmd, None);
    world.build("FROM busybox\nENTRYPOINT [\"top\"]\nCMD [\"-b\"]\nRUN []\n");
    assert_eq!(world.runs()[0].argv, ["top", "-b"]);
}
