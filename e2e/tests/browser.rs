//! The page in a real Chromium: start, type, edit, resume, share, ports, files, nodes, expiry, looks.

use drydock_e2e::{Browser, Server, browser::key, http::full, page_socket::FIRST, until};
use drydock_protocol::state::Role;
use serde_json::json;
use std::time::{Duration, Instant};

/// Presses Start on the start page; the session's id.
async fn start(browser: &Browser, server: &Server) -> String {
    browser.open_start(server).await;
    browser.click("start-button").await;
    browser.find("session-page").await;
    browser.until_prompt(1).await;
    let url = browser.url().await;
    let id = url.split("/s/").nth(1).unwrap_or_else(|| panic!("the address is {url}"));
    id.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// How often a text is in another.
fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn start_gives_a_prompt_and_commands_run() {
    let server = Server::shared();
    let browser = Browser::start().await;
    let id = start(&browser, &server).await;
    browser.run(1, "echo it $((40+2)) works; hostname; id -un").await;
    browser.until_terminal(1, "it 42 works").await;
    browser.until_terminal(1, "node1\nroot").await;
    assert!(browser.text("session-name").await.contains(&id));
    assert_eq!(browser.attr("session-page", "data-role").await.as_deref(), Some("own"));
    assert_eq!(browser.attr("node-node1", "data-power").await.as_deref(), Some("on"));
    assert!(browser.text("node-address-node1").await.contains("192.168.0.11"));
    // The owner's token is in no address bar, history or storage that a script can read.
    let leak: bool =
        browser.script("return /#t=|drydock=/.test(location.href + document.cookie)", vec![]).await;
    assert!(!leak);
    browser.screenshot("session-dark-or-light").await;
    browser.assert_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_reach_programs_as_on_a_terminal() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    // Special characters, completion, editing, history, Ctrl-C.
    browser.run(1, "echo 'ß→ $HOME' \"quo'ted\" > /root/typed.txt").await;
    browser.run(1, &format!("cat /root/typ{}", key::TAB)).await;
    browser.until_terminal(1, "\nß→ $HOME quo'ted").await;
    // As an input method gives it.
    browser.keys("echo [").await;
    browser.cdp("Input.insertText", json!({ "text": "日本🦀" })).await;
    browser.keys(&format!("]{}", key::ENTER)).await;
    browser.until_terminal(1, "\n[日本🦀]").await;
    browser.keys(&format!("echo fast{}{}{}", key::LEFT, key::LEFT, "e")).await;
    browser.keys(&key::ENTER.to_string()).await;
    browser.until_terminal(1, "\nfaest").await;
    browser.run(1, "sleep 1000").await;
    browser
        .until("sleep runs", async || {
            server.exec(&session.id, "node1", "pgrep -x sleep").await.status.success()
        })
        .await;
    browser.chord(&[key::CONTROL], 'c').await;
    browser.until_terminal(1, "^C").await;
    browser.until_prompt(1).await;
    // Pasted text comes in brackets, so that nothing runs before Enter.
    browser.script::<bool>("window.__drydock.term(1).paste('echo pas\\nted'); return true", vec![]).await;
    browser.until_terminal(1, "ted").await;
    browser.chord(&[key::CONTROL], 'c').await;
    let shown = browser.terminal(1).await;
    assert!(!shown.contains("command not found"), "{shown}");
    browser.assert_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vim_works() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.run(1, "vim /root/poem.txt").await;
    browser
        .until("vim is on the alternate screen", async || {
            browser.script("return window.__drydock.term(1).buffer.active.type === 'alternate'", vec![]).await
        })
        .await;
    browser.until_terminal(1, "poem.txt").await;
    browser.keys(&format!("iroses are red{}violets are blue{}", key::ENTER, key::ESCAPE)).await;
    browser.until_terminal(1, "violets are blue").await;
    browser.screenshot("vim").await;
    browser.keys(&format!(":wq{}", key::ENTER)).await;
    browser.until_prompt(1).await;
    let file = server.exec(&session.id, "node1", "cat /root/poem.txt").await.ok().text();
    assert_eq!(file, "roses are red\nviolets are blue\n");
    assert!(!browser.terminal(1).await.contains("violets"), "the screen is as before");
    browser.assert_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_resumes_without_lost_or_doubled_output() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.run(1, "for i in $(seq 200); do echo line-$i-; done").await;
    browser.until_terminal(1, "line-200-").await;
    browser.until_prompt(1).await;
    let before = browser.terminal(1).await;
    assert!(!browser.url().await.contains("t="), "the token does not stay in the address bar");

    browser.reload().await;
    browser.find("session-page").await;
    browser.until_prompt(1).await;
    assert_eq!(browser.terminal(1).await, before, "scroll-back and screen are as before");
    browser.run(1, "echo af''ter").await;
    browser.until_terminal(1, "\nafter").await;

    // In the middle of output.
    browser.run(1, "for i in $(seq 600); do echo tick-$i-; sleep 0.0005; done; echo fin''ished").await;
    browser.until_terminal(1, "tick-100-").await;
    browser.reload().await;
    browser.until_terminal(1, "finished").await;
    let text = browser.terminal(1).await;
    for i in [1, 50, 100, 300, 599, 600] {
        assert_eq!(count(&text, &format!("tick-{i}-")), 1, "tick-{i}-");
    }
    browser.assert_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_comes_back_and_keeps_what_was_typed() {
    let server = Server::start(&[]);
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.run(1, "echo be''fore").await;
    browser.until_terminal(1, "\nbefore").await;
    server.kill();
    browser.find("connection-banner").await;
    assert_ne!(browser.attr("connection-state", "data-state").await.as_deref(), Some("up"));
    browser.screenshot("connection-lost").await;
    browser.run(1, "echo kept-$((6*7))").await;
    server.start_again();
    browser.until_attr("connection-state", "data-state", "up").await;
    browser.gone("connection-banner").await;
    browser.until_terminal(1, "\nkept-42").await;
    let text = browser.terminal(1).await;
    assert_eq!((count(&text, "kept-42"), count(&text, "\nbefore")), (1, 1), "{text}");
    browser.assert_quiet(&["WebSocket connection", "ERR_CONNECTION_REFUSED"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_can_not_be_fetched_is_fetched_again() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    let lost_once = "window.workers = 0;
        window.Worker = class extends Worker {
            constructor(url, options) { super(window.workers++ ? url : '/lazy/lost.js', options) }
        }";
    browser.cdp("Page.addScriptToEvaluateOnNewDocument", json!({ "source": lost_once })).await;
    browser.open_session(&session.url).await;
    assert_eq!(browser.script::<u32>("return window.workers", vec![]).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_left_lets_go_and_comes_back() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.run(1, "echo be''fore").await;
    browser.until_terminal(1, "\nbefore").await;
    // The browser keeps the page, frozen, for its Back button; frozen pages must not hold the terminal of others.
    browser.open(&server.url()).await;
    browser.find("start-page").await;
    let path = format!("/sessions/{}", session.id);
    let viewers = async || {
        let shown: drydock_protocol::api::Session = server.get(&path, &session.token).await.json();
        shown.state.map_or(0, |s| s.viewers.len())
    };
    until("nobody looks any more", async || viewers().await == 0).await;
    let mut page = server.page_at_prompt(&session.id, &session.token, "other").await;
    page.input(FIRST, "seq $((50*1000)); echo mean''while\n").await;
    page.until_seen(FIRST, "meanwhile\r\n").await;
    drop(page);
    browser.driver().back().await.unwrap();
    browser.until_attr("connection-state", "data-state", "up").await;
    browser.until_terminal(1, "\nmeanwhile").await;
    browser.run(1, "echo af''ter").await;
    browser.until_terminal(1, "\nafter").await;
    browser.assert_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_viewer_sees_all_and_types_nothing() {
    let server = Server::shared();
    let session = server.session().await;
    let owner = Browser::start().await;
    owner.open_session(&session.url).await;
    owner.run(1, "echo early-$((1+1))").await;
    owner.until_terminal(1, "early-2").await;
    // The owner makes the link in the page.
    owner.click("share").await;
    owner.find("share-dialog").await;
    owner.screenshot("share").await;
    owner.click("share-create").await;
    let link = owner.find("share-url").await;
    let url = match link.prop("value").await.unwrap().filter(|v| !v.is_empty()) {
        Some(url) => url,
        None => link.text().await.unwrap(),
    };
    assert!(url.contains("#t="), "{url}");
    owner.find("share-qr").await;
    owner.screenshot("share-link").await;

    let viewer = Browser::start().await;
    viewer.open_session(&url).await;
    viewer.find("view-badge").await;
    assert_eq!(viewer.attr("session-page", "data-role").await.as_deref(), Some("view"));
    viewer.until_terminal(1, "early-2").await;
    for testid in ["share", "end-session", "add-node", "new-tab", "toggle-files", "power-node1"] {
        assert!(!viewer.shows(testid).await, "a viewer has no {testid}");
    }
    viewer.focus_terminal(1).await;
    viewer.keys(&format!("touch /root/forbidden{}", key::ENTER)).await;
    owner.keys(&key::ESCAPE.to_string()).await;
    owner.gone("share-dialog").await;
    owner.run(1, "ls /root/forbid*; echo late-$((1+2))").await;
    viewer.until_terminal(1, "late-3").await;
    viewer.until_terminal(1, "cannot access").await;
    assert!(!viewer.terminal(1).await.contains("touch"));
    viewer.screenshot("viewer").await;
    owner.until("two viewers are told", async || owner.text("viewers").await.starts_with('2')).await;

    // Revoked, the viewer is shown out.
    owner.click("share").await;
    let path = format!("/sessions/{}/links", session.id);
    let links: Vec<drydock_protocol::api::Link> = server.get(&path, &session.token).await.json();
    let link = links.iter().find(|l| l.role == Role::View).expect("a view link");
    owner.click(&format!("revoke-{}", link.id)).await;
    if owner.shows("share-dialog").await && !viewer.shows("problem").await {
        // A second click confirms, where the button asks.
        let confirm = owner.find(&format!("revoke-{}", link.id)).await;
        drop(confirm.click().await);
    }
    viewer.find("problem").await;
    viewer.until_attr("problem", "data-kind", "forbidden").await;
    viewer.screenshot("forbidden").await;
    owner.assert_quiet(&[]).await;
    viewer.assert_quiet(&["status of 403"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_appears_by_itself_and_opens() {
    let server = Server::shared();
    let session = server.session().await;
    server
        .upload(&session, "/root/server.pl", full(&include_bytes!("fixtures/server.pl")[..]))
        .await
        .has(204);
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.run(1, "perl server.pl 0.0.0.0 8000 &").await;
    let chip = browser.find("port-node1-8000").await;
    browser.screenshot("port").await;
    chip.click().await.unwrap();
    browser.until("a second tab", async || browser.driver().windows().await.unwrap().len() == 2).await;
    let windows = browser.driver().windows().await.unwrap();
    browser.driver().switch_to_window(windows[1].clone()).await.unwrap();
    browser
        .until("the node's page", async || browser.driver().title().await.is_ok_and(|t| t == "from the node"))
        .await;
    let url = browser.url().await;
    assert!(
        url.starts_with(&format!("http://node1-8000-{}-", session.id)) && url.contains(".localhost:"),
        "{url}"
    );
    // The node's page is a site of its own, can talk to its server, and cannot reach the session.
    let answer: String = browser
        .script_async(
            "const done = arguments[0]; const s = new WebSocket(location.href.replace('http', 'ws'));\
             s.onopen = () => s.send('hello'); s.onmessage = e => done(e.data); s.onerror = () => done('failed');",
            vec![],
        )
        .await;
    assert_eq!(answer, "HELLO");
    let reached: String = browser
        .script_async(
            "const done = arguments[1]; fetch(arguments[0], {credentials: 'include'}).then(r => done('read ' + r.status), () => done('refused'));",
            vec![json!(format!("{}/api/v1/sessions/{}", server.url(), session.id))],
        )
        .await;
    assert_eq!(reached, "refused");
    browser.driver().close_window().await.unwrap();
    browser.driver().switch_to_window(windows[0].clone()).await.unwrap();
    browser.run(1, "kill %1").await;
    browser.gone("port-node1-8000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_uploaded_edited_and_deleted() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.click("toggle-files").await;
    browser.find("files").await;

    let here = server.scratch();
    let path = here.path().join("upload.txt");
    std::fs::write(&path, "from my disk\n").unwrap();
    let big = here.path().join("big.bin");
    std::fs::write(&big, vec![7; 20 << 20]).unwrap();
    let input = browser.driver().find(thirtyfour::By::Css("[data-testid='upload-input']")).await.unwrap();
    input.send_keys(format!("{}\n{}", path.display(), big.display())).await.unwrap();
    browser.find("file-upload.txt").await;
    browser.find("file-big.bin").await;
    let size = async || server.exec(&session.id, "node1", "cat upload.txt; stat -c %s big.bin").await.text();
    until("both are whole", async || size().await == "from my disk\n20971520\n").await;
    browser.screenshot("files").await;
    browser.assert_accessible("the files dock").await;

    browser.click("edit-upload.txt").await;
    browser.find("editor").await;
    let focused =
        async || browser.script("return !!document.activeElement.closest('.cm-editor')", vec![]).await;
    browser.until("the editor has the focus", focused).await;
    browser.keys("edited in the page, ").await;
    browser.screenshot("editor").await;
    browser.assert_accessible("the editor").await;
    browser.click("editor-save").await;
    let read = async || server.exec(&session.id, "node1", "cat upload.txt").await.text();
    until("it is saved", async || read().await == "edited in the page, from my disk\n").await;

    // Changed by somebody else meanwhile: nothing is overwritten unasked.
    browser.until("the editor has the focus again", focused).await;
    browser.keys("again ").await;
    server.exec(&session.id, "node1", "echo other > upload.txt").await.ok();
    browser.click("editor-save").await;
    browser.find("editor-conflict").await;
    browser.screenshot("editor-conflict").await;
    assert_eq!(read().await, "other\n");
    browser.click("editor-close").await;
    browser.assert_quiet(&["status of 409"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_terminals_and_splits() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.click("add-node").await;
    browser.until_attr("node-node2", "data-power", "on").await;
    // The new node's first terminal opens by itself.
    browser.until_prompt(2).await;
    browser.run(2, "echo on-$(hostname)").await;
    browser.until_terminal(2, "on-node2").await;
    browser.run(2, "ping -c1 node1 | tail -2 | head -1").await;
    browser.until_terminal(2, "0% packet loss").await;

    // Splits: each has its own size, and the program is told.
    browser.find("tab-1").await.click().await.unwrap();
    let width = async |id: u32| {
        browser.script::<u32>("return window.__drydock.term(arguments[0]).cols", vec![json!(id)]).await
    };
    let whole = width(2).await;
    browser.click("split-right").await;
    browser.until_prompt(3).await;
    browser.until("it is narrower", async || width(3).await < whole * 2 / 3).await;
    browser.run(3, "echo cols-$(tput cols)-").await;
    let cols = width(3).await;
    browser.until_terminal(3, &format!("cols-{cols}-")).await;
    browser.screenshot("split").await;
    browser.assert_accessible("a split session").await;

    // A reload keeps the arrangement.
    browser.reload().await;
    browser.until_prompt(3).await;
    browser.until("it is as wide as before", async || width(3).await == cols).await;

    // The shell ends: its status is shown and a new one can be started.
    browser.run(3, "exit 5").await;
    assert!(browser.text("exit-3").await.contains('5'));
    browser.screenshot("exited").await;
    browser.click("restart-3").await;
    browser.until_prompt(4).await;

    // A node that is switched off keeps its disk.
    browser.click("tab-2").await;
    browser.run(2, "echo precious > /root/kept; echo written-$((1+1))").await;
    browser.until_terminal(2, "written-2").await;
    browser.click("power-node2").await;
    browser.until_attr("node-node2", "data-power", "off").await;
    browser.screenshot("node-off").await;
    browser.click("power-node2").await;
    browser.until_attr("node-node2", "data-power", "on").await;
    assert_eq!(server.exec(&session.id, "node2", "cat /root/kept").await.ok().text(), "precious\n");
    browser.assert_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_shown_with_a_way_on() {
    let server = Server::shared();
    let session = server.create(json!({ "playground": "linux", "ttl_seconds": 6 })).await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.until_attr("countdown", "data-urgency", "now").await;
    browser.find("extend").await;
    browser.screenshot("last-seconds").await;
    browser.until_attr("problem", "data-kind", "ended").await;
    browser.screenshot("ended").await;
    browser.assert_accessible("the page of an ended session").await;
    assert!(browser.text("problem").await.contains("time was over"), "{}", browser.text("problem").await);
    // A reload says the same; the way on leads to a new session.
    browser.reload().await;
    browser.until_attr("problem", "data-kind", "ended").await;
    assert!(browser.text("problem").await.contains("time was over"), "{}", browser.text("problem").await);
    browser.click("start-again").await;
    browser.find("session-page").await;
    browser.until_prompt(1).await;
    assert!(!browser.url().await.contains(session.id.as_str()));

    // Other ways to have no session.
    browser.open(&format!("{}/s/aaaaaaaaaa#t=nonsense", server.url())).await;
    browser.until_attr("problem", "data-kind", "forbidden").await;
    browser.open(&format!("{}/no/such/page", server.url())).await;
    browser.until_attr("problem", "data-kind", "no-page").await;
    browser.screenshot("no-page").await;
    browser.click("to-start").await;
    browser.find("start-page").await;
    browser.assert_quiet(&["status of 410", "status of 403", "status of 404"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_extends_and_ends() {
    let server = Server::shared();
    let session = server.create(json!({ "playground": "linux", "ttl_seconds": 200 })).await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    let left = async || {
        browser.attr("countdown", "data-seconds").await.and_then(|s| s.parse::<u64>().ok()).unwrap_or(0)
    };
    assert!((100..=200).contains(&left().await));
    browser.click("extend").await;
    browser.until("more time", async || left().await > 1000).await;
    browser.click("end-session").await;
    browser.find("end-dialog").await;
    browser.screenshot("end-dialog").await;
    browser.assert_accessible("the end dialog").await;
    browser.click("end-cancel").await;
    browser.gone("end-dialog").await;
    browser.click("end-session").await;
    browser.click("end-confirm").await;
    browser.until("the session page goes", async || !browser.shows("session-page").await).await;
    server.get(&format!("/sessions/{}", session.id), &session.token).await.refused(410, "session_ended");
    browser.assert_quiet(&["status of 410"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_host_shows_the_queue() {
    let server = Server::start(&["--max-sessions", "1"]);
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_start(&server).await;
    browser.click("start-button").await;
    browser.find("queue").await;
    assert_eq!(browser.attr("queue-place", "data-place").await.as_deref(), Some("1"));
    browser.screenshot("queue").await;
    browser.assert_accessible("the queue").await;
    server.end(&session).await;
    browser.find("session-page").await;
    browser.until_prompt(1).await;
    browser.assert_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_themes_are_accessible_and_fit_small_screens() {
    let server = Server::shared();
    let session = server.create(json!({ "playground": "linux", "nodes": 2 })).await;
    let browser = Browser::start().await;
    for theme in ["light", "dark"] {
        browser.prefer(theme).await;
        for (width, height) in [(1280, 800), (320, 640)] {
            browser.resize(width, height).await;
            browser.open_start(&server).await;
            browser.until("the host's figures", async || !browser.text("host-info").await.is_empty()).await;
            browser.screenshot(&format!("start-{theme}-{width}")).await;
            browser.assert_accessible(&format!("the start page, {theme}, {width} px")).await;
            browser.assert_fits(&format!("the start page, {theme}, {width} px")).await;

            browser.open_session(&session.url).await;
            browser.run(1, "clear; ls --color=always -la / | head -12").await;
            browser.until_terminal(1, "total").await;
            browser.until_prompt(1).await;
            browser.screenshot(&format!("session-{theme}-{width}")).await;
            browser.assert_accessible(&format!("the session page, {theme}, {width} px")).await;
            browser.assert_fits(&format!("the session page, {theme}, {width} px")).await;
            if width == 320 {
                for area in ["area-nodes", "area-files", "area-terminals"] {
                    browser.click(area).await;
                    browser.screenshot(&format!("session-{theme}-{width}-{area}")).await;
                    browser.assert_accessible(&format!("{area}, {theme}")).await;
                    browser.assert_fits(&format!("{area}, {theme}")).await;
                }
            }
        }
    }
    browser.assert_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dialogs_are_accessible_and_work_by_keyboard() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    for (button, dialog) in
        [("share", "share-dialog"), ("keyboard-map", "keyboard-sheet"), ("settings", "settings-dialog")]
    {
        for theme in ["light", "dark"] {
            browser.prefer(theme).await;
            browser.click(button).await;
            browser.find(dialog).await;
            browser.screenshot(&format!("{dialog}-{theme}")).await;
            browser.assert_accessible(dialog).await;
            browser.keys(&key::ESCAPE.to_string()).await;
            browser.gone(dialog).await;
        }
    }
    // Tab goes to the shell; Ctrl+Shift+Escape leaves the terminal, as its label says.
    browser.focus_terminal(1).await;
    let inside = "return !!document.activeElement.closest('.term-pane')";
    browser.keys(&key::TAB.to_string()).await;
    assert!(browser.script::<bool>(inside, vec![]).await);
    browser.chord(&[key::CONTROL, key::SHIFT], key::ESCAPE).await;
    browser
        .until("the focus leaves the terminal", async || !browser.script::<bool>(inside, vec![]).await)
        .await;
    let label: String =
        browser.script("return window.__drydock.term(1).textarea.getAttribute('aria-label')", vec![]).await;
    assert!(label.contains("node1") && label.contains("Escape"), "{label}");
    browser.assert_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_leaves_the_page_alive() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.run(1, "yes flood").await;
    browser
        .until("5000 lines", async || {
            browser.script("return window.__drydock.term(1).buffer.active.length > 5000", vec![]).await
        })
        .await;
    // The page answers meanwhile, and Ctrl-C is heard.
    browser.click("settings").await;
    browser.find("settings-dialog").await;
    browser.keys(&key::ESCAPE.to_string()).await;
    browser.gone("settings-dialog").await;
    browser.focus_terminal(1).await;
    let pressed = Instant::now();
    browser.chord(&[key::CONTROL], 'c').await;
    browser.until_terminal(1, "^C").await;
    browser.until_prompt(1).await;
    assert!(pressed.elapsed() < Duration::from_secs(5), "{:?}", pressed.elapsed());
    browser.run(1, "echo ali''ve").await;
    browser.until_terminal(1, "\nalive").await;
    browser.assert_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_megabytes_arrive_to_their_end() {
    let server = Server::shared();
    let session = server.session().await;
    server.exec(&session.id, "node1", "yes 0123456789abcdefghijklmnopqrstuvwxyz | head -c 50000000 > big; echo >> big; echo last-line >> big").await.ok();
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.run(1, "cat big; echo end-$((1+1))").await;
    let end = Instant::now() + Duration::from_secs(60);
    while !browser.terminal_end(1, 50).await.contains("last-line\nend-2") {
        assert!(Instant::now() < end, "50 MB did not come within a minute; {}", browser.describe().await);
    }
    browser.cdp("HeapProfiler.collectGarbage", json!({})).await;
    let heap = browser.cdp("Runtime.getHeapUsage", json!({})).await;
    let held = heap["usedSize"].as_u64().unwrap() + heap["backingStorageSize"].as_u64().unwrap();
    assert!(held < 40 << 20, "the page holds {} MB: {heap}", held >> 20);
    browser.assert_quiet(&[]).await;
}

/// Everything that the engine of a node does shows on the page by itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_docker_view_follows_the_engine() {
    let server = Server::shared();
    let session = server.create(json!({ "playground": "docker", "nodes": 2 })).await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.until_prompt(1).await;
    browser.click("toggle-docker").await;
    assert!(browser.text("docker-help-node1").await.contains("docker run"));
    assert!(!browser.shows("node-containers-node1").await);

    let run =
        "docker run -d --name web -p 8080:80 busybox httpd -f -h /etc && docker create --name idle busybox";
    server.exec(&session.id, "node1", run).await.ok();
    browser.until_attr("container-web", "data-look", "good").await;
    browser.gone("docker-help-node1").await;
    let web = browser.text("container-web").await;
    assert!(web.contains("busybox") && web.contains("running") && web.contains(":8080"), "{web}");
    assert_eq!(browser.attr("container-idle", "data-look").await.as_deref(), Some("idle"));
    assert!(browser.text("docker-node1").await.contains("busybox:latest"));
    assert!(browser.text("node-containers-node1").await.contains("1 running"));
    assert!(browser.shows("docker-help-node2").await);

    // The keyboard's place stays while other things change.
    browser.find("open-node1-8080").await.focus().await.unwrap();
    server.exec(&session.id, "node1", "docker run --name failed busybox sh -c 'exit 3'").await;
    browser.until_attr("container-failed", "data-look", "bad").await;
    assert!(browser.text("container-failed").await.contains("exited (3)"));
    let focused = "return document.activeElement.dataset.testid";
    assert_eq!(browser.script::<String>(focused, vec![]).await, "open-node1-8080");

    let build = "printf 'FROM busybox\\nRUN sleep 6\\n' | docker build -t slow - > /dev/null 2>&1 &";
    browser.run(1, build).await;
    browser.until("the build is shown", async || browser.text("docker").await.contains("node1: build")).await;
    browser
        .until("the build has ended", async || {
            let docker = browser.text("docker").await;
            docker.contains("slow:latest") && !docker.contains("node1: build")
        })
        .await;

    for theme in ["light", "dark"] {
        browser.prefer(theme).await;
        for (width, height) in [(1280, 800), (320, 640)] {
            browser.resize(width, height).await;
            if width == 320 {
                browser.click("area-docker").await;
            }
            browser.screenshot(&format!("docker-{theme}-{width}")).await;
            browser.assert_accessible(&format!("the Docker view, {theme}, {width} px")).await;
            browser.assert_fits(&format!("the Docker view, {theme}, {width} px")).await;
        }
    }
    browser.resize(1280, 800).await;
    browser.click("open-node1-8080").await;
    browser.until("a second tab", async || browser.driver().windows().await.unwrap().len() == 2).await;
    server.exec(&session.id, "node1", "docker rm -f web").await.ok();
    browser.gone("container-web").await;
}
