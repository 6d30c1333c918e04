//! What the page of a session offers beside its terminals: ports, files, nodes, the Docker view; its end and the queue before it.

use super::press;
use drydock_e2e::{Browser, Server, browser::key, http::full, until};
use drydock_protocol::api::PortLink;
use hyper::Method;
use serde_json::json;

const END: char = '\u{e010}';

#[tokio::test(flavor = "multi_thread")]
async fn a_port_appears_by_itself_and_opens() {
    let server = Server::shared();
    let session = server.session().await;
    server
        .upload(&session, "/root/server.pl", full(&include_bytes!("../fixtures/server.pl")[..]))
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

    // An address that a program prints keeps its path, its query and its fragment.
    browser.run(1, "clear; echo http:''//localhost:8000/lab/tree?token=secret#here").await;
    browser.until_terminal(1, "http://localhost:8000/lab").await;
    let row = "const term = window.__drydock.term(1), buffer = term.buffer.active;\
        const row = [...Array(term.rows).keys()].find(y => buffer.getLine(buffer.viewportY + y).translateToString().startsWith('http:'));\
        const box = document.querySelector('.xterm-screen').getBoundingClientRect();\
        return [Math.round(box.x + 60), Math.round(box.y + (row + 0.5) * box.height / term.rows)]";
    let [x, y] = browser.script::<[i64; 2]>(row, vec![]).await;
    browser
        .until("the address is opened", async || {
            browser.driver().action_chain().move_to(x, y).click().perform().await.unwrap();
            browser.driver().windows().await.unwrap().len() == 2
        })
        .await;
    let windows = browser.driver().windows().await.unwrap();
    browser.driver().switch_to_window(windows[1].clone()).await.unwrap();
    browser
        .until("all of the address", async || {
            let url = browser.url().await;
            url.contains(&format!("//node1-8000-{}-", session.id))
                && url.ends_with("/lab/tree?token=secret#here")
        })
        .await;
    browser.driver().close_window().await.unwrap();
    browser.driver().switch_to_window(windows[0].clone()).await.unwrap();
    browser.run(1, "kill %1").await;
    browser.gone("port-node1-8000").await;

    // A page that waits for a server looks again by itself, also where ports are paths.
    let path = format!("/sessions/{}/ports/node1/8001", session.id);
    let link: PortLink = server.call(Method::POST, &path, Some(&session.token), None).await.has(200).json();
    let label = link.url.strip_prefix("http://").and_then(|u| u.split('.').next()).unwrap();
    let by_path = format!("{}/p/{label}/", server.url());
    let mut waiting = Vec::new();
    for url in [link.url.as_str(), &by_path] {
        let window = browser.driver().new_tab().await.unwrap();
        browser.driver().switch_to_window(window.clone()).await.unwrap();
        browser.open(url).await;
        assert!(browser.driver().title().await.unwrap().contains("Waiting for node1:8001"));
        waiting.push(window);
    }
    server.exec(&session.id, "node1", "setsid perl server.pl 0.0.0.0 8001 > /dev/null 2>&1 &").await.ok();
    for window in waiting {
        browser.driver().switch_to_window(window).await.unwrap();
        let comes = async || browser.driver().title().await.is_ok_and(|t| t == "from the node");
        browser.until("the node's page comes by itself", comes).await;
    }
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
    // However many there are, it is said once.
    browser
        .until("it is told", async || {
            browser.text("notices").await.trim().starts_with("2 files (20.0 MB) are now in /root on node1.")
        })
        .await;
    let notices = "return document.querySelector('[data-testid=notices]').children.length";
    assert_eq!(browser.script::<u32>(notices, vec![]).await, 1);
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
    // The question has room.
    browser.click("editor-close").await;
    let cut = "const close = document.querySelector('[data-testid=editor-close]');\
        return [close, close.parentElement].filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText)";
    assert_eq!(browser.script::<Vec<String>>(cut, vec![]).await, Vec::<String>::new());
    browser.keys(&key::ESCAPE.to_string()).await;
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

    // It can be read again, which drops what was typed.
    browser.click("editor-read-again").await;
    let text = async || {
        browser
            .script::<String>("return document.querySelector('.cm-content')?.innerText ?? ''", vec![])
            .await
    };
    browser.until("what others wrote", async || text().await.trim() == "other").await;
    browser.gone("editor-conflict").await;
    // Not if that can't be read: then what was typed stays.
    browser.until("the editor has the focus again", focused).await;
    browser.keys("again ").await;
    server.exec(&session.id, "node1", "echo third > upload.txt").await.ok();
    browser.click("editor-save").await;
    browser.find("editor-conflict").await;
    server.exec(&session.id, "node1", "rm upload.txt").await.ok();
    browser.click("editor-read-again").await;
    browser.until("it is told", async || browser.text("editor-conflict").await.contains("deleted")).await;
    assert!(text().await.contains("again "), "{}", text().await);
    server.exec(&session.id, "node1", "echo other > upload.txt").await.ok();

    // What was typed stays when the dock is closed, and leaving asks.
    browser.click("toggle-files").await;
    browser.gone("files").await;
    browser.click("toggle-files").await;
    assert!(text().await.contains("again "), "{}", text().await);
    browser.driver().find(thirtyfour::By::Css("a.brand")).await.unwrap().click().await.unwrap();
    browser.driver().dismiss_alert().await.unwrap();
    assert!(browser.shows("session-page").await);

    // Deleted by somebody else meanwhile: it can be saved all the same.
    server.exec(&session.id, "node1", "rm upload.txt").await.ok();
    browser.click("editor-save").await;
    browser.until("it is told", async || browser.text("editor-conflict").await.contains("deleted")).await;
    browser
        .driver()
        .find(thirtyfour::By::Css("[data-testid='editor-conflict'] button"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    until("it is saved again", async || read().await.contains("again ")).await;
    browser.click("editor-close").await;

    // Ends of lines stay as they are.
    server.exec(&session.id, "node1", "printf 'a\\r\\nb\\r\\n' > lines.txt").await.ok();
    browser.click("files-reload").await;
    browser.click("edit-lines.txt").await;
    browser.until("the editor has the focus", focused).await;
    browser.keys("x").await;
    browser.click("editor-save").await;
    let lines = async || server.exec(&session.id, "node1", "cat lines.txt").await.text();
    until("it is saved", async || lines().await == "xa\r\nb\r\n").await;
    browser.assert_quiet(&["status of 409", "status of 404"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_linked_directories_can_be_entered() {
    let server = Server::shared();
    let session = server.session().await;
    let make = "mkdir -p many real && touch real/inside && ln -s real way && ln -s nowhere broken && cd many && touch $(seq -f %05g 1200)";
    server.exec(&session.id, "node1", make).await.ok();
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.click("toggle-files").await;
    // A link to a directory leads there.
    browser.find("file-way").await;
    assert!(browser.shows("edit-broken").await && !browser.shows("edit-way").await);
    browser.click("file-way").await;
    browser.find("file-inside").await;
    assert_eq!(browser.attr("files-path", "data-path").await.as_deref(), Some("/root/way"));
    browser.reload().await;
    browser.click("toggle-files").await;

    // A taken name is refused before anything is asked, once the directory has been read.
    browser.find("file-real").await;
    browser.click("new-folder").await;
    browser.find("new-name").await;
    browser.keys(&format!("real{}", key::ENTER)).await;
    let told = async |words: &str| {
        browser.until("it is told", async || browser.text("name-problem").await.contains(words)).await;
        // What was typed stays, to be mended.
        let typed = "const input = document.activeElement;\
            return input.dataset.testid === 'new-name' ? input.value : '(the focus is elsewhere)'";
        browser.script::<String>(typed, vec![]).await
    };
    assert_eq!(told("/root/real is there already").await, "real");
    browser.keys(&format!("ism{}", key::ENTER)).await;
    let focused = "return document.activeElement.dataset.testid ?? ''";
    let has_focus = async |testid: &str| {
        let what = format!("'{testid}' has the focus");
        browser.until(&what, async || browser.script::<String>(focused, vec![]).await == testid).await;
    };
    has_focus("file-realism").await;
    assert!(!browser.shows("new-name").await);

    // So is one that came since it was read, whose content stays.
    server.exec(&session.id, "node1", "echo mine > /root/late").await;
    browser.click("new-file").await;
    browser.find("new-name").await;
    browser.keys(&format!("late{}", key::ENTER)).await;
    assert_eq!(told("/root/late is there already").await, "late");
    browser.find("file-late").await;
    assert_eq!(server.exec(&session.id, "node1", "cat /root/late").await.text().trim(), "mine");

    // What is there gets another name, unless that is taken.
    browser.click("rename-real").await;
    browser.find("new-name").await;
    browser.keys(&format!("{}ly{}", END, key::ENTER)).await;
    browser.find("file-really").await;
    browser.gone("file-real").await;
    has_focus("file-really").await;
    assert!(server.exec(&session.id, "node1", "test -e /root/really/inside").await.status.success());

    // Of a large one a part is drawn at a time, and a screen reader hears how much there is.
    browser.click("file-many").await;
    browser.find("file-00500").await;
    let rows = "return document.querySelectorAll('.file-list [data-testid^=file-0]').length";
    assert_eq!(browser.script::<u32>(rows, vec![]).await, 500);
    let status = "return document.querySelector('[data-testid=files-status]').textContent";
    assert_eq!(browser.script::<String>(status, vec![]).await, "1200 entries in /root/many");
    for count in [1000, 1200] {
        browser.click("files-more").await;
        browser.until("more", async || browser.script::<u32>(rows, vec![]).await == count).await;
    }
    browser.gone("files-more").await;
    browser.assert_quiet(&["409"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_back_with_their_node() {
    let server = Server::shared();
    let session = server.session().await;
    server.exec(&session.id, "node1", "touch kept").await.ok();
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.click("toggle-files").await;
    browser.find("file-kept").await;
    browser.click("power-node1").await;
    browser.until_attr("node-node1", "data-power", "off").await;
    browser.click("files-reload").await;
    browser.until("it is told", async || browser.text("files").await.contains("switched off")).await;
    browser.click("power-node1").await;
    browser.find("file-kept").await;

    // Without a node there is nothing to be done.
    browser.click("toggle-docker").await;
    browser
        .until("the node is removed", async || {
            press(&browser, "remove-node1").await;
            !browser.shows("node-node1").await
        })
        .await;
    browser.until("it is told", async || browser.text("docker").await.contains("no node")).await;
    browser.click("toggle-files").await;
    browser.click("new-folder").await;
    assert!(!browser.shows("new-name").await);
    assert_eq!(browser.attr("new-folder", "aria-disabled").await.as_deref(), Some("true"));
    browser.assert_accessible("a session without nodes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_terminals_and_splits() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.until("limits", async || browser.text("limits").await.contains("share 2 CPUs, 1.0 GB")).await;
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
    let windows = browser.driver().windows().await.unwrap();
    browser.driver().switch_to_window(windows[0].clone()).await.unwrap();

    // What can be done with a container.
    server.exec(&session.id, "node1", "docker run --name said busybox echo it-was-$((40+2))").await.ok();
    browser.click("logs-said").await;
    browser.until_terminal(2, "it-was-42").await;
    browser.click("power-web").await;
    browser.until("it is stopped", async || browser.text("container-web").await.contains("exited")).await;
    browser.click("power-web").await;
    browser.until_attr("container-web", "data-look", "good").await;
    // What the engine says against it is told.
    let taken = "docker stop -t 0 web && docker run -d --name other -p 8080:80 busybox httpd -f";
    server.exec(&session.id, "node1", taken).await.ok();
    browser.until_attr("container-other", "data-look", "good").await;
    browser.click("power-web").await;
    browser
        .until("why it does not start", async || {
            browser.text("notices").await.contains("port is already allocated")
        })
        .await;
    browser
        .until("it is removed", async || {
            press(&browser, "remove-web").await;
            !browser.shows("container-web").await
        })
        .await;
    browser.assert_quiet(&["status of 404"]).await;
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
    // A page that is opened late says so.
    browser
        .until("the warning", async || browser.text("notices").await.contains("This session ends in"))
        .await;
    browser.resize(320, 640).await;
    browser.assert_fits("a session that ends soon, 320 px").await;
    let last = "return document.querySelector('[data-testid=end-session]').getBoundingClientRect().right <= innerWidth";
    assert!(browser.script::<bool>(last, vec![]).await, "the bar's last button is out of sight");
    browser.screenshot("ends-soon-320").await;
    browser.resize(1280, 800).await;
    browser.click("extend").await;
    browser.until("more time", async || left().await > 1000).await;
    // And more than that: the owner need not wait until the end is near.
    browser.gone("extend").await;
    let before = left().await;
    browser.click("time").await;
    browser.find("time-dialog").await;
    assert!(
        browser.text("time-text").await.contains("can last up to"),
        "{}",
        browser.text("time-text").await
    );
    browser.screenshot("time-dialog").await;
    browser.assert_accessible("the dialog of the time").await;
    browser.click("extend-now").await;
    browser.until("still more time", async || left().await > before + 1000).await;
    browser.keys(&key::ESCAPE.to_string()).await;
    browser.gone("time-dialog").await;
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
    assert!(browser.driver().title().await.unwrap().contains("Place 1"));
    let waiting = async || {
        let host: drydock_protocol::api::Host =
            server.call(hyper::Method::GET, "/host", None, None).await.json();
        host.queued
    };
    // A reload keeps the place; who leaves holds none.
    browser.reload().await;
    browser.until_attr("queue-place", "data-place", "1").await;
    assert_eq!(waiting().await, 1);
    browser.click("queue-leave").await;
    until("nobody waits", async || waiting().await == 0).await;
    browser.reload().await;
    browser.click("start-button").await;
    browser.until_attr("queue-place", "data-place", "1").await;
    server.end(&session).await;
    browser.find("session-page").await;
    browser.until_prompt(1).await;
    browser.assert_quiet(&[]).await;
}
