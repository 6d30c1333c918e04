//! Who may do what: one golden table. Each line is a request; the columns are the status codes that each asker gets.
//! A 2xx or a refusal that comes after the right was accepted (400, 404, 409, 426, …) means "may"; 403 means "may not".

use crate::harness::TestServer;
use drydock_protocol::api::Created;
use hyper::Method;

const TABLE: &str = "
request                                  nobody other view type own  revoked operator ended
GET    /sessions                            403   403  403  403 403      403      200   403
GET    /sessions/ID                         403   403  200  200 200      403      200   410
POST   /sessions/ID/enter                   403   403  204  204 204      403      403   410
POST   /sessions/ID/extend {seconds:0}      403   403  403  403 409      403      409   410
DELETE /sessions/ID/nodes/node9             403   403  403  403 404      403      404   410
POST   /sessions/ID/nodes/node9/power {on:true} 403 403 403 403 404      403      404   410
GET    /sessions/ID/links                   403   403  403  403 200      403      200   410
POST   /sessions/ID/links {role:'view'}     403   403  403  403 201      403      201   410
DELETE /sessions/ID/links/999               403   403  403  403 404      403      404   410
POST   /sessions/ID/kubeconfig              403   403  403  403 409      403      409   410
POST   /sessions/ID/ports/node1/80          403   403  403  200 200      403      200   410
GET    /sessions/ID/nodes/node1/files?path=/ 403  403  403  200 200      403      200   410
GET    /sessions/ID/nodes/node1/file?path=/x 403  403  403  404 404      403      404   410
PUT    /sessions/ID/nodes/node1/file?path=x 403   403  403  400 400      403      400   410
DELETE /sessions/ID/nodes/node1/file?path=/x 403  403  403  404 404      403      404   410
POST   /sessions/ID/nodes/node1/files/mkdir?path=/d 403 403 403 204 204  403      204   410
POST   /sessions/ID/nodes/node1/files/link {path:'/a',target:'b'} 403 403 403 204 204 403 204 410
POST   /sessions/ID/nodes/node1/files/rename {from:'/a',to:'/b'} 403 403 403 204 204 403 204 410
GET    /sessions/ID/registry                403   403  403  403 200      403      200   410
PUT    /sessions/ID/registry {logins:'list'} 403  403  403  403 403      403      200   410
GET    /registry/shared                     403   403  403  403 403      403      200   403
DELETE /registry/shared?image=shared/x:1    403   403  403  403 403      403      404   403
GET    /host                                200   200  200  200 200      200      200   200
GET    /playgrounds                         200   200  200  200 200      200      200   200
POST   /operator/stop                       403   403  403  403 403      403        -   403
POST   /sessions/ID/nodes                   403   403  403  403 201      403        -   410
DELETE /sessions/ID                         403   403  403  403   -      403      204   410
";

#[tokio::test(flavor = "multi_thread")]
async fn the_table_holds() {
    let t = TestServer::start(&["--session-nodes", "2"]).await;
    let (session, other, over) = (t.create().await, t.create().await, t.create().await);
    t.call(Method::DELETE, &format!("/sessions/{}", over.id), Some(&over.token), None).await;
    let (_, view) = t.link(&session, "view").await;
    let (_, typing) = t.link(&session, "type").await;
    let (number, revoked) = t.link(&session, "own").await;
    t.call(Method::DELETE, &format!("/sessions/{}/links/{number}", session.id), Some(&session.token), None)
        .await;

    let mut wrong = Vec::new();
    for line in TABLE.trim().lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (request, statuses) = words.split_at(words.len() - 8);
        let askers =
            [None, Some(&other.token), Some(&view), Some(&typing), Some(&session.token), Some(&revoked)];
        let mut got = Vec::new();
        for (asker, expected) in askers.iter().zip(statuses) {
            got.push(ask(&t, request, &session, asker.map(String::as_str), false, expected).await);
        }
        got.push(ask(&t, request, &session, None, true, statuses[6]).await);
        got.push(ask(&t, request, &over, Some(&over.token), false, statuses[7]).await);
        if got != statuses {
            wrong.push(format!("{}: {}", request.join(" "), got.join(" ")));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_revokes_the_link_that_they_are_here_by() {
    let t = TestServer::start(&[]).await;
    let session = t.create().await;
    let (second, token) = t.link(&session, "own").await;
    let path = format!("/sessions/{}/links", session.id);
    for (token, other) in [(&session.token, second), (&token, 1)] {
        let links: Vec<drydock_protocol::api::Link> =
            t.call(Method::GET, &path, Some(token), None).await.json();
        let own: Vec<u64> = links.iter().filter(|l| l.yours).map(|l| l.id).collect();
        assert!(own.len() == 1 && own[0] != other, "{links:?}");
        let answer = t.call(Method::DELETE, &format!("{path}/{}", own[0]), Some(token), None).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (409, "own_link"));
    }
    // The other one goes, and who holds it with it.
    let answer = t.call(Method::DELETE, &format!("{path}/{second}"), Some(&session.token), None).await;
    assert_eq!(answer.status, 204);
    assert_eq!(t.call(Method::GET, &path, Some(&token), None).await.status, 403);
}

async fn ask(
    t: &TestServer,
    request: &[&str],
    s: &Created,
    token: Option<&str>,
    operator: bool,
    expected: &str,
) -> String {
    if expected == "-" {
        return "-".into();
    }
    let method: Method = request[0].parse().unwrap();
    let path = request[1].replace("ID", s.id.as_str());
    // The table writes JSON without the quotes of its keys, and with single ones.
    let body = request.get(2).map(|text| {
        let text = text.replace('\'', "\"").replace('{', "{\"").replace(',', ",\"").replace(':', "\":");
        serde_json::from_str(&text).unwrap()
    });
    let answer = if operator {
        t.operator(method, &path, body).await
    } else {
        t.call(method, &path, token, body).await
    };
    answer.status.as_u16().to_string()
}
