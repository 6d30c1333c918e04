//! A client in this process builds with a [`TestEngine`]: what buildx does, and what it would never do.

mod engine;
mod peer;

use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::moby::buildkit::v1::frontend;
use bollard_buildkit_proto::moby::buildkit::v1::{BuildHistoryRequest, StatusRequest, StatusResponse};
use peer::{Client, file, hostile};
use prost::Message;
use std::time::Duration;
use tonic::{Code, Request};

/// Runs a test with a runtime as the engine has it.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.unwrap() });
}

async fn status(client: &Client, build: &str) -> StatusResponse {
    let request = StatusRequest { r#ref: build.into() };
    let mut stream = client.control().status(request).await.unwrap().into_inner();
    let mut all = StatusResponse::default();
    while let Some(new) = stream.message().await.unwrap() {
        all.vertexes.extend(new.vertexes);
        all.statuses.extend(new.statuses);
        all.logs.extend(new.logs);
        all.warnings.extend(new.warnings);
    }
    all
}

fn begun(status: &StatusResponse) -> Vec<&str> {
    status.vertexes.iter().filter(|v| v.completed.is_none()).map(|v| v.name.as_str()).collect()
}

#[test]
fn a_build_has_an_image_a_name_and_steps() {
    run(async {
        let client = Client::new();
        let text = "FROM busybox\nENV a=b\nCOPY f /d/\nRUN cat d/f\n";
        client.files("dockerfile", &[file("Dockerfile", text)]);
        client.files("context", &[file("f", "content\n"), file("unused", "x")]);
        let solved = client.solve("b1", &[], &[("moby", "x:1")]).await.unwrap();
        assert_eq!(solved["image.name"], "docker.io/library/x:1");
        assert_eq!(solved["containerimage.digest"], solved["containerimage.config.digest"]);
        assert_eq!(client.engine.kept(), [solved["containerimage.digest"].clone()]);
        let root = client.engine.root_of("docker.io/library/x:1");
        assert_eq!(std::fs::read_to_string(root.join("d/f")).unwrap(), "content\n");
        let status = status(&client, "b1").await;
        assert_eq!(
            begun(&status),
            [
                "[internal] load build definition from Dockerfile",
                "[internal] load metadata for docker.io/library/busybox:latest",
                "[internal] load .dockerignore",
                "[internal] load build context",
                "[1/3] FROM docker.io/library/busybox:latest",
                "[2/3] COPY f /d/",
                "[3/3] RUN cat d/f",
                "exporting to image",
            ]
        );
        assert_eq!(status.logs[0].msg, b"content\n");
        let ids: Vec<&str> = status.statuses.iter().map(|s| s.id.as_str()).collect();
        assert!(ids.contains(&"transferring context:") && ids.contains(&"naming to docker.io/library/x:1"));
        client.settled().await;
    });
}

#[test]
fn a_client_that_drives_the_build_itself_gets_references() {
    run(async {
        let client = Client::new();
        client.files("dockerfile", &[file("Dockerfile", "FROM busybox\nRUN echo parent > p\n")]);
        let pong = client.gateway("g1", frontend::PingRequest {});
        let waiting = client.begin("g1", &[], &[("moby", "parent")]);
        let caps = client.bridge().ping(pong).await.unwrap().into_inner().frontend_api_caps;
        assert!(caps.iter().any(|cap| cap.id == "return" && cap.enabled));
        let request = frontend::SolveRequest { frontend: "dockerfile.v0".into(), ..Default::default() };
        let solved = client.bridge().solve(client.gateway("g1", request)).await.unwrap().into_inner();
        let Some(frontend::result::Result::Ref(parent)) = solved.result.clone().unwrap().result else {
            panic!()
        };

        // A second build begins with the first one's result.
        client.files("dockerfile", &[file("Dockerfile", "FROM base\nRUN cat p\n")]);
        let child_waits = client.begin("g2", &[], &[("moby", "child")]);
        let request = frontend::SolveRequest {
            frontend: "dockerfile.v0".into(),
            frontend_opt: [("context:base".to_owned(), "input:in".to_owned())].into(),
            frontend_inputs: [("in".to_owned(), parent.def.clone().unwrap())].into(),
            ..Default::default()
        };
        let child = client.bridge().solve(client.gateway("g2", request)).await.unwrap().into_inner();
        client.bridge().evaluate(frontend::EvaluateRequest { r#ref: parent.id }).await.unwrap();
        for (build, result) in [("g1", solved.result), ("g2", child.result)] {
            let returned = frontend::ReturnRequest { result, error: None };
            client.bridge().r#return(client.gateway(build, returned)).await.unwrap();
        }
        waiting.await.unwrap().unwrap();
        child_waits.await.unwrap().unwrap();
        let child = client.engine.root_of("docker.io/library/child");
        assert_eq!(std::fs::read_to_string(child.join("p")).unwrap(), "parent\n");
        assert_eq!(status(&client, "g2").await.logs[0].msg, b"parent\n");
        client.settled().await;
    });
}

#[test]
fn an_error_that_a_client_returns_is_the_answer_to_its_request() {
    run(async {
        let client = Client::new();
        let waiting = client.begin("e1", &[], &[]);
        let error = Some(rpc::Status { code: 2, message: "from the client".into(), details: Vec::new() });
        let returned = frontend::ReturnRequest { result: None, error };
        client.bridge().r#return(client.gateway("e1", returned)).await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap_err().message(), "from the client");
    });
}

#[test]
fn errors_are_buildkits_and_name_the_lines() {
    run(async {
        let client = Client::new();
        for (build, text, message) in [
            (
                "f1",
                "FROM busybox\nRUN false\n",
                "process \"/bin/sh -c false\" did not complete successfully: exit code: 1",
            ),
            (
                "f2",
                "FROM busybox\nRUNN x\n",
                "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
            ),
        ] {
            client.files("dockerfile", &[file("Dockerfile", text)]);
            let error = client.solve(build, &[], &[]).await.unwrap_err();
            assert_eq!((error.code(), error.message()), (Code::Unknown, message));
            let detail = rpc::Status::decode(error.details()).unwrap().details.remove(0);
            let value: serde_json::Value = serde_json::from_slice(&detail.value).unwrap();
            assert_eq!(value["ranges"][0]["start"]["line"], 2);
        }
        assert_eq!(
            status(&client, "f1").await.vertexes.last().unwrap().error.split(' ').next(),
            Some("process")
        );
        client.files("dockerfile", &[]);
        let error = client.solve("f3", &[("filename", "sub/Other")], &[]).await.unwrap_err();
        let message = "failed to read dockerfile: open sub/Other: no such file or directory";
        assert_eq!(error.message(), message);
        client.files("dockerfile", &[file("Dockerfile", "FROM missing\nCOPY . /")]);
        let error = client.solve("f4", &[], &[]).await.unwrap_err();
        assert_eq!(error.message(), "missing: pull access denied");
        assert!(!begun(&status(&client, "f4").await).contains(&"[internal] load build context"));
        client.files("dockerfile", &[file("Dockerfile", "FROM busybox")]);
        let error = client.solve("f5", &[], &[("moby", "refused")]).await.unwrap_err();
        assert_eq!(error.message(), "invalid reference format");
        let error = client.solve("f6", &[], &[("oci", "")]).await.unwrap_err();
        assert_eq!(error.message(), "exporter \"oci\" could not be found");
        client.settled().await;
    });
}

#[test]
fn a_context_that_cannot_be_had_fails_its_step_in_plain_words() {
    run(async {
        let client = Client::new();
        let url = "https://h.example/r.git";
        let error = client.solve("c1", &[("context", url)], &[]).await.unwrap_err();
        let step = status(&client, "c1").await.vertexes.pop().unwrap();
        assert_eq!(step.name, format!("[internal] load git source {url}"));
        assert_eq!(step.error, "no route to https://h.example/r.git");
        assert_eq!(
            error.message(),
            "failed to read dockerfile: failed to load cache key: no route to https://h.example/r.git"
        );
        let upload = [("context", "http://buildkit-session/none")];
        let error = client.solve("c2", &upload, &[]).await.unwrap_err();
        let step = status(&client, "c2").await.vertexes.pop().unwrap();
        assert_eq!(step.error, error.message());
    });
}

#[test]
fn what_is_wrong_with_an_instruction_is_said_before_any_step() {
    run(async {
        let client = Client::new();
        for (number, text, message, line, last) in [
            (
                1,
                "FROM busybox\nRUN x\nEXPOSE x\n",
                "invalid containerPort: x",
                Some(3),
                "[internal] load .dockerignore",
            ),
            (
                2,
                "FROM busybox\nRUN x\nCOPY --from=9 f /\n",
                "invalid stage index 9",
                None,
                "[internal] load build definition from Dockerfile",
            ),
            (
                3,
                "FROM busybox\nRUN x\nCOPY --from=none f /\n",
                "none: pull access denied",
                Some(3),
                "[internal] load metadata for docker.io/library/none:latest",
            ),
        ] {
            client.files("dockerfile", &[file("Dockerfile", text)]);
            client.files("context", &[]);
            let name = format!("w{number}");
            let error = client.solve(&name, &[], &[]).await.unwrap_err();
            assert_eq!(error.message(), message);
            let line_of = |details: &[u8]| {
                let detail = rpc::Status::decode(details).unwrap().details.into_iter().next()?;
                let value: serde_json::Value = serde_json::from_slice(&detail.value).unwrap();
                value["ranges"][0]["start"]["line"].as_u64()
            };
            assert_eq!(line_of(error.details()), line, "{text}");
            assert_eq!(begun(&status(&client, &name).await).last().unwrap(), &last);
        }
        let text = "FROM busybox\nCOPY --from=triggers etc/name /n\nCOPY <<a <<b /d/\n1\na\n2\nb\n";
        client.files("dockerfile", &[file("Dockerfile", text)]);
        client.solve("w4", &[], &[]).await.unwrap();
        let status = status(&client, "w4").await;
        assert_eq!(
            begun(&status)[1..],
            [
                "[internal] load metadata for docker.io/library/busybox:latest",
                "[internal] load metadata for docker.io/library/triggers:latest",
                "[internal] load .dockerignore",
                "[stage-0 1/3] FROM docker.io/library/busybox:latest",
                "FROM docker.io/library/triggers:latest",
                "[stage-0 2/3] COPY --from=triggers etc/name /n",
                "[internal] preparing inline document",
                "[internal] preparing inline document",
                "[stage-0 3/3] COPY <<a <<b /d/",
            ]
        );
        client.settled().await;
    });
}

#[test]
fn secrets_contexts_and_triggers_come_from_the_client() {
    run(async {
        let client = Client::new();
        let text = "FROM triggers\nCOPY --from=o o /o\n\
                    RUN --mount=type=secret,id=s cat run/secrets/s from-trigger o\n";
        client.files("dockerfile", &[file("Dockerfile", text)]);
        client.files("context", &[file("f", "F\n")]);
        client.files("other", &[file("o", "O\n")]);
        client.secret("s", b"S\n");
        client.solve("s1", &[("context:o", "local:other")], &[]).await.unwrap();
        let logs: Vec<u8> = status(&client, "s1").await.logs.into_iter().flat_map(|log| log.msg).collect();
        assert_eq!(logs, b"S\nF\nO\n");
        assert_eq!(client.excludes("context"), Vec::<String>::new());
        client.files("context", &[file(".dockerignore", "*.o\n# x\n!keep.o\n"), file("f", "F")]);
        client.files("dockerfile", &[file("Dockerfile", "FROM busybox\nCOPY f /f")]);
        client.solve("s2", &[], &[]).await.unwrap();
        assert_eq!(client.excludes("context"), ["*.o", "!keep.o"]);
        client.settled().await;
    });
}

#[test]
fn files_go_to_the_client() {
    run(async {
        let client = Client::new();
        client.files("dockerfile", &[file("Dockerfile", "FROM scratch\nCOPY f /d/f\n")]);
        client.files("context", &[file("f", "content")]);
        client.solve("o1", &[], &[("local", "")]).await.unwrap();
        assert_eq!(
            client.received(),
            [("d".to_owned(), String::new()), ("d/f".to_owned(), "content".to_owned())]
        );
        client.settled().await;
    });
}

#[test]
fn hostile_files_end_the_build_and_nothing_else() {
    run(async {
        let client = Client::new();
        client.files("dockerfile", &[file("Dockerfile", "FROM busybox\nCOPY . /all\n")]);
        for (number, (packets, message)) in hostile().into_iter().enumerate() {
            client.packets("context", packets);
            let error = client.solve(&format!("h{number}"), &[], &[]).await.unwrap_err();
            assert!(error.message().contains(message), "{number}: {}", error.message());
        }
        client.files("context", &[file("f", "content")]);
        client.solve("h", &[], &[]).await.unwrap();
        client.settled().await;
    });
}

#[test]
fn a_client_that_goes_away_ends_its_build() {
    run(async {
        let client = Client::new();
        client.files("dockerfile", &[file("Dockerfile", "FROM busybox\nRUN echo on; sleep 100\n")]);
        let waiting = client.begin_with("c1", &[], &[], "dockerfile.v0");
        let request = StatusRequest { r#ref: "c1".into() };
        let mut stream = client.control().status(request).await.unwrap().into_inner();
        while stream.message().await.unwrap().unwrap().logs.is_empty() {}
        waiting.abort();
        client.settled().await;
        let request = BuildHistoryRequest { early_exit: true, ..Default::default() };
        let mut history = client.control().listen_build_history(request).await.unwrap().into_inner();
        let record = history.message().await.unwrap().unwrap().record.unwrap();
        assert_eq!((record.r#ref.as_str(), record.error.unwrap().code), ("c1", 1));
        assert!(history.message().await.unwrap().is_none());
    });
}

#[test]
fn commands_get_no_more_than_is_granted() {
    run(async {
        let client = Client::new();
        client.files("dockerfile", &[file("Dockerfile", "FROM busybox\nRUN --network=host true\n")]);
        let error = client.solve("p1", &[], &[]).await.unwrap_err();
        assert_eq!(error.message(), "failed to load LLB: network.host is not allowed");
        client.grant(&["network.host"]);
        client.solve("p2", &[], &[]).await.unwrap();
        client.grant(&["network.host", "security.insecure"]);
        let error = client.solve("p3", &[], &[]).await.unwrap_err();
        let message = "granting entitlement security.insecure is not allowed by build daemon configuration";
        assert_eq!(error.message(), message);
    });
}

#[test]
fn what_nobody_began_is_not_there() {
    run(async {
        let client = Client::new();
        let request = frontend::EvaluateRequest { r#ref: "missing".into() };
        assert_eq!(client.bridge().evaluate(request).await.unwrap_err().message(), "no such ref: missing");
        let request = Request::new(frontend::PingRequest {});
        assert!(client.bridge().ping(request).await.is_ok());
        let request = Request::new(frontend::SolveRequest::default());
        let error = client.bridge().solve(request).await.unwrap_err();
        assert_eq!(error.message(), "no buildid found in context");
        // Both wait for what might be about to begin.
        let mut control = client.control();
        let missing = control.status(StatusRequest { r#ref: "missing".into() });
        let (missing, nobody) = tokio::join!(missing, client.solve_as("nobody", "n1"));
        assert_eq!(missing.unwrap_err().code(), Code::NotFound);
        let error = nobody.unwrap_err();
        assert_eq!(error.message(), "no active session for nobody: context deadline exceeded");
    });
}

#[test]
fn connections_that_speak_something_else_end() {
    run(async {
        let buildkit = drydock_buildkit::BuildKit::new(engine::TestEngine::new());
        let headers = http::HeaderMap::new();
        let (_near, far) = tokio::io::duplex(1 << 16);
        let error = buildkit.serve_session(far, &headers).await.unwrap_err();
        assert_eq!(error.to_string(), "a session needs an id");
        for garbage in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0xff; 9000], b""] {
            let (mut near, far) = tokio::io::duplex(1 << 16);
            tokio::io::AsyncWriteExt::write_all(&mut near, garbage).await.unwrap();
            let mut reading = near;
            let drain = tokio::spawn(async move {
                let mut all = Vec::new();
                tokio::io::AsyncWriteExt::shutdown(&mut reading).await.unwrap();
                _ = tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut all).await;
            });
            _ = buildkit.serve_grpc(far).await;
            drain.await.unwrap();
            let (mut near, far) = tokio::io::duplex(1 << 16);
            let mut headers = http::HeaderMap::new();
            headers.insert("x-docker-expose-session-uuid", "x".parse().unwrap());
            tokio::io::AsyncWriteExt::write_all(&mut near, garbage).await.unwrap();
            drop(near);
            _ = buildkit.serve_session(far, &headers).await;
        }
    });
}
