//! Themes, small screens, dialogs, the keyboard; judged by axe.

use drydock_e2e::{Browser, Server, browser::key};
use serde_json::json;

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
