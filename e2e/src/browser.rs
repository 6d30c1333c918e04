//! A real Chromium, driven through chromedriver, with a fresh profile. Both live in a process namespace of their own,
//! so that the end of it is the end of all their processes.

use crate::{PATIENCE, Server, guard::Guard};
use drydock_protocol::TerminalId;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use thirtyfour::{Capabilities, WebDriver, prelude::*};
use tokio::time::sleep;

/// How often something is looked for in the page.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Keys without a character, as WebDriver writes them (17.4.2 of its specification).
pub mod key {
    #![expect(missing_docs, reason = "the keys are named after what is printed on them")]
    pub const TAB: char = '\u{e004}';
    pub const ENTER: char = '\u{e007}';
    pub const SHIFT: char = '\u{e008}';
    pub const CONTROL: char = '\u{e009}';
    pub const ESCAPE: char = '\u{e00c}';
    pub const LEFT: char = '\u{e012}';
}

/// A browser with one window.
#[derive(Debug)]
pub struct Browser {
    driver: Option<WebDriver>,
    process: Child,
    _guard: Guard,
    _profile: TempDir,
}

/// The last so many rows of a terminal as text, line by line as it was printed.
const TERMINAL_TEXT: &str = "const term = window.__drydock?.term(arguments[0]); if (!term) return null;\
     const b = term.buffer.active; let text = '';\
     for (let i = Math.max(0, b.length - arguments[1]); i < b.length; i++) { const l = b.getLine(i); text += (i && !l.isWrapped ? '\\n' : '') + l.translateToString(true); }\
     return text.trimEnd();";

impl Browser {
    /// A window of 1280 × 800.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With more arguments for Chromium.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let profile = tempfile::Builder::new()
            .prefix("dd-e2e-chromium-")
            .tempdir_in("/var/tmp")
            .expect("/var/tmp can be written");
        let (process, port) = start_driver();
        let guard = Guard::new(
            "kill -9 $(cat /proc/$1/task/$1/children); rm -rf \"$2\"",
            &[&process.id().to_string(), &profile.path().to_string_lossy()],
        );
        let mut args: Vec<String> = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]
        .iter()
        .chain(arguments)
        .map(|a| (*a).to_owned())
        .collect();
        args.push(format!("--user-data-dir={}", profile.path().display()));
        let mut capabilities = Capabilities::new();
        for (key, value) in [
            ("browserName", json!("chrome")),
            ("goog:chromeOptions", json!({ "args": args, "binary": program("chromium") })),
            ("goog:loggingPrefs", json!({ "browser": "ALL" })),
        ] {
            capabilities.set(key, value).expect("it has a JSON form");
        }
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), capabilities).await;
        let driver = driver.unwrap_or_else(|e| panic!("chromium did not start: {e}"));
        let browser = Self { driver: Some(driver), process, _guard: guard, _profile: profile };
        // The page lets tests look into its terminals only if this is there.
        let source = "try { localStorage.setItem('drydock.test', '1') } catch {}";
        browser.resize(1280, 800).await;
        browser.cdp("Page.addScriptToEvaluateOnNewDocument", json!({ "source": source })).await;
        browser
    }

    /// The driver, for what has no helper here.
    pub fn driver(&self) -> &WebDriver {
        self.driver.as_ref().expect("it is taken in drop only")
    }

    /// Calls the browser's own protocol.
    pub async fn cdp(&self, method: &str, params: Value) -> Value {
        self.driver().cdp().send_raw(method, params).await.unwrap_or_else(|e| panic!("{method}: {e}"))
    }

    /// Opens an address.
    pub async fn open(&self, url: &str) {
        self.driver().goto(url).await.unwrap_or_else(|e| panic!("{url}: {e}"));
    }

    /// The address bar.
    pub async fn url(&self) -> String {
        self.driver().current_url().await.expect("an address").to_string()
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.driver().refresh().await.expect("the page can be loaded again");
    }

    /// Runs a script in the page; what it returns.
    pub async fn script<T: DeserializeOwned>(&self, script: &str, args: Vec<Value>) -> T {
        let shown: String = script.chars().take(200).collect();
        let value = self.driver().execute(script, args).await.unwrap_or_else(|e| panic!("{shown}: {e}"));
        value.convert().unwrap_or_else(|e| panic!("{shown}: {e}"))
    }

    /// Runs a script whose last argument is called with its result.
    pub async fn script_async<T: DeserializeOwned>(&self, script: &str, args: Vec<Value>) -> T {
        let shown: String = script.chars().take(200).collect();
        let value =
            self.driver().execute_async(script, args).await.unwrap_or_else(|e| panic!("{shown}: {e}"));
        value.convert().unwrap_or_else(|e| panic!("{shown}: {e}"))
    }

    /// Sets the window's inner size, as on a device of that size.
    pub async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.cdp("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// What the operating system says it prefers: `light` or `dark`.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.cdp("Emulation.setEmulatedMedia", features).await;
    }

    /// An element by its `data-testid`, once it is displayed.
    pub async fn find(&self, testid: &str) -> WebElement {
        let by = By::Css(format!("[data-testid='{testid}']"));
        let end = Instant::now() + PATIENCE;
        loop {
            for element in self.driver().find_all(by.clone()).await.unwrap_or_default() {
                // It may be replaced just now.
                if element.is_displayed().await.unwrap_or(false) {
                    return element;
                }
            }
            assert!(Instant::now() < end, "no '{testid}' is displayed; {}", self.describe().await);
            sleep(LOOK_EVERY).await;
        }
    }

    /// Whether an element is displayed now.
    pub async fn shows(&self, testid: &str) -> bool {
        let by = By::Css(format!("[data-testid='{testid}']"));
        for element in self.driver().find_all(by).await.unwrap_or_default() {
            if element.is_displayed().await.unwrap_or(false) {
                return true;
            }
        }
        false
    }

    /// Waits until an element is not displayed.
    pub async fn gone(&self, testid: &str) {
        self.until(&format!("'{testid}' is gone"), async || !self.shows(testid).await).await;
    }

    /// Clicks an element as soon as it can be clicked.
    pub async fn click(&self, testid: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.find(testid).await.click().await {
                Ok(()) => return,
                Err(e) => assert!(
                    Instant::now() < end,
                    "'{testid}' cannot be clicked: {e}; {}",
                    self.describe().await
                ),
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// An element's text.
    pub async fn text(&self, testid: &str) -> String {
        self.find(testid).await.text().await.unwrap_or_default()
    }

    /// An element's attribute.
    pub async fn attr(&self, testid: &str, name: &str) -> Option<String> {
        self.find(testid).await.attr(name).await.ok().flatten()
    }

    /// Waits until an element's attribute has a value.
    pub async fn until_attr(&self, testid: &str, name: &str, value: &str) {
        let what = format!("{name}='{value}' of '{testid}'");
        self.until(&what, async || self.attr(testid, name).await.as_deref() == Some(value)).await;
    }

    /// Waits until something holds; panics with its name and what the page shows if it does not.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, mut holds: impl FnMut() -> F) {
        let end = Instant::now() + PATIENCE;
        while !holds().await {
            assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}; {}", self.describe().await);
            sleep(LOOK_EVERY).await;
        }
    }

    /// Types into what has the focus; keys of [`key`] among it.
    pub async fn keys(&self, keys: &str) {
        self.driver().action_chain().send_keys(keys).perform().await.expect("keys can be typed");
    }

    /// Presses a key while others are held, such as Ctrl and C.
    pub async fn chord(&self, held: &[char], key: char) {
        let mut chain = self.driver().action_chain();
        for k in held {
            chain = chain.key_down(*k);
        }
        chain = chain.key_down(key).key_up(key);
        for k in held.iter().rev() {
            chain = chain.key_up(*k);
        }
        chain.perform().await.expect("keys can be pressed");
    }

    /// What a terminal shows, scroll-back included; empty while there is none.
    pub async fn terminal(&self, id: u32) -> String {
        self.terminal_end(id, u32::MAX).await
    }

    /// The last rows of a terminal; what to ask while much is printed, as long texts cost the page memory.
    pub async fn terminal_end(&self, id: u32, rows: u32) -> String {
        let text: Option<String> = self.script(TERMINAL_TEXT, vec![json!(TerminalId(id)), json!(rows)]).await;
        text.unwrap_or_default()
    }

    /// Waits until a terminal shows a text.
    pub async fn until_terminal(&self, id: u32, text: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let shown = self.terminal(id).await;
            if shown.contains(text) {
                return;
            }
            assert!(
                Instant::now() < end,
                "'{text}' is not in terminal {id}: {shown:?}; {}",
                self.describe().await
            );
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits for the prompt of a terminal: the last line ends with `# `.
    pub async fn until_prompt(&self, id: u32) {
        self.until(&format!("a prompt in terminal {id}"), async || {
            let text = self.terminal_end(id, 300).await;
            text.lines().last().is_some_and(|l| l.ends_with('#'))
        })
        .await;
    }

    /// Puts the focus into a terminal.
    pub async fn focus_terminal(&self, id: u32) {
        let focused = "const t = window.__drydock.term(arguments[0]); t.focus(); return document.activeElement === t.textarea;";
        self.until("the focus is in the terminal", async || self.script(focused, vec![json!(id)]).await)
            .await;
    }

    /// Types a command into a terminal, with Enter.
    pub async fn run(&self, id: u32, command: &str) {
        self.focus_terminal(id).await;
        self.keys(&format!("{command}{}", key::ENTER)).await;
    }

    /// Opens a session by a link and waits for the first terminal's prompt.
    pub async fn open_session(&self, url: &str) {
        self.open(url).await;
        self.find("session-page").await;
        self.until_attr("connection-state", "data-state", "up").await;
        self.until_prompt(1).await;
    }

    /// Opens a server's start page and waits until Start can be pressed.
    pub async fn open_start(&self, server: &Server) {
        self.open(&server.url()).await;
        self.find("start-button").await;
    }

    /// Writes what the window shows into the directory named by `DRYDOCK_SCREENSHOTS`, if that is set.
    pub async fn screenshot(&self, name: &str) {
        let Some(dir) = std::env::var_os("DRYDOCK_SCREENSHOTS").map(PathBuf::from) else { return };
        fs::create_dir_all(&dir).expect("the directory for screenshots can be made");
        // What is moving comes to rest first.
        let rest = "const done = arguments[0];\
             Promise.all(document.getAnimations().filter(a => a.effect?.getComputedTiming().iterations !== Infinity).map(a => a.finished.catch(() => 0)))\
             .then(() => requestAnimationFrame(() => requestAnimationFrame(() => done(true))));";
        self.script_async::<bool>(rest, vec![]).await;
        self.driver()
            .screenshot(&dir.join(format!("{name}.png")))
            .await
            .expect("a screenshot can be written");
    }

    /// Asserts that the console holds no error but those that contain one of `expected`.
    pub async fn assert_quiet(&self, expected: &[&str]) {
        let log = self.driver().browser_log().await.expect("the console can be read");
        let errors: Vec<_> = log
            .into_iter()
            .filter(|e| e.level == "SEVERE" && !expected.iter().any(|part| e.message.contains(part)))
            .map(|e| e.message)
            .collect();
        assert!(errors.is_empty(), "errors in the console: {errors:#?}");
    }

    /// Asserts that nothing sticks out of the window sideways.
    pub async fn assert_fits(&self, what: &str) {
        let wide = "const w = document.documentElement.clientWidth; const out = [];\
             for (const e of document.querySelectorAll('body *')) {\
               const r = e.getBoundingClientRect(); const s = getComputedStyle(e);\
               if (r.width > 0 && r.right > w + 1 && s.visibility !== 'hidden' && !e.closest('.xterm') && !scrolls(e)) out.push(e.outerHTML.slice(0, 120));\
             }\
             function scrolls(e) { for (let p = e.parentElement; p; p = p.parentElement) { const o = getComputedStyle(p).overflowX; if (o !== 'visible' && p !== document.body) return true } return false }\
             return [document.documentElement.scrollWidth > w ? `the page is ${document.documentElement.scrollWidth} px wide` : '', ...out].filter(x => x);";
        let out: Vec<String> = self.script(wide, vec![]).await;
        assert!(out.is_empty(), "{what} does not fit: {out:#?}");
    }

    /// What the page shows, for messages of failed tests. Takes a screenshot if those are wanted.
    pub async fn describe(&self) -> String {
        if std::env::var_os("DRYDOCK_SCREENSHOTS").is_some() {
            self.screenshot("failure").await;
        }
        let text = self
            .driver()
            .execute("return location.href + '\\n' + (document.body?.innerText ?? '')", vec![])
            .await;
        let text = text.ok().and_then(|t| t.convert::<String>().ok()).unwrap_or_default();
        let log = self.driver().browser_log().await.unwrap_or_default();
        let log: Vec<_> = log.into_iter().map(|e| format!("{} {}", e.level, e.message)).collect();
        format!("the page shows: {}\nthe console: {log:#?}", text.chars().take(3000).collect::<String>())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            // Its end is the end of its processes; the polite way takes a runtime, which drop has not.
            drop(driver.leak());
        }
        kill_namespace(&mut self.process);
    }
}

/// Where a program is; panics if it is not installed.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_file());
    found.unwrap_or_else(|| {
        panic!("'{name}' is not installed; browser tests need it (apt-get install chromium chromium-driver)")
    })
}

/// Starts chromedriver on a free port. Seen once on a busy machine: it ended without serving; so it is started anew, and what it said
/// is printed.
fn start_driver() -> (Child, u16) {
    const ATTEMPTS: usize = 3;
    (0..ATTEMPTS)
        .find_map(|_| try_driver())
        .expect("chromedriver did not start (it needs root for a process namespace of its own)")
}

fn try_driver() -> Option<(Child, u16)> {
    let mut process = Command::new(program("unshare"))
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-c", "exec \"$0\" --port=0 2>&1"])
        .arg(program("chromedriver"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("unshare can be started");
    let mut lines = BufReader::new(process.stdout.take().expect("it is a pipe")).lines();
    let mut said = Vec::new();
    let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let port = line.split_once("started successfully on port ");
        let port = port.and_then(|(_, port)| port.trim_end_matches('.').parse().ok());
        said.push(line);
        port
    });
    // Reads to the end, so that the driver never meets a closed pipe.
    thread::spawn(move || lines.for_each(drop));
    if port.is_none() {
        eprintln!("chromedriver ended: {}", said.join("\n"));
        kill_namespace(&mut process);
    }
    Some((process, port?))
}

/// Kills the first process of the namespace that `unshare` waits for; when `unshare` has ended all of them have.
fn kill_namespace(unshare: &mut Child) {
    let pid = unshare.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    match children.split_whitespace().next().and_then(|c| c.parse().ok()) {
        Some(first) => {
            // Gone already is fine.
            let _gone =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL);
        }
        None => drop(unshare.kill()),
    }
    drop(unshare.wait());
}
