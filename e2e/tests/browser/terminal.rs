//! Terminals: commands, keys, programs that use the whole screen, floods.

use super::{press, start};
use drydock_e2e::{Browser, Server, browser::key};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

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
async fn keys_go_to_the_terminal_that_was_asked_for() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.until_prompt(1).await;
    browser.focus_terminal(1).await;
    browser.chord(&[key::CONTROL, key::SHIFT], key::ENTER).await;
    browser.keys(&format!("echo second-$((1+1)){}", key::ENTER)).await;
    browser.until_terminal(2, "\nsecond-2").await;
    assert!(!browser.terminal(1).await.contains("second"), "{}", browser.terminal(1).await);
    browser.assert_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paste_stays_a_paste_and_copying_lets_the_next_key_interrupt() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.until_prompt(1).await;
    browser.focus_terminal(1).await;
    // What was copied holds the end of the brackets that the shell has it in.
    let paste = "const clipboardData = new DataTransfer();\
        clipboardData.setData('text/plain', 'echo safe\x1b[201~\\necho in\\'\\'jected\\n');\
        window.__drydock.term(1).textarea.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));\
        return true";
    browser.script::<bool>(paste, vec![]).await;
    browser.until_terminal(1, "echo in''jected").await;
    // Not by Ctrl+C: a signal that comes while readline draws leaves what was pasted there.
    browser.chord(&[key::CONTROL], 'u').await;
    // Of a program that has the terminal already: a shell that is about to start one may lose the signal.
    browser.run(1, "sh -c \"echo af''ter; exec sleep 1000\"").await;
    browser.until_terminal(1, "\nafter").await;
    let shown = browser.terminal(1).await;
    assert!(!shown.contains("\ninjected"), "{shown}");
    // The first Ctrl+C copies what is selected, the second is the program's.
    browser.script::<bool>("window.__drydock.term(1).selectAll(); return true", vec![]).await;
    browser.chord(&[key::CONTROL], 'c').await;
    let selected = "return window.__drydock.term(1).hasSelection()";
    browser.until("nothing is selected", async || !browser.script::<bool>(selected, vec![]).await).await;
    browser.chord(&[key::CONTROL], 'c').await;
    browser.until_prompt(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_is_copied_from_under_a_programs_mouse_and_does_not_come_back() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    let copies =
        "window.copies = []; navigator.clipboard.writeText = async (text) => copies.push(text); return true";
    assert!(browser.script::<bool>(copies, vec![]).await);
    browser.run(1, "clear; printf '\\e[?1002h'; echo some''thing; cat > /dev/null").await;
    browser.until_terminal(1, "something").await;
    let [x, y, width] = browser
        .script::<[i64; 3]>(
            "const box = document.querySelector('.xterm-screen').getBoundingClientRect(), term = window.__drydock.term(1);\
             const row = [...Array(term.rows).keys()].find(y => term.buffer.active.getLine(y)?.translateToString(true) === 'something');\
             return [box.x, box.y + (row + 0.5) * box.height / term.rows, 9.6 * box.width / term.cols].map(Math.round)",
            vec![],
        )
        .await;
    let drag = browser.driver().action_chain().key_down(key::SHIFT).move_to(x + 1, y).click_and_hold();
    drag.move_to(x + width, y).release().key_up(key::SHIFT).perform().await.unwrap();
    let copied = async || browser.script::<Vec<String>>("return copies", vec![]).await;
    browser.until("it is copied", async || !copied().await.is_empty()).await;
    assert_eq!(copied().await, ["something"]);

    // It goes by a key, and no resize brings it back.
    let drawn = async || {
        let count = "return document.querySelectorAll('.xterm-selection > *').length";
        browser.script::<u32>(count, vec![]).await
    };
    assert_ne!(drawn().await, 0);
    browser.keys("x").await;
    browser.until("it is gone", async || drawn().await == 0).await;
    let columns = async || browser.script::<u32>("return window.__drydock.term(1).cols", vec![]).await;
    let before = columns().await;
    browser.resize(1100, 800).await;
    browser.until("there is less room", async || columns().await < before).await;
    assert_eq!(drawn().await, 0);
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
async fn a_flood_is_drawn_seldom() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    // Drawing the screen is what xterm.js does by `renderRows`, for the selection too.
    let count =
        "const term = window.__drydock.term(1), drawn = window.drawn = { pictures: 0, screens: 0, held: 0, against: 0 };
        const held = () => term.modes.synchronizedOutputMode;
        term.onRender(() => drawn.pictures++);
        term.onWriteParsed(() => { if (held()) drawn.held++ });
        const renderer = term._core._renderService._renderer.value, render = renderer.renderRows;
        renderer.renderRows = function (...rows) {
            drawn.screens++;
            if (held()) drawn.against++;
            return render.apply(this, rows);
        };
        return true";
    browser.script::<bool>(count, vec![]).await;
    browser.run(1, "seq 400000; echo flood-$((1+1))").await;
    browser.until_terminal(1, "flood-2").await;
    let shows = "return [...document.querySelectorAll('.xterm-rows > div')].some(row => row.textContent.trim() === arguments[0])";
    browser.until("the end is drawn", async || browser.script(shows, vec![json!("flood-2")]).await).await;
    let drawn: Value = browser.script("return window.drawn", vec![]).await;
    let number = |drawn: &Value, name: &str| drawn[name].as_u64().unwrap();
    assert!(number(&drawn, "held") > 0, "nothing was held: {drawn}");
    assert_eq!(number(&drawn, "against"), 0, "drawn while it was held: {drawn}");
    let more = number(&drawn, "screens") - number(&drawn, "pictures");
    assert!(more <= 2, "{drawn}: drawn for a selection that is not there");
    // What the program itself holds stays so, whatever comes meanwhile.
    browser
        .run(1, "clear; printf '\\e[?2026h'; seq 30000; echo held-$((1+1)); read x; printf '\\e[?2026l'")
        .await;
    browser.until_terminal(1, "held-2").await;
    let held = "return window.__drydock.term(1).modes.synchronizedOutputMode";
    assert!(browser.script::<bool>(held, vec![]).await, "let go when the flood began to pause");
    browser.keys(&key::ENTER.to_string()).await;
    browser.until("the end is drawn", async || browser.script(shows, vec![json!("held-2")]).await).await;
    // One that holds it and goes without a word: xterm.js lets it go after a second, and the next flood is held as the first.
    browser.run(1, "clear; printf '\\e[?2026h'; echo gone-$((1+1))").await;
    browser.until("it is drawn", async || browser.script(shows, vec![json!("gone-2")]).await).await;
    let before: Value = browser.script("return window.drawn", vec![]).await;
    browser.run(1, "seq 400000; echo again-$((1+1))").await;
    browser.until_terminal(1, "again-2").await;
    let after: Value = browser.script("return window.drawn", vec![]).await;
    assert!(number(&after, "held") > number(&before, "held"), "{before} {after}");
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

#[tokio::test(flavor = "multi_thread")]
async fn what_a_terminal_printed_last_can_be_seen_when_its_shell_has_ended() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.run(1, "seq 200; exit").await;
    browser.find("exit-1").await;
    let below = "const bottom = (selector) => document.querySelector(selector).getBoundingClientRect().bottom;\
        const bar = document.querySelector('[data-testid=exit-1]').getBoundingClientRect();\
        return bottom('.xterm-screen') <= bar.top && bar.bottom <= innerHeight";
    browser.until("nothing is covered", async || browser.script::<bool>(below, vec![]).await).await;
    // A notice leaves its buttons free.
    let above = "const bar = document.querySelector('[data-testid=exit-1]').getBoundingClientRect();\
        const notice = document.querySelector('.notice').getBoundingClientRect();\
        return notice.height > 0 && notice.bottom <= bar.top";
    for (width, height) in [(1280, 800), (320, 640)] {
        browser.resize(width, height).await;
        if width == 320 {
            browser.click("area-nodes").await;
        }
        browser.click("node-address-node1").await;
        browser.find("notice").await;
        if width == 320 {
            browser.click("area-terminals").await;
        }
        browser.screenshot(&format!("notice-ended-{width}")).await;
        assert!(
            browser.script::<bool>(above, vec![]).await,
            "a notice covers what is said at the end, {width} px"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_parsed_is_not_written_to_the_console() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.run(1, "printf '\\033[\\303\\251\\n'; echo do''ne").await;
    browser.until_terminal(1, "\ndone").await;
    let log = browser.driver().browser_log().await.expect("the console can be read");
    assert!(log.is_empty(), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_between_panes_has_its_name() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.until_prompt(1).await;
    browser.click("split-right").await;
    browser.until_prompt(2).await;
    browser.find("tab-1").await.click().await.unwrap();
    browser.click("split-down").await;
    browser.until_prompt(3).await;
    let names = "return [...document.querySelectorAll('.workspace > .separator')].map((line) => line.ariaLabel).sort()";
    let names: Vec<String> = browser.script(names, vec![]).await;
    assert_eq!(names, ["Height of terminal 1, in per cent", "Width of terminal 1 and 3, in per cent"]);
    browser.assert_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_terminal_in_which_something_runs_asks() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.until_prompt(1).await;
    let large = "const { width, height } = document.querySelector('.tab-close').getBoundingClientRect(); return width >= 24 && height >= 24";
    assert!(browser.script::<bool>(large, vec![]).await, "the cross is smaller than 24 px");
    browser.run(1, "sh -c 'echo it-$((1+1)); exec sleep 1000'").await;
    browser.until_terminal(1, "\nit-2").await;
    browser.click("close-tab").await;
    browser.find("closing-1").await;
    assert!(browser.text("closing-1").await.contains(" still runs in it"));
    browser.screenshot("closing").await;
    browser.assert_accessible("the question before a terminal is closed").await;
    // Whoever types on wants to keep it.
    browser.focus_terminal(1).await;
    browser.chord(&[key::CONTROL], 'c').await;
    browser.gone("closing-1").await;
    // A job in the background runs too.
    browser.run(1, "sleep 1000 & echo kept-$((1+1))").await;
    browser.until_terminal(1, "\nkept-2").await;
    browser.click("close-tab").await;
    browser.find("closing-1").await;
    browser
        .until("it is closed", async || {
            press(&browser, "close-1").await;
            !browser.shows("tab-1").await
        })
        .await;
    browser.find("empty-hint").await;
    // A shell that has ended has nothing to lose, nor one at its prompt.
    for (terminal, exit) in [(2, true), (3, false)] {
        browser.click("open-terminal-node1").await;
        browser.until_prompt(terminal).await;
        if exit {
            browser.run(terminal, "exit").await;
            browser.find(&format!("exit-{terminal}")).await;
        }
        browser
            .until("it is closed without a question", async || {
                press(&browser, "close-tab").await;
                !browser.shows(&format!("tab-{terminal}")).await
            })
            .await;
    }
    browser.assert_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_counts_and_marks_all_that_it_finds() {
    let server = Server::shared();
    let session = server.session().await;
    let browser = Browser::start().await;
    browser.open_session(&session.url).await;
    browser.run(1, "clear; printf 'needle-%s\\n' 1 2 3").await;
    browser.until_terminal(1, "needle-3").await;
    browser.chord(&[key::CONTROL, key::SHIFT], 'F').await;
    browser.find("search-1").await;
    browser.keys("needle-").await;
    let found = async |words| browser.text("search-result").await == words;
    browser.until("the last of three", async || found("3 of 3").await).await;
    let marked = "return new Set([...document.querySelectorAll('.xterm-decoration-container > *')].map(e => e.style.top)).size";
    browser.until("all are marked", async || browser.script::<u32>(marked, vec![]).await == 3).await;
    browser.screenshot("search").await;
    browser.keys(&key::ENTER.to_string()).await;
    browser.until("the one above", async || found("2 of 3").await).await;
    browser.keys("none").await;
    browser.until("there is no such text", async || found("not found").await).await;
}
