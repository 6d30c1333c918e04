//! Row D20 of the Docker part of the curriculum: WebAssembly images, by the official client in a node.

use drydock_e2e::Lab;
use std::time::{Duration, Instant};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

const RUN: &str = "docker run --rm --runtime io.containerd.wasmtime.v1 --platform wasi/wasm";

#[tokio::test]
async fn d20_webassembly() {
    let lab = Lab::docker(1).await;
    let runtimes = lab.sh("docker info --format '{{json .Runtimes}}'").await;
    assert!(runtimes.contains("io.containerd.wasmtime.v1"), "{runtimes}");
    let hello = lab.sh(&format!("{RUN} hello-wasm 2> /dev/null")).await;
    assert!(hello.contains("Hello from WebAssembly!"), "{hello}");
    let platform = "docker image inspect --format '{{.Os}}/{{.Architecture}}' hello-wasm";
    assert_eq!(lab.sh(platform).await, "wasi/wasm");

    assert_eq!(lab.sh(&format!("{RUN} hello-wasm args 'a b' c")).await, "/hello.wasm\nargs\na b\nc");
    let env = lab.sh(&format!("{RUN} -e NAME=value -h box hello-wasm env")).await;
    for line in ["NAME=value", "HOSTNAME=box", "HOME=/"] {
        assert!(env.lines().any(|l| l.starts_with(line)), "{line}: {env}");
    }
    assert_eq!(lab.sh(&format!("printf 'typed' | {RUN} -i hello-wasm cat")).await, "typed");
    lab.refused(&format!("{RUN} hello-wasm exit 7"), 7, "").await;
    lab.refused(&format!("{RUN} hello-wasm nonsense"), 2, "unknown word").await;

    // It sees its own root, and of the node what is mounted.
    assert_eq!(lab.sh(&format!("{RUN} -h box hello-wasm cat /etc/hostname")).await, "box");
    for absent in ["/etc/passwd", "/root/.bashrc", "../../etc/passwd", "/proc/1/root/../../etc/passwd"] {
        lab.refused(&format!("{RUN} hello-wasm cat {absent}"), 1, "open: error").await;
    }
    lab.sh("mkdir -p /data && echo mounted > /data/file").await;
    assert_eq!(lab.sh(&format!("{RUN} -v /data:/data hello-wasm cat /data/file")).await, "mounted");
    lab.sh(&format!("{RUN} -v /data:/data hello-wasm write /data/new written")).await;
    assert_eq!(lab.sh("cat /data/new").await, "written");
    lab.refused(&format!("{RUN} -v /data:/data:ro hello-wasm write /data/file x"), 1, "open: error").await;
    lab.refused(&format!("{RUN} --read-only hello-wasm write /file x"), 1, "open: error").await;

    // Limits and stop signals are those of any container.
    assert_eq!(lab.sh(&format!("{RUN} -m 64m hello-wasm grow 32")).await, "grown");
    lab.refused(&format!("{RUN} -m 64m hello-wasm grow 128"), 137, "").await;
    lab.sh("docker run -d --name wasm --runtime wasmtime --init=false hello-wasm wait").await;
    assert!(lab.sh("docker top wasm -o pid,comm,args").await.contains("/hello.wasm wait"));
    let began = Instant::now();
    lab.sh("docker stop -t 10 wasm").await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(
        lab.sh("docker inspect -f '{{.State.ExitCode}} {{.Platform}}' wasm; docker rm wasm").await,
        "143 wasi\nwasm"
    );
    assert_eq!(lab.sh(&format!("{RUN} --init --user 1000:1000 hello-wasm args")).await, "/hello.wasm\nargs");
    lab.end().await;
}

#[tokio::test]
async fn d20_the_program_outside_is_out_of_reach() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q --platform wasi/wasm hello-wasm").await;
    lab.sh("docker run -d --name wasm --runtime wasmtime hello-wasm wait").await;
    let pid = lab.sh("docker inspect -f '{{.State.Pid}}' wasm").await;
    // Root of the node may trace it, as any container, and still can't change what all sessions execute.
    for attempt in ["echo x >> /proc/PID/exe", "chmod 777 /proc/PID/exe", "chown 0 /proc/PID/exe"] {
        let output = lab.try_sh(&attempt.replace("PID", &pid)).await;
        assert!(!output.status.success(), "{attempt}");
    }
    // Nothing of the node is open in it but what it reads and writes, and the code.
    let open = lab.sh(&format!("readlink /proc/{pid}/fd/* | grep ^/ | sort -u")).await;
    let others: Vec<_> = open
        .lines()
        .filter(|l| *l != "/dev/null" && *l != "/dev/urandom" && !l.ends_with(".cwasm") && *l != "/")
        .collect();
    assert!(others.is_empty(), "{open}");
    // Code is compiled once; what is no code any more is compiled anew.
    assert_eq!(lab.sh("docker rm -f wasm > /dev/null; ls /var/lib/docker/wasm | wc -l").await, "1");
    lab.sh("for f in /var/lib/docker/wasm/*; do echo rubbish > $f; done").await;
    assert_eq!(lab.sh(&format!("{RUN} hello-wasm args")).await, "/hello.wasm\nargs");
    lab.sh("cd /var/lib/docker/wasm; f=$(ls); rm $f; mkfifo $f").await;
    assert_eq!(lab.sh(&format!("timeout 20 {RUN} hello-wasm args")).await, "/hello.wasm\nargs");
    lab.end().await;
}

#[tokio::test]
async fn d20_images_are_built_and_refused_by_platform() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q hello-wasm && docker create --name made hello-wasm && docker cp made:/hello.wasm /m.wasm && docker rm made")
        .await;
    lab.sh("mkdir /b && cp /m.wasm /b && printf 'FROM scratch\\nCOPY m.wasm /app/\\nWORKDIR /app\\nENTRYPOINT [\"m.wasm\"]\\n' > /b/Dockerfile")
        .await;
    for builder in ["DOCKER_BUILDKIT=0 ", ""] {
        lab.sh(&format!("{builder}docker build -q --platform wasi/wasm -t mine /b")).await;
        let platform = lab.sh("docker image inspect --format '{{.Os}}/{{.Architecture}}' mine").await;
        assert_eq!(platform, "wasi/wasm", "{builder}");
        assert_eq!(lab.sh(&format!("{RUN} mine args")).await, "m.wasm\nargs");
        lab.sh("docker rmi mine").await;
    }
    // A module that is mounted is compiled in the container.
    let mounted = format!("{RUN} -v /m.wasm:/other.wasm --entrypoint /other.wasm hello-wasm args");
    assert_eq!(lab.sh(&mounted).await, "/other.wasm\nargs");

    for runtime in ["io.containerd.wasmedge.v1", "io.containerd.spin.v2", "io.containerd.slight.v1"] {
        let words = format!("unknown or invalid runtime name: {runtime}");
        lab.refused(&format!("docker run --rm --runtime {runtime} hello-wasm"), 125, &words).await;
    }
    let other = "The requested image's platform (wasi/wasm) does not match the detected host platform";
    let started = "docker run --rm hello-wasm";
    lab.refused(started, 255, other).await;
    lab.refused(started, 255, "exec /hello.wasm: exec format error").await;
    let native = "docker run --rm --runtime io.containerd.wasmtime.v1 busybox true";
    lab.refused(native, 125, "runs images of the platform wasi/wasm").await;
    let missing = format!("{RUN} --entrypoint /none.wasm hello-wasm");
    lab.refused(&missing, 127, "no such file or directory").await;
    let rubbish = format!("{RUN} --entrypoint /etc/hosts hello-wasm");
    lab.refused(&rubbish, 125, "exec format error").await;
    lab.end().await;
}

/// Says hello and ends with status 3.
const HELLO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "hello\n")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 16))
        (i32.store (i32.const 4) (i32.const 6))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (call $exit (i32.const 3))))"#;

/// Answers every request with status 418 and nothing else.
const TEAPOT: &str = r#"(module
    (import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
    (import "wasi:http/types@0.2.0" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
    (import "wasi:http/types@0.2.0" "[method]outgoing-response.set-status-code"
        (func $status (param i32 i32) (result i32)))
    (import "wasi:http/types@0.2.0" "[static]response-outparam.set"
        (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
    (func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
        (local $response i32)
        (local.set $response (call $response (call $fields)))
        (drop (call $status (local.get $response) (i32.const 418)))
        (call $set (local.get $out) (i32.const 0) (local.get $response) (i32.const 0) (i64.const 0)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))"#;

/// A preview 1 module as a component of preview 2.
fn command_component() -> Vec<u8> {
    use wasi_preview1_component_adapter_provider as adapter;
    let encoder = ComponentEncoder::default().module(&wat::parse_str(HELLO).unwrap()).unwrap();
    let adapted = encoder.adapter(
        adapter::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
        adapter::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    );
    adapted.unwrap().encode().unwrap()
}

fn server_component() -> Vec<u8> {
    let mut wit = wit_parser::Resolve::default();
    let package = wit.push_str("answer.wit", include_str!("fixtures/wasm/answer.wit")).unwrap();
    let world = wit.select_world(&[package], Some("answer")).unwrap();
    let mut module = wat::parse_str(TEAPOT).unwrap();
    embed_component_metadata(&mut module, &wit, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

/// Makes an image of one module.
async fn image(lab: &Lab, name: &str, module: &[u8]) {
    let bytes: String = module.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    // Pieces that the kernel takes as arguments.
    lab.sh(&format!("mkdir /{name} && printf 'FROM scratch\\nCOPY m.wasm /\\nENTRYPOINT [\"/m.wasm\"]\\n' > /{name}/Dockerfile"))
        .await;
    for piece in bytes.as_bytes().chunks(60_000) {
        let piece = std::str::from_utf8(piece).expect("ASCII");
        lab.sh(&format!("printf '{piece}' >> /{name}/m.wasm")).await;
    }
    lab.sh(&format!("docker build -q --platform wasi/wasm -t {name} /{name}")).await;
}

#[tokio::test]
async fn d20_components_and_servers() {
    let lab = Lab::docker(1).await;
    image(&lab, "module", &wat::parse_str(HELLO).unwrap()).await;
    image(&lab, "component", &command_component()).await;
    image(&lab, "server", &server_component()).await;
    let trap = "(module (func (export \"_start\") unreachable))";
    image(&lab, "trap", &wat::parse_str(trap).unwrap()).await;
    // The first run compiles, the second does not. Preview 2 knows success and failure only.
    for _ in 0..2 {
        lab.refused(&format!("{RUN} module"), 3, "hello\n").await;
        lab.refused(&format!("{RUN} component"), 1, "hello\n").await;
    }
    lab.refused(&format!("{RUN} trap"), 134, "unreachable").await;
    lab.sh("docker run -d --name server -p 8080:8080 --runtime wasmtime server").await;
    lab.sh("docker run -d --name other -p 8081:81 -e WASMTIME_HTTP_PROXY_SOCKET_ADDR=0.0.0.0:81 --runtime wasmtime server")
        .await;
    for port in [8080, 8081] {
        let status = format!(
            "curl -s --retry 10 --retry-all-errors -o /dev/null -w '%{{http_code}}' localhost:{port}/"
        );
        assert_eq!(lab.sh(&status).await, "418");
    }
    lab.end().await;
}
