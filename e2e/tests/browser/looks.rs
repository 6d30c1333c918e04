//! Themes, small screens, dialogs, the keyboard; judged by axe.

use drydock_e2e::{Browser, Server, browser::key};
use serde_json::json;

const DELETE: char = '\u{e017}';
const F6: char = '\u{e036}';

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
async fn the_focus_is_never_lost() {
    let server = Server::shared();
    let session = server.create(json!({ "playground": "linux", "nodes": 2 })).await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.until_prompt(1).await;
    let focus = async || {
        let script = "const e = document.activeElement; return e.dataset.testid ?? e.closest('[data-area]')?.dataset.area ?? ''";
        browser.script::<String>(script, vec![]).await
    };
    // A tab that is closed hands it to the next one, a dock to the button that opens it.
    browser.click("new-tab").await;
    browser.until_prompt(2).await;
    browser.until("the new terminal has it", async || focus().await == "terminals").await;
    browser.chord(&[key::CONTROL, key::SHIFT], key::ESCAPE).await;
    browser.until("its tab has it", async || focus().await == "tab-2").await;
    browser.run(2, "sh -c 'echo it-$((1+1)); exec sleep 1000'").await;
    browser.until_terminal(2, "\nit-2").await;
    browser.chord(&[key::CONTROL, key::SHIFT], key::ESCAPE).await;
    browser.until("its tab has it again", async || focus().await == "tab-2").await;
    browser.keys(&DELETE.to_string()).await;
    // What runs in it ends, so it asks; the first press of a double one is no answer.
    browser.find("closing-2").await;
    browser
        .until("a press that confirms", async || {
            browser.keys(&DELETE.to_string()).await;
            !browser.shows("closing-2").await
        })
        .await;
    browser.until("the other tab has it", async || focus().await == "tab-1").await;
    browser.click("toggle-files").await;
    browser.click("files-close").await;
    browser.until("the button has it", async || focus().await == "toggle-files").await;
    // After a reload it is in the terminal.
    browser.reload().await;
    browser.until_prompt(1).await;
    browser.until("the terminal has it", async || focus().await == "terminals").await;
    // F6 goes round on a small screen too, which shows one area at a time.
    browser.resize(320, 640).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        browser.keys(&F6.to_string()).await;
        seen.push(focus().await);
    }
    assert_eq!(seen, ["area-nodes", "home", "terminals"]);
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
async fn a_question_can_be_read_under_the_mouse() {
    let server = Server::shared();
    let session = server.create(json!({ "playground": "linux", "nodes": 2 })).await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    for theme in ["light", "dark"] {
        browser.prefer(theme).await;
        // A click leaves the mouse where it is.
        browser.click("remove-node2").await;
        browser.screenshot(&format!("question-{theme}")).await;
        browser.assert_accessible(&format!("a question under the mouse, {theme}")).await;
        browser.keys(&key::ESCAPE.to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_colours_leave_a_terminal_its_cursor_selection_and_colours() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.until_prompt(1).await;
    browser.click("toggle-files").await;
    let look = "const page = getComputedStyle(document.body), term = window.__drydock.term(1), theme = term.options.theme;\
        const width = (selector) => parseFloat(getComputedStyle(document.querySelector(selector)).borderTopWidth);\
        return [theme.background === page.backgroundColor && theme.foreground === page.color && theme.cursor === page.color,\
            getComputedStyle(term.element).forcedColorAdjust === 'none', width('.tab.active') >= 2,\
            width('[data-testid=toggle-files]') > width('[data-testid=toggle-docker]')]";
    for scheme in ["dark", "light"] {
        let features = json!([{ "name": "forced-colors", "value": "active" }, { "name": "prefers-color-scheme", "value": scheme }]);
        browser.cdp("Emulation.setEmulatedMedia", json!({ "features": features })).await;
        browser
            .until("all of it shows", async || {
                browser.script::<Vec<bool>>(look, vec![]).await.into_iter().all(|is| is)
            })
            .await;
        browser.screenshot(&format!("forced-colours-{scheme}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dock_leaves_a_terminal_room_on_a_middling_screen() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.until_prompt(1).await;
    browser.click("toggle-files").await;
    for width in [720, 853, 1000, 1024] {
        browser.resize(width, 600).await;
        let cols = "return window.__drydock.term(1).cols";
        browser.until("40 columns", async || browser.script::<u32>(cols, vec![]).await >= 40).await;
        browser.assert_fits(&format!("the files, {width} px")).await;
    }
    // The tab that shows is in sight however little room the dock leaves to the others.
    browser.click("toggle-files").await;
    for terminal in 2..=6 {
        browser.click("new-tab").await;
        browser.until_prompt(terminal).await;
    }
    browser.click("toggle-files").await;
    let seen = "const box = (selector) => document.querySelector(selector).getBoundingClientRect();\
        const [tab, list] = [box('[data-testid=tab-6]'), box('.tabs')];\
        return list.width < 500 && tab.left >= list.left - 1 && tab.right <= list.right + 1";
    browser.until("the tab is in sight", async || browser.script::<bool>(seen, vec![]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_has_a_way_to_the_start_page_and_notices_leave_its_keys_free() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.resize(320, 640).await;
    browser.open_session(&session.url).await;
    browser.until_prompt(1).await;
    browser.click("area-nodes").await;
    browser.click("node-address-node1").await;
    browser.find("notice").await;
    browser.click("area-terminals").await;
    let above = "const box = (selector) => document.querySelector(selector).getBoundingClientRect();\
        return box('.key-bar').height > 0 && box('.notice').bottom <= box('.key-bar').top";
    assert!(browser.script::<bool>(above, vec![]).await);
    browser.screenshot("notice-320").await;
    browser.click("home").await;
    browser.find("start-page").await;
    browser.find(&format!("own-session-{}", session.id)).await;
}
