//! What the first visit transfers until the prompt is drawn, with an empty cache and Brotli.

use crate::table::{Table, at_most};
use drydock_e2e::Browser;
use serde::Deserialize;

const GOAL: f64 = 250.0;

/// What the browser has fetched: `[path, bytes with headers, bytes unpacked]`.
const FETCHED: &str = "return performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))\
    .map(e => [new URL(e.name).pathname, e.transferSize, e.decodedBodySize])";

#[derive(Debug, Deserialize)]
struct Fetched(String, f64, f64);

/// Prints the table.
pub async fn run() {
    let server = crate::serve();
    let browser = Browser::start().await;
    browser.open_start(&server).await;
    browser.click("start-button").await;
    browser.find("session-page").await;
    browser.until_prompt(1).await;
    let mut fetched: Vec<Fetched> = browser.script(FETCHED, vec![]).await;
    fetched.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut table = Table::new(
        "load: what is transferred until the prompt is drawn, KB (1000 bytes)",
        &["", "transferred", "unpacked", "goal", "met"],
    );
    let kb = |bytes: f64| format!("{:.1}", bytes / 1000.0);
    let total: f64 = fetched.iter().map(|f| f.1).sum();
    let unpacked: f64 = fetched.iter().map(|f| f.2).sum();
    table.row([
        "all".into(),
        kb(total),
        kb(unpacked),
        format!("<= {GOAL:.0}"),
        at_most(total / 1000.0, GOAL),
    ]);
    for Fetched(path, bytes, unpacked) in fetched {
        // Without the hash, which says nothing here; a session's id neither.
        let shown: String = path.chars().take(60).collect();
        table.row([format!("  {shown}"), kb(bytes), kb(unpacked), String::new(), String::new()]);
    }
    table.print();
}
