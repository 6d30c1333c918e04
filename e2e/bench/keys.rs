//! How long a key takes until its echo is parsed: in the page, to the server, through the pty and back.

use crate::table::{Table, at_most, ms, quantile};
use drydock_e2e::{Browser, Server, browser::key, page_socket::FIRST};
use drydock_protocol::api::Created;
use serde::Deserialize;
use serde_json::json;
use std::time::Instant;

const KEYS: usize = 300;

/// Notes for each key the moment of the event itself, of its way through the page, and of the parsed echo.
const WATCH: &str =
    "const term = window.__drydock.term(1); const keys = window.benchKeys = []; let at = null;
    if (!window.benchSocket) {
        window.benchSocket = { sent: 0, came: 0 };
        const socket = vendor.Socket.prototype, { send, take } = socket;
        socket.send = function (data) { benchSocket.sent ||= performance.now(); send.call(this, data) };
        socket.take = function (told) { benchSocket.came ||= performance.now(); take.call(this, told) };
    }
    addEventListener('keydown', e => {
        at = { event: e.timeStamp, handler: performance.now() }; benchSocket.sent = benchSocket.came = 0;
    }, true);
    term.onWriteParsed(() => {
        if (!at) return;
        keys.push({ ...at, ...benchSocket, parsed: performance.now() }); at = null;
    });
    return true";

/// Waits until so many keys have their echo.
const ECHOED: &str = "const [n, done] = arguments;\
    const look = () => window.benchKeys.length >= n ? done(true) : setTimeout(look, 1); look()";

#[derive(Debug, Deserialize)]
struct Key {
    event: f64,
    handler: f64,
    sent: f64,
    came: f64,
    parsed: f64,
}

/// Prints the table.
pub async fn run() {
    let server = crate::serve();
    let session = server.session().await;
    let alone = alone(&server, &session).await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    // A long line that wraps costs readline more; a learner's lines are short.
    let bash = typed(&browser, Some(60)).await;
    browser.run(1, "cat > /dev/null").await;
    let running = async || server.exec(&session.id, "node1", "pgrep -x cat").await.status.success();
    browser.until("cat runs", running).await;
    let cat = typed(&browser, None).await;

    let mut table = Table::new(
        format!("keys: key to echo parsed in the page, ms, {KEYS} keys"),
        &["", "p50", "p90", "p99", "most", "goal", "met"],
    );
    let goal = |times: &[f64]| {
        let met = [at_most(quantile(times, 0.5), 3.0), at_most(quantile(times, 0.99), 10.0)];
        ("p50 <= 3, p99 <= 10".to_owned(), met.join(", "))
    };
    for (name, keys) in [("cat (the kernel echoes)", &cat), ("bash (readline echoes)", &bash)] {
        let times: Vec<f64> = keys.iter().map(|k| k.parsed - k.event).collect();
        row(&mut table, name, &times, goal(&times));
        type Part = (&'static str, fn(&Key) -> f64);
        let parts: [Part; 4] = [
            ("  key event to its first listener", |k| k.handler - k.event),
            ("  to the WebSocket's worker", |k| k.sent - k.handler),
            ("  to the echo's arrival in the page", |k| k.came - k.sent),
            ("  to the echo parsed", |k| k.parsed - k.came),
        ];
        for (part, span) in parts {
            row(&mut table, part, &keys.iter().map(span).collect::<Vec<_>>(), Default::default());
        }
    }
    row(&mut table, "server alone (cat, a client without a browser)", &alone, Default::default());
    table.print();
}

fn row(table: &mut Table, name: &str, times: &[f64], (goal, met): (String, String)) {
    let at = |part| format!("{:.2}", quantile(times, part));
    table.row([name.into(), at(0.5), at(0.9), at(0.99), at(1.0), goal, met]);
}

/// The same keys by a WebSocket without a browser: what the server and its terminal take.
async fn alone(server: &Server, session: &Created) -> Vec<f64> {
    let mut page = server.page_at_prompt(&session.id, &session.token, "bench").await;
    page.input(FIRST, "echo re''ady; cat > /dev/null\n").await;
    page.until_seen(FIRST, "ready\r\n").await;
    let mut times = Vec::new();
    for _ in 0..KEYS {
        let (began, before) = (Instant::now(), page.screen(FIRST).offset);
        page.input(FIRST, "k").await;
        page.until("the echo", |p, _| p.screen(FIRST).offset > before).await;
        times.push(ms(began.elapsed()));
    }
    page.input(FIRST, "\x03").await;
    page.until("a prompt", |p, _| p.screen(FIRST).bytes.ends_with(b"# ")).await;
    times
}

/// Types the keys one after the other, each when the one before it has its echo. `line`: clear the line after so many.
async fn typed(browser: &Browser, line: Option<usize>) -> Vec<Key> {
    browser.focus_terminal(1).await;
    browser.script::<bool>(WATCH, vec![]).await;
    for i in 0..KEYS {
        let letter = char::from(b'a' + u8::try_from(i % 26).unwrap_or(0)).to_string();
        let code = format!("Key{}", letter.to_uppercase());
        let virtual_code = u32::from(letter.as_bytes()[0].to_ascii_uppercase());
        let down = json!({ "type": "keyDown", "key": letter, "code": code, "text": letter, "windowsVirtualKeyCode": virtual_code });
        let up =
            json!({ "type": "keyUp", "key": letter, "code": code, "windowsVirtualKeyCode": virtual_code });
        browser.cdp("Input.dispatchKeyEvent", down).await;
        browser.script_async::<bool>(ECHOED, vec![json!(i + 1)]).await;
        browser.cdp("Input.dispatchKeyEvent", up).await;
        if line.is_some_and(|n| (i + 1) % n == 0) {
            clear(browser, i + 1).await;
        }
    }
    let keys =
        browser.script("const keys = window.benchKeys; window.benchKeys = []; return keys", vec![]).await;
    browser.chord(&[key::CONTROL], 'c').await;
    browser.until_prompt(1).await;
    keys
}

/// Ctrl+U, which is not one of the measured keys.
async fn clear(browser: &Browser, measured: usize) {
    browser.chord(&[key::CONTROL], 'u').await;
    browser.until_prompt(1).await;
    browser
        .script::<bool>("window.benchKeys.length = arguments[0]; return true", vec![json!(measured)])
        .await;
}
