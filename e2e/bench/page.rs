//! How long a learner waits: from the click on Start to the prompt on the screen, with the page there already and from
//! an empty profile. Moments come from the marks that the page leaves (`drydock:…`) and from a script of this bench.

use crate::table::{Table, at_most, median, quantile};
use drydock_e2e::{Browser, Server};
use serde::Deserialize;
use serde_json::json;

const WARM: usize = 15;
const COLD: usize = 5;

/// Runs before the page's own scripts. Notes the click itself (before any handler has run) and the frame in which the
/// prompt is on the screen; with `bench.click` in the window it presses Start as soon as that can be pressed.
const WATCH: &str = "(() => {
    addEventListener('click', e => performance.mark('bench:click', { startTime: e.timeStamp }), { capture: true, once: true });
    const painted = f => requestAnimationFrame(() => { const c = new MessageChannel(); c.port1.onmessage = f; c.port2.postMessage(0) });
    const look = () => {
        const b = window.__drydock?.term(1)?.buffer.active;
        const line = b?.getLine(b.baseY + b.cursorY)?.translateToString(true) ?? '';
        painted(/[#$] ?$/.test(line) ? () => performance.mark('bench:drawn') : look);
    };
    new PerformanceObserver((list, self) => {
        if (list.getEntries().some(e => e.name === 'drydock:first-output-parsed')) { self.disconnect(); look() }
    }).observe({ type: 'mark' });
})()";

/// Presses Start at the first moment at which a learner could.
const PRESS: &str = "new MutationObserver((_, self) => {
    const start = document.querySelector('[data-testid=start-button]');
    if (!start || start.disabled) return;
    self.disconnect();
    performance.mark('bench:can-start');
    requestAnimationFrame(() => setTimeout(() => start.click()));
}).observe(document, { childList: true, subtree: true, attributes: true, attributeFilter: ['disabled'] })";

/// All marks, once the prompt is drawn.
const MARKS: &str = "const done = arguments[0]; const give = () => {
    if (!performance.getEntriesByName('bench:drawn').length) return setTimeout(give, 10);
    const paint = performance.getEntriesByType('paint').map(p => ({ name: p.name, startTime: p.startTime }));
    done(performance.getEntriesByType('mark').map(m => ({ name: m.name, startTime: m.startTime })).concat(paint));
}; give()";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    name: String,
    start_time: f64,
}

/// The moments of one round by name, ms after navigation start.
#[derive(Debug)]
struct Moments(Vec<Mark>);

impl Moments {
    fn at(&self, name: &str) -> f64 {
        self.0.iter().find(|m| m.name == name).map_or(f64::NAN, |m| m.start_time)
    }
}

/// Prints both tables.
pub async fn run() {
    let server = crate::serve();
    let mut warm = Vec::new();
    let browser = watched(false).await;
    for round in 0..=WARM {
        browser.open_start(&server).await;
        browser.click("start-button").await;
        let moments = finish(&browser, &server).await;
        // The first round fills the caches.
        if round > 0 {
            warm.push(moments);
        }
    }
    drop(browser);
    let mut cold = Vec::new();
    for _ in 0..COLD {
        let browser = watched(true).await;
        browser.open(&server.url()).await;
        cold.push(finish(&browser, &server).await);
    }
    report(&warm, &cold);
}

async fn watched(press: bool) -> Browser {
    let browser = Browser::start().await;
    for script in [Some(WATCH), press.then_some(PRESS)].into_iter().flatten() {
        browser.cdp("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })).await;
    }
    browser
}

/// Waits for the prompt and ends the session.
async fn finish(browser: &Browser, server: &Server) -> Moments {
    let moments = Moments(browser.script_async(MARKS, vec![]).await);
    let url = browser.url().await;
    let id = url.split("/s/").nth(1).unwrap_or_else(|| panic!("the address is {url}"));
    crate::end(server, id.split(['?', '#']).next().unwrap_or_default()).await;
    moments
}

fn report(warm: &[Moments], cold: &[Moments]) {
    const HEADINGS: [&str; 5] = ["", "median", "p90", "goal", "met"];
    let add = |table: &mut Table, rounds: &[Moments], name: &str, from: &str, to: &str, goal: Option<f64>| {
        let begin = |m: &Moments| if from.is_empty() { 0.0 } else { m.at(from) };
        let times: Vec<f64> = rounds.iter().map(|m| m.at(to) - begin(m)).collect();
        let value = median(&times);
        let (goal, met) = goal.map_or_else(Default::default, |g| (format!("<= {g:.0}"), at_most(value, g)));
        table.row([name.into(), format!("{value:.1}"), format!("{:.1}", quantile(&times, 0.9)), goal, met]);
    };
    let steps: [(&str, &str, &str); 6] = [
        ("  click to its handler", "bench:click", "drydock:start-click"),
        ("  request to answer", "drydock:start-click", "drydock:created"),
        ("  WebSocket opened", "drydock:created", "drydock:ws-open"),
        ("  state of the session", "drydock:ws-open", "drydock:state"),
        ("  first output parsed", "drydock:state", "drydock:first-output-parsed"),
        ("  prompt drawn", "drydock:first-output-parsed", "bench:drawn"),
    ];
    let title = format!("page: warm, click on Start to prompt drawn, ms, {WARM} rounds");
    let mut table = Table::new(title, &HEADINGS);
    add(&mut table, warm, "click to prompt drawn", "bench:click", "bench:drawn", Some(200.0));
    for (name, from, to) in steps {
        add(&mut table, warm, name, from, to, None);
    }
    table.print();

    let title = format!("page: cold (new profile), navigation to prompt drawn, ms, {COLD} rounds");
    let mut table = Table::new(title, &HEADINGS);
    add(&mut table, cold, "navigation to prompt drawn", "", "bench:drawn", Some(700.0));
    add(&mut table, cold, "  first paint", "", "first-paint", None);
    add(&mut table, cold, "  Start can be pressed", "", "bench:can-start", None);
    add(&mut table, cold, "  it is pressed", "bench:can-start", "bench:click", None);
    for (name, from, to) in steps {
        add(&mut table, cold, name, from, to, None);
    }
    table.print();
}
