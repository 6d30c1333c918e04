//! The page in a real Chromium: start, type, edit, resume, share, ports, files, nodes, expiry, looks.

mod connection;
mod looks;
mod session;
mod terminal;

use drydock_e2e::{Browser, Server};

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

/// Clicks an element if it is there just now.
async fn press(browser: &Browser, testid: &str) {
    let script = "document.querySelector(`[data-testid='${arguments[0]}']`)?.click(); return true";
    assert!(browser.script::<bool>(script, vec![testid.into()]).await);
}
