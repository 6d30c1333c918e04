//! Output in the page: how fast it is parsed beside xterm.js alone in the same browser, how soon Ctrl+C ends a flood,
//! and whether much of it makes the page's memory grow.

use crate::table::{Table, at_least, at_most, median, quantile};
use drydock_e2e::{Browser, Server, browser::key};
use drydock_protocol::api::Created;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

const ROUNDS: usize = 3;
const FLOODS: usize = 5;
/// How long a flood runs before Ctrl+C: long enough that everything on the way is full.
const FLOOD: Duration = Duration::from_secs(2);

/// Name and the script that makes the file `FILE`.
const KINDS: [(&str, &str); 3] = [
    ("seq 1000000", "seq 1000000 > FILE"),
    (
        "coloured text",
        "for i in $(seq 300); do printf '\\e[32m-rw-r--r--\\e[0m 1 \\e[1;34mroot\\e[0m %5d \\e[38;5;214mname-%d.txt\\e[0m \\e[38;2;90;200;250mtrue colour\\e[0m\\n' $i $i; done > /tmp/c; \
         for i in $(seq 400); do cat /tmp/c; done > FILE",
    ),
    (
        "lines of 1000 characters",
        "head -c 750 /dev/zero | base64 -w0 > /tmp/l; echo >> /tmp/l; for i in $(seq 12000); do cat /tmp/l; done > FILE",
    ),
];

/// Runs a command by the keyboard's way; ms from its Enter until the line that ends it is parsed.
const RUN: &str = "const [file, done] = arguments; const term = window.__drydock.term(1);
    // Looked up each time: a reset replaces it.
    const line = i => { const b = term.buffer.active; return text(b.getLine(b.baseY + b.cursorY - i)) };
    const text = l => l?.translateToString(true) ?? '';
    let began;
    const watch = term.onWriteParsed(() => {
        if (line(0).startsWith('#end#') || line(1).startsWith('#end#')) { watch.dispose(); done(performance.now() - began) }
    });
    term.clear();
    began = performance.now();
    term.input(`cat ${file}; printf '#e%s#\\\\n' nd\\r`);";

/// Writes a file's bytes, as a terminal gives them, into xterm.js; ms, and how many bytes. Up to 1 MiB is on its way, so that
/// xterm.js never waits.
const ALONE: &str = "const [id, file, done] = arguments; const term = window.__drydock.term(1);
    (async () => {
        const cache = window.benchFiles ??= {};
        if (!cache[file]) {
            const answer = await fetch(`/api/v1/sessions/${id}/nodes/node1/file?path=${file}`);
            if (!answer.ok) throw new Error(`${file}: ${answer.status}`);
            const plain = new Uint8Array(await answer.arrayBuffer());
            let lines = 0; for (const c of plain) if (c === 10) lines++;
            const bytes = cache[file] = new Uint8Array(plain.length + lines);
            let at = 0; for (const c of plain) { if (c === 10) bytes[at++] = 13; bytes[at++] = c }
        }
        const bytes = cache[file]; const PIECE = 32768, AHEAD = 32;
        term.clear();
        await new Promise(r => setTimeout(r, 50));
        const began = performance.now();
        await new Promise(end => {
            let sent = 0, parsed = 0;
            const more = () => {
                while (sent < bytes.length && sent - parsed < AHEAD * PIECE) {
                    const piece = bytes.subarray(sent, sent + PIECE); sent += piece.length;
                    term.write(piece, () => { parsed += piece.length; parsed === bytes.length ? end() : more() });
                }
            };
            more();
        });
        const took = performance.now() - began;
        term.write('\\r\\n');
        return [took, bytes.length];
    })().then(done, e => done(String(e)));";

/// Waits for the prompt after Ctrl+C; ms from the key's own event until it is parsed.
const WATCH_C: &str = "const term = window.__drydock.term(1); window.benchPrompt = null; let at = null;
    const key = e => { if (e.ctrlKey && e.key === 'c') at = e.timeStamp };
    addEventListener('keydown', key, true);
    const watch = term.onWriteParsed(() => {
        const b = term.buffer.active; const line = b.getLine(b.baseY + b.cursorY)?.translateToString(true) ?? '';
        if (at === null || !line.trimEnd().endsWith('#')) return;
        window.benchPrompt = performance.now() - at;
        watch.dispose(); removeEventListener('keydown', key, true);
    });
    return true";
const WAIT_C: &str = "const done = arguments[0];\
    const look = () => window.benchPrompt === null ? setTimeout(look, 5) : done(window.benchPrompt); look()";

/// Notes the most that the JavaScript heap holds while output comes.
const WATCH_HEAP: &str = "window.benchHeap = 0;\
    window.__drydock.term(1).onWriteParsed(() => { window.benchHeap = Math.max(window.benchHeap, performance.memory.usedJSHeapSize) });\
    return true";

/// Prints the tables.
pub async fn run() {
    let server = crate::serve();
    let session = server.session().await;
    let browser = Browser::start_with(&["--enable-precise-memory-info"]).await;
    browser.open_session(&session.url).await;
    speed(&server, &session, &browser).await;
    // What was fetched for the comparison must not count.
    browser.reload().await;
    browser.find("session-page").await;
    browser.until_prompt(1).await;
    interrupt(&browser).await;
    heap(&server, &session, &browser).await;
}

async fn speed(server: &Server, session: &Created, browser: &Browser) {
    let size: String =
        browser.script("const t = window.__drydock.term(1); return t.cols + ' × ' + t.rows", vec![]).await;
    let mut table = Table::new(
        format!("output: MB/s parsed in the page ({size}), {ROUNDS} rounds"),
        &["", "MB", "drydock", "xterm.js alone", "ratio", "goal", "met"],
    );
    for (i, (name, script)) in KINDS.into_iter().enumerate() {
        let file = format!("/root/bench{i}");
        crate::in_node(server, session, &script.replace("FILE", &file)).await;
        let (mut ours, mut alone, mut size) = (Vec::new(), Vec::new(), 0.0);
        for round in 0..=ROUNDS {
            let bare: Value = browser.script_async(ALONE, vec![json!(session.id), json!(file)]).await;
            let (bare, bytes): (f64, f64) =
                serde_json::from_value(bare.clone()).unwrap_or_else(|e| panic!("{e}: {bare}"));
            browser.focus_terminal(1).await;
            let took: f64 = browser.script_async(RUN, vec![json!(file)]).await;
            browser.until_prompt(1).await;
            size = bytes / 1e6;
            // The first round warms the browser's compiler.
            if round > 0 {
                ours.push(size / took * 1000.0);
                alone.push(size / bare * 1000.0);
            }
        }
        let (ours, alone) = (median(&ours), median(&alone));
        table.row([
            name.into(),
            format!("{size:.1}"),
            format!("{ours:.1}"),
            format!("{alone:.1}"),
            format!("{:.0} %", ours / alone * 100.0),
            ">= 90 %".into(),
            at_least(ours / alone, 0.9),
        ]);
    }
    table.print();
}

async fn interrupt(browser: &Browser) {
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..FLOODS {
        browser.run(1, "yes").await;
        tokio::time::sleep(FLOOD).await;
        browser.script::<bool>(WATCH_C, vec![]).await;
        browser.chord(&[key::CONTROL], 'c').await;
        times.push(browser.script_async(WAIT_C, vec![]).await);
    }
    let mut table = Table::new(
        format!("output: Ctrl+C after 2 s of yes to the prompt parsed, ms, {FLOODS} rounds"),
        &["median", "most", "goal", "met"],
    );
    let value = median(&times);
    table.row([
        format!("{value:.0}"),
        format!("{:.0}", quantile(&times, 1.0)),
        "<= 150".into(),
        at_most(value, 150.0),
    ]);
    table.print();
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Heap {
    used_size: f64,
    #[serde(default)]
    backing_storage_size: f64,
}

async fn heap_now(browser: &Browser) -> Heap {
    browser.cdp("HeapProfiler.collectGarbage", json!({})).await;
    let usage = browser.cdp("Runtime.getHeapUsage", json!({})).await;
    serde_json::from_value(usage.clone()).unwrap_or_else(|e| panic!("{e}: {usage}"))
}

async fn heap(server: &Server, session: &Created, browser: &Browser) {
    crate::in_node(
        server,
        session,
        "for i in $(seq 14); do cat /root/bench0; done | head -c 95M > /root/big",
    )
    .await;
    // The scroll-back is full before, as it is behind.
    browser.script_async::<f64>(RUN, vec![json!("/root/bench0")]).await;
    browser.until_prompt(1).await;
    let before = heap_now(browser).await;
    browser.script::<bool>(WATCH_HEAP, vec![]).await;
    let took: f64 = browser.script_async(RUN, vec![json!("/root/big")]).await;
    browser.until_prompt(1).await;
    let most: f64 = browser.script("return window.benchHeap", vec![]).await;
    let after = heap_now(browser).await;
    let mut table = Table::new(
        format!("output: memory of the page around a cat of 100 MB ({:.1} s), MB", took / 1000.0),
        &["", "before", "most meanwhile", "after"],
    );
    let mb = |bytes: f64| format!("{:.1}", bytes / 1e6);
    table.row(["JavaScript heap".into(), mb(before.used_size), mb(most), mb(after.used_size)]);
    table.row([
        "buffers outside it".into(),
        mb(before.backing_storage_size),
        String::new(),
        mb(after.backing_storage_size),
    ]);
    table.print();
}
