//! Who may: passwords at our own registry, and tokens of a service.

mod common;

use axum::{
    body::Body,
    extract::Request,
    http::{Response, StatusCode, header},
    response::IntoResponse as _,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use common::*;
use drydock_registry::{
    AuthConfig, Kind, PullRequest, PushRequest,
    server::{Accounts, Action, Limits, Policy, Registry},
};
use std::sync::{Arc, Mutex};

fn accounts() -> Arc<dyn Policy> {
    Arc::new(Accounts::parse(&Accounts::line("ann", "secret").unwrap()))
}

#[tokio::test]
async fn a_registry_with_accounts() {
    let site = site_with(accounts(), Limits::default()).await;
    let name = format!("{}/app", site.domain);
    let log = Log::default();
    let push = async |auth: AuthConfig| {
        let (image, source) = image(&[noise(1, 1000)]);
        let request = PushRequest { auth, ..push_of(&name) };
        client().push(&request, image, &source, &log.events()).await
    };
    let pull = async |auth: AuthConfig| {
        client().pull(&PullRequest { auth, ..pull_of(&name) }, &Memory::default(), &log.events()).await
    };
    assert_eq!(push(AuthConfig::default()).await.unwrap_err().to_string(), "no basic auth credentials");
    let refused = push(auth("ann", "guess")).await.unwrap_err();
    assert_eq!(refused.to_string(), "unauthorized: authentication required");
    push(auth("ann", "secret")).await.unwrap();

    let url = format!("http://{}/v2/app/manifests/latest", site.domain);
    let text = pull(AuthConfig::default()).await.unwrap_err().to_string();
    assert_eq!(text, format!("Head \"{url}\": no basic auth credentials"));
    let refused = pull(auth("ann", "guess")).await.unwrap_err();
    assert_eq!(
        (refused.to_string().as_str(), refused.kind()),
        ("unauthorized: authentication required", Kind::Unauthorized)
    );
    pull(auth("ann", "secret")).await.unwrap();
}

#[tokio::test]
async fn docker_login() {
    let site = site_with(accounts(), Limits::default()).await;
    let login = async |user: &str, password: &str| {
        client().login(&AuthConfig { serveraddress: site.domain.clone(), ..auth(user, password) }).await
    };
    let outcome = login("ann", "secret").await.unwrap();
    assert_eq!((outcome.status.as_str(), outcome.identity_token.as_str()), ("Login Succeeded", ""));
    for (user, password) in [("ann", "Secret"), ("bob", "secret")] {
        assert_eq!(
            login(user, password).await.unwrap_err().to_string(),
            format!("login attempt to http://{}/v2/ failed with status: 401 Unauthorized", site.domain)
        );
    }
}

/// Each has a folder; the quota is small.
struct Folders;

impl Policy for Folders {
    fn anonymous(&self) -> bool {
        false
    }
    fn check_password(&self, user: &str, password: &str) -> bool {
        user == password
    }
    fn allows(&self, user: Option<&str>, repository: &str, action: Action) -> bool {
        action == Action::Pull || repository.split('/').next() == user
    }
    fn quota(&self, _: &str) -> Option<u64> {
        Some(400_000)
    }
}

#[tokio::test]
async fn each_to_its_own_and_no_more_than_its_share() {
    let site = site_with(Arc::new(Folders), Limits::default()).await;
    let push = async |user: &str, name: &str, size: usize| {
        let (image, source) = image(&[noise(size as u64, size)]);
        let request = PushRequest { auth: auth(user, user), ..push_of(&format!("{}/{name}", site.domain)) };
        client().push(&request, image, &source, &Log::default().events()).await
    };
    push("ann", "ann/app", 250_000).await.unwrap();
    let foreign = push("bob", "ann/app", 10).await.unwrap_err();
    assert_eq!(foreign.to_string(), "denied: requested access to the resource is denied");
    let full = push("ann", "ann/other", 250_001).await.unwrap_err();
    assert!(full.to_string().starts_with("denied: the quota of this name is used up"), "{full}");
    push("bob", "bob/app", 250_001).await.unwrap();
    // Layers that come side by side share what is left.
    let (wide, source) = image(&[noise(1, 120_000), noise(2, 120_000), noise(3, 120_000), noise(4, 120_000)]);
    let request = PushRequest { auth: auth("cyd", "cyd"), ..push_of(&format!("{}/cyd/app", site.domain)) };
    let full = client().push(&request, wide, &source, &Log::default().events()).await.unwrap_err();
    assert!(full.to_string().starts_with("denied: the quota"), "{full}");
    assert!(site.registry.used("cyd").await.unwrap() <= 400_000 + 5 * 4096, "with the folders of its name");
    let used = site.registry.used("ann").await.unwrap();
    assert!((250_000..320_000).contains(&used), "{used}");
    let open = Registry::open(site.folder.path(), Arc::new(Folders), Limits::default()).unwrap();
    assert_eq!(open.used("ann").await.unwrap(), used, "counting again gives the same");
}

/// Puts a token service before a registry: anybody may pull `open`, `ann` may do everything.
async fn token_site(registry: &Registry) -> (String, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let domain = between(registry, move |request: Request, inner| {
        let log = Arc::clone(&log);
        async move {
            let host = request.headers()[header::HOST].to_str().unwrap().to_owned();
            if request.uri().path() == "/token" {
                return token(&request, &log);
            }
            let bearer = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
            let bearer = bearer.and_then(|v| v.strip_prefix("Bearer ")).unwrap_or_default();
            let path = request.uri().path();
            let right = match bearer {
                "all" => true,
                "nothing" => path == "/v2/" || path.starts_with("/v2/open/"),
                _ => false,
            };
            if right {
                return ask(inner, request).await;
            }
            let error = if bearer.is_empty() { "" } else { ",error=\"insufficient_scope\"" };
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"reg\"{error}");
            let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
            let headers =
                [(header::WWW_AUTHENTICATE, challenge), (header::CONTENT_TYPE, "application/json".into())];
            (StatusCode::UNAUTHORIZED, headers, body).into_response()
        }
    })
    .await;
    (domain, asked)
}

fn token(request: &Request, log: &Mutex<Vec<String>>) -> Response<Body> {
    log.lock().unwrap().push(request.uri().query().unwrap_or_default().to_owned());
    let ann = format!("Basic {}", BASE64_STANDARD.encode("ann:secret"));
    match request.headers().get(header::AUTHORIZATION).map(|v| v.to_str().unwrap().to_owned()) {
        None => r#"{"token":"nothing","expires_in":300}"#.into_response(),
        Some(given) if given == ann => r#"{"access_token":"all","refresh_token":"again"}"#.into_response(),
        Some(_) => {
            let body = r#"{"details":"incorrect username or password"}"#;
            (StatusCode::UNAUTHORIZED, [(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
    }
}

#[tokio::test]
async fn tokens() {
    let site = site().await;
    let (domain, asked) = token_site(&site.registry).await;
    let pull = async |name: &str, auth: AuthConfig| {
        let request = PullRequest { auth, ..pull_of(&format!("{domain}/{name}")) };
        client().pull(&request, &Memory::default(), &Log::default().events()).await
    };
    for name in ["open/app", "closed/app"] {
        let (image, source) = image(&[noise(2, 1000)]);
        let request = PushRequest { auth: auth("ann", "secret"), ..push_of(&format!("{domain}/{name}")) };
        client().push(&request, image, &source, &Log::default().events()).await.unwrap();
    }
    let query = asked.lock().unwrap()[0].clone();
    assert_eq!(query, "service=reg&scope=repository%3Aopen%2Fapp%3Apush%2Cpull&account=ann");
    assert_eq!(asked.lock().unwrap().len(), 2, "one token for a whole push");

    pull("open/app", AuthConfig::default()).await.unwrap();
    let closed = pull("closed/app", AuthConfig::default()).await.unwrap_err();
    assert_eq!(
        closed.to_string(),
        format!(
            "pull access denied for {domain}/closed/app, repository does not exist or may require 'docker login': \
             denied: requested access to the resource is denied"
        )
    );
    assert_eq!(closed.kind(), Kind::NotFound);
    pull("closed/app", auth("ann", "secret")).await.unwrap();
    let registry_token = AuthConfig { registrytoken: "all".into(), ..AuthConfig::default() };
    pull("closed/app", registry_token).await.unwrap();
    let wrong = pull("closed/app", auth("ann", "guess")).await.unwrap_err();
    assert!(wrong.to_string().ends_with(": unauthorized: incorrect username or password"), "{wrong}");
}

#[tokio::test]
async fn login_with_a_token_service() {
    let site = site().await;
    let (domain, asked) = token_site(&site.registry).await;
    let login = async |password: &str| {
        client().login(&AuthConfig { serveraddress: domain.clone(), ..auth("ann", password) }).await
    };
    assert_eq!(login("secret").await.unwrap().identity_token, "again");
    assert!(asked.lock().unwrap()[0].contains("offline_token=true"));
    let wrong = login("guess").await.unwrap_err();
    assert_eq!(
        wrong.to_string(),
        format!("Get \"http://{domain}/v2/\": unauthorized: incorrect username or password")
    );
    assert_eq!(wrong.kind(), Kind::Unauthorized);
}
