//! The connection of the page to its session: lost, resumed, left, shared with a second viewer.

use super::count;
use drydock_e2e::{Browser, Server, browser::key, page_socket::FIRST, until};
use drydock_protocol::state::Role;
use serde_json::json;

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

    // In the middle of output, of fewer lines than a session keeps: a slow page may come back when all of it is printed.
    browser.run(1, "for i in $(seq 400); do echo tick-$i-; sleep 0.005; done; echo fin''ished").await;
    browser.until_terminal(1, "tick-100-").await;
    browser.reload().await;
    browser.until_terminal(1, "finished").await;
    let text = browser.terminal(1).await;
    for i in [1, 50, 100, 300, 399, 400] {
        assert_eq!(count(&text, &format!("tick-{i}-")), 1, "tick-{i}- in {text}");
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
    browser.click("toggle-files").await;
    browser.find("file-.bashrc").await;
    server.kill();
    browser.find("connection-banner").await;
    browser.click("files-reload").await;
    browser.until("nothing is read", async || browser.text("files").await.contains("can't be reached")).await;
    assert_ne!(browser.attr("connection-state", "data-state").await.as_deref(), Some("up"));
    // All of it can be read at every width, and the bar keeps its buttons.
    let whole = "const banner = document.querySelector('[data-testid=connection-banner]'), words = banner.firstElementChild;\
        const box = words.getBoundingClientRect(), bar = document.querySelector('.top-bar').getBoundingClientRect();\
        const wide = (e) => e.scrollWidth <= e.clientWidth + 1;\
        return wide(banner) && box.width > 150 && box.left >= 0 && box.right <= innerWidth && box.top >= bar.bottom\
            && /session goes on; what you type is kept/.test(words.innerText)\
            && document.elementFromPoint(box.left + 20, box.top + 8).closest('.banner') === banner";
    let cursor = "const box = (selector) => document.querySelector(selector).getBoundingClientRect();\
        const [cursor, host] = [box('.xterm-cursor'), box('.term-host')];\
        return cursor.height > 0 && cursor.top >= host.top - 1 && cursor.bottom <= host.bottom + 1";
    for width in [1600, 1280, 1000, 700, 390, 320] {
        browser.resize(width, 640).await;
        browser.until("the cursor is in sight", async || browser.script::<bool>(cursor, vec![]).await).await;
        assert!(browser.script::<bool>(whole, vec![]).await, "the message at {width} px");
        browser.assert_fits(&format!("a lost connection, {width} px")).await;
        browser.screenshot(&format!("connection-lost-{width}")).await;
    }
    browser.resize(1280, 800).await;
    browser.run(1, "echo kept-$((6*7))").await;
    server.start_again();
    browser.until_attr("connection-state", "data-state", "up").await;
    browser.gone("connection-banner").await;
    browser.find("file-.bashrc").await;
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
async fn what_the_worker_tells_by_two_ways_keeps_its_order() {
    let server = Server::shared();
    let browser = Browser::start().await;
    browser.open_start(&server).await;
    let told = "const socket = new vendor.Socket(`ws://${location.host}/none`, 'none'), got = [];
        for (const type of ['open', 'message', 'close']) socket.addEventListener(type, e => got.push(type + (e.data ?? '')));
        const tell = (n, type, value) => socket.take({ n, type, value });
        tell(2, 'message', 'B'); tell(0, 'open'); tell(1, 'message', 'A'); tell(4, 'close', 1000); tell(3, 'message', 'C');
        tell(5, 'message', 'late');
        return got";
    let told: Vec<String> = browser.script(told, vec![]).await;
    assert_eq!(told, ["open", "messageA", "messageB", "messageC", "close"]);
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
    viewer
        .until("it is told", async || viewer.text("notices").await.contains("You can look here, not type"))
        .await;
    let drop = "const pane = document.querySelector('.term-pane'), dataTransfer = new DataTransfer();\
        dataTransfer.items.add(new File(['x'], 'dropped.txt'));\
        return !pane.dispatchEvent(new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer }))";
    assert!(viewer.script::<bool>(drop, vec![]).await);
    viewer
        .until("it is told", async || viewer.text("notices").await.contains("You can look here, not upload"))
        .await;
    owner.keys(&key::ESCAPE.to_string()).await;
    owner.gone("share-dialog").await;
    owner.run(1, "ls /root/forbid*; echo late-$((1+2))").await;
    viewer.until_terminal(1, "late-3").await;
    viewer.until_terminal(1, "cannot access").await;
    assert!(!viewer.terminal(1).await.contains("touch"));
    viewer.screenshot("viewer").await;
    owner.until("two viewers are told", async || owner.text("viewers").await.starts_with('2')).await;

    // Revoked, the viewer is shown out. With a link to type with the ports' addresses go, which is said before.
    server.link(&session, Role::Type, None).await;
    owner.click("share").await;
    assert!(owner.text("revoke-hint").await.contains("new addresses"));
    let path = format!("/sessions/{}/links", session.id);
    let links: Vec<drydock_protocol::api::Link> = server.get(&path, &session.token).await.json();
    let link = links.iter().find(|l| l.role == Role::View).expect("a view link");
    // The owner's own right can't be revoked here.
    let own = links.iter().find(|l| l.role == Role::Own).expect("the owner's link");
    assert!(owner.text(&format!("link-{}", own.id)).await.contains("this browser"));
    assert!(!owner.shows(&format!("revoke-{}", own.id)).await);
    let revoke = format!("revoke-{}", link.id);
    owner.find(&revoke).await;
    let press = async |times: u32| {
        let script = "const [id, times] = arguments; for (let i = 0; i < times; i++) \
                      document.querySelector(`[data-testid='${id}']`)?.click(); return true";
        owner.script::<bool>(script, vec![revoke.clone().into(), times.into()]).await
    };
    // The second click of a double one confirms nothing; later ones do.
    press(2).await;
    assert!(owner.attr(&revoke, "aria-label").await.is_some_and(|name| name.contains("Really revoke?")));
    owner.until("a press that confirms", async || press(1).await && !owner.shows(&revoke).await).await;
    viewer.find("problem").await;
    viewer.until_attr("problem", "data-kind", "forbidden").await;
    viewer.screenshot("forbidden").await;
    // What opens nothing any more is not offered again.
    viewer.open_start(&server).await;
    assert!(!viewer.shows(&format!("own-session-{}", session.id)).await);
    // Whoever has a right already keeps it, whatever link is opened.
    owner.open(&format!("{}/s/{}#t=nonsense", server.url(), session.id)).await;
    owner.until_prompt(1).await;
    assert_eq!(owner.attr("session-page", "data-role").await.as_deref(), Some("own"));
    owner.assert_quiet(&["status of 403"]).await;
    viewer.assert_quiet(&["status of 403"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_on_a_phone_can_read_and_reach_all() {
    let server = Server::shared();
    let session = server.session().await;
    let owner = Browser::start().await;
    owner.open_session(&session.url).await;
    owner.run(1, "clear; echo re''ady").await;
    owner.until_terminal(1, "ready").await;
    let (link, _) = server.link(&session, Role::View, None).await;
    let viewer = Browser::start().await;
    viewer.resize(390, 844).await;
    viewer.open_session(&link.url.expect("it was just made")).await;
    viewer.until_terminal(1, "ready").await;
    let look = "const term = window.__drydock.term(1), host = document.querySelector('.term-host');\
        return [term.options.fontSize, host.clientWidth, document.querySelector('.xterm-screen').clientWidth]";
    viewer
        .until("letters that can be read", async || viewer.script::<[u32; 3]>(look, vec![]).await[0] == 9)
        .await;
    let [_, room, screen] = viewer.script::<[u32; 3]>(look, vec![]).await;
    assert!(screen > room, "all of {screen} px is in {room} px: nothing to test");
    // As a finger moves.
    let pan = "const host = document.querySelector('.term-host');\
        const touch = (type, clientX) => host.dispatchEvent(new TouchEvent(type, { bubbles: true, cancelable: true,\
            touches: [new Touch({ identifier: 1, target: host, clientX, clientY: 300 })] }));\
        touch('touchstart', 380); touch('touchmove', 200); touch('touchmove', -900);\
        return host.scrollLeft + host.clientWidth >= document.querySelector('.xterm-screen').clientWidth";
    assert!(viewer.script::<bool>(pan, vec![]).await);
    viewer.screenshot("viewer-phone").await;
    viewer.assert_fits("a viewer's phone").await;
    // On a low screen the last lines are what shows.
    viewer.resize(390, 300).await;
    let last = "const bottom = (selector) => document.querySelector(selector).getBoundingClientRect().bottom;\
        const top = document.querySelector('.xterm-screen').getBoundingClientRect().top;\
        return top < document.querySelector('.term-host').getBoundingClientRect().top && bottom('.xterm-screen') <= bottom('.term-host')";
    viewer.until("the last lines", async || viewer.script::<bool>(last, vec![]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smaller_screen_says_that_it_limits_the_others() {
    let server = Server::shared();
    let session = server.session().await;
    let owner = Browser::start().await;
    owner.open_session(&session.url).await;
    owner.until_prompt(1).await;
    assert!(!owner.shows("limit-1").await);
    let (link, _) = server.link(&session, Role::Type, None).await;
    let phone = Browser::start().await;
    phone.resize(320, 640).await;
    phone.open_session(&link.url.expect("it was just made")).await;
    phone.until_prompt(1).await;
    let size = "const { cols, rows } = window.__drydock.term(1); return `(${cols} × ${rows})`";
    owner
        .until("it is told with the size", async || {
            owner.shows("limit-1").await
                && owner.text("limit-1").await
                    == format!("Limited by another screen {}", owner.script::<String>(size, vec![]).await)
        })
        .await;
    assert!(!phone.shows("limit-1").await);
    for theme in ["light", "dark"] {
        owner.prefer(theme).await;
        owner.screenshot(&format!("limited-{theme}")).await;
        owner.assert_accessible(&format!("a limited terminal, {theme}")).await;
    }
    phone.open_start(&server).await;
    owner.gone("limit-1").await;
    owner.assert_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_ends_nothing() {
    let server = Server::shared();
    let session = server.session().await;
    let (link, _) = server.link(&session, Role::View, Some(3600)).await;
    let browser = Browser::start().await;
    let ahead = "const now = Date.now; Date.now = () => now() + 5 * 3600e3";
    browser.cdp("Page.addScriptToEvaluateOnNewDocument", json!({ "source": ahead })).await;
    browser.open_session(&session.url).await;
    browser.click("share").await;
    let shown = format!("link-{}", link.id);
    browser.until("it works", async || browser.text(&shown).await.contains("works for 59 minutes")).await;
    assert!(browser.shows(&format!("revoke-{}", link.id)).await);
    // The first of this session's links is 1, whatever others have made.
    assert!(browser.text(&shown).await.contains("Link 2"), "{}", browser.text(&shown).await);
    browser.keys(&key::ESCAPE.to_string()).await;
    browser.open_start(&server).await;
    browser.find(&format!("own-session-{}", session.id)).await;
}
