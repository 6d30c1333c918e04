//! Who somebody is.

use super::*;
use crate::authn::service_account::{Bound, NewToken};
use crate::server::Server;
use crate::storage::encode;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

struct Fixture {
    server: Arc<Server>,
    _dir: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    let pair = rcgen::KeyPair::generate().expect("a key");
    std::fs::write(path("sa.key"), pair.serialize_pem()).expect("a file");
    std::fs::write(path("sa.pub"), pair.public_key_pem()).expect("a file");
    let options = Options {
        service_account_keys: vec![path("sa.pub")],
        service_account_signing_key: Some(path("sa.key")),
        bootstrap_tokens: true,
        ..Options::default()
    };
    let server = Server::new(Store::memory(), options).expect("a server");
    let account = object("ServiceAccount", "robot", "uid-1");
    put(&server, "/registry/serviceaccounts/default/robot", &account).await;
    Fixture { server, _dir: dir }
}

fn object(kind: &str, name: &str, uid: &str) -> Value {
    json!({"kind": kind, "apiVersion": "v1", "metadata": {"name": name, "namespace": "default", "uid": uid}})
}

async fn put(server: &Server, key: &str, tree: &Value) {
    let txn = drydock_etcd::Txn {
        then: vec![drydock_etcd::Op::put(key.to_string(), encode(tree))],
        ..drydock_etcd::Txn::default()
    };
    server.store.txn(txn).await.expect("a write");
}

fn ask(server: &Server, token: &str) -> Result<User, Status> {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().expect("a header"));
    let peer = Peer::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), []);
    server.authenticator.authenticate(&headers, &peer)
}

#[tokio::test]
async fn a_token_is_good_while_what_it_is_bound_to_is_there() {
    let fixture = fixture().await;
    let server = &fixture.server;
    let accounts = &server.authenticator.service_accounts;
    let account = object("ServiceAccount", "robot", "uid-1");
    let audiences = [accounts.issuer.clone()];
    let issue = |bound: Bound, seconds: i64| {
        let new = NewToken { account: &account, bound, audiences: &audiences, seconds, warn_after: None };
        accounts.issue(&new).expect("a token")
    };
    let plain = issue(Bound::default(), 600);
    let user = ask(server, &plain).expect("a good token");
    assert_eq!(user.name, "system:serviceaccount:default:robot");
    assert_eq!(
        user.groups,
        ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]
    );
    assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("JTI="));

    // Browsers show it as a subprotocol.
    let protocols = |token: &str| {
        let token = BASE64_URL_SAFE_NO_PAD.encode(token);
        format!("v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.{token}")
    };
    let shown = |protocols: &str| {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", protocols),
        ] {
            headers.insert(name, value.parse().expect("a header"));
        }
        let peer = Peer::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), []);
        server.authenticator.authenticate(&headers, &peer)
    };
    assert_eq!(shown(&protocols(&plain)).expect("a good token"), user);
    assert_eq!(shown(&protocols("nobody's")).expect_err("a bad one").code, 401);
    assert_eq!(shown("v5.channel.k8s.io").expect("nobody").name, "system:anonymous");

    let pod = Bound { pod: Some(("p".into(), "uid-2".into())), ..Bound::default() };
    let bound = issue(pod, 600);
    assert!(ask(server, &bound).is_err(), "there is no such pod");
    put(server, "/registry/pods/default/p", &object("Pod", "p", "uid-2")).await;
    let user = ask(server, &bound).expect("now there is");
    assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    put(server, "/registry/pods/default/p", &object("Pod", "p", "uid-3")).await;
    assert!(ask(server, &bound).is_err(), "it is another pod");

    assert!(ask(server, &issue(Bound::default(), -1)).is_err(), "it has expired");
    let mut forged = plain.clone();
    let middle = forged.find('.').expect("a dot") + 10;
    forged.replace_range(middle..=middle, if &forged[middle..=middle] == "A" { "B" } else { "A" });
    assert!(ask(server, &forged).is_err(), "it was changed");
    let other = vec!["vault".to_string()];
    assert_eq!(server.authenticator.token(&plain, &other), None);
    for hostile in ["", ".", "..", "a.b.c", "e30.e30.e30", &"x".repeat(100_000)] {
        assert!(ask(server, hostile).is_err());
    }
    put(server, "/registry/serviceaccounts/default/robot", &object("ServiceAccount", "robot", "uid-9")).await;
    assert!(ask(server, &plain).is_err(), "it is another account");
}

#[tokio::test]
async fn keys_are_told_so_that_others_can_check() {
    let fixture = fixture().await;
    let keys = fixture.server.authenticator.service_accounts.jwks();
    let key = &keys["keys"][0];
    assert_eq!((&key["kty"], &key["alg"], &key["crv"]), (&json!("EC"), &json!("ES256"), &json!("P-256")));
    assert_eq!(key["x"].as_str().map(str::len), Some(43));
}

#[tokio::test]
async fn bootstrap_tokens_are_secrets() {
    use base64::Engine;
    let fixture = fixture().await;
    let server = &fixture.server;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let mut secret = json!({
        "kind": "Secret", "apiVersion": "v1", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
        "data": {
            "token-id": encode("abcdef"), "token-secret": encode("0123456789abcdef"),
            "usage-bootstrap-authentication": encode("true"),
            "auth-extra-groups": encode("system:bootstrappers:kubeadm:default-node-token,system:masters"),
        },
    });
    let key = "/registry/secrets/kube-system/bootstrap-token-abcdef";
    put(server, key, &secret).await;
    let user = ask(server, "abcdef.0123456789abcdef").expect("a good token");
    assert_eq!(user.name, "system:bootstrap:abcdef");
    assert_eq!(
        user.groups,
        ["system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token", "system:authenticated"]
    );
    assert!(ask(server, "abcdef.0123456789abcdeg").is_err());
    secret["data"]["expiration"] = encode("2020-01-01T00:00:00Z").into();
    put(server, key, &secret).await;
    assert!(ask(server, "abcdef.0123456789abcdef").is_err());
}

#[tokio::test]
async fn acting_as_somebody_else_must_be_allowed() {
    let fixture = fixture().await;
    let authorizer = &fixture.server.authorizer;
    let admin = User { name: "admin".into(), groups: vec!["system:masters".into()], ..User::default() };
    let mut headers = HeaderMap::new();
    assert_eq!(impersonation::apply(authorizer, admin.clone(), &headers), Ok(admin.clone()));
    headers.insert("impersonate-user", "system:serviceaccount:default:robot".parse().expect("a header"));
    let acting = impersonation::apply(authorizer, admin.clone(), &headers).expect("it is allowed");
    assert_eq!(
        acting.groups,
        ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]
    );
    let jane = User { name: "jane".into(), ..User::default() };
    let refusal = impersonation::apply(authorizer, jane.clone(), &headers).expect_err("it is not");
    assert_eq!(
        refusal.message,
        "serviceaccounts \"robot\" is forbidden: User \"jane\" cannot impersonate resource \"serviceaccounts\" in API group \"\" \
         in the namespace \"default\""
    );
    headers.clear();
    headers.insert("impersonate-group", "g".parse().expect("a header"));
    assert_eq!(impersonation::apply(authorizer, admin, &headers).expect_err("as whom?").code, 500);
}

#[test]
fn a_certificate_tells_which_it_is() {
    let mut wanted = rcgen::CertificateParams::default();
    wanted.distinguished_name.push(rcgen::DnType::CommonName, "jane");
    wanted.distinguished_name.push(rcgen::DnType::OrganizationName, "devs");
    let made = wanted.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("a certificate");
    let user = certificate::user(made.der()).expect("a user");
    assert_eq!((user.name.as_str(), &user.groups[..]), ("jane", &["devs".to_string()][..]));
    let id = &user.extra["authentication.kubernetes.io/credential-id"][0];
    let digest = id.strip_prefix("X509SHA256=").expect("its kind");
    assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
}

#[tokio::test]
async fn nobody_may_be_kept_out() {
    let options = Options { anonymous: false, ..Options::default() };
    let server = Server::new(Store::memory(), options).expect("a server");
    let peer = Peer::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), []);
    let refused = server.authenticator.authenticate(&HeaderMap::new(), &peer).expect_err("nobody is let in");
    assert_eq!((refused.code, refused.message.as_str()), (401, "Unauthorized"));
}
