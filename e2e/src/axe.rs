//! axe-core, which finds faults that keep people with assistive technology from using a page. Taken from npm, at the
//! version that `package-lock.json` names, and put into the page by the driver.

use crate::Browser;
use serde::Deserialize;
use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::Command,
    sync::{LazyLock, Mutex},
};

/// Where `package.json` is.
const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// The checker's own script, fetched once if it is not there.
static SCRIPT: LazyLock<String> = LazyLock::new(|| {
    let path = Path::new(HERE).join("node_modules/axe-core/axe.min.js");
    if !path.exists() {
        fetch();
    }
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
});

fn fetch() {
    let output = Command::new("npm").args(["ci", "--ignore-scripts"]).current_dir(HERE).output();
    let output = output.unwrap_or_else(|e| {
        panic!("npm cannot be run ({e}); it fetches axe-core for the accessibility tests")
    });
    assert!(
        output.status.success(),
        "npm ci in {HERE} failed; axe-core is needed for the accessibility tests:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[derive(Debug, Deserialize)]
struct Violation {
    id: String,
    impact: Option<String>,
    help: String,
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    html: String,
    failure_summary: Option<String>,
}

impl Browser {
    /// Asserts that axe-core finds no fault (WCAG 2.2 A and AA, and its best practices) in the page as it is now.
    pub async fn assert_accessible(&self, what: &str) {
        // The checker has global state of its own in each page, not across them; this keeps the first fetch single.
        static ONCE: Mutex<()> = Mutex::new(());
        let script = {
            let _one = ONCE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            SCRIPT.as_str()
        };
        self.script::<serde::de::IgnoredAny>(script, vec![]).await;
        let run = "const done = arguments[0];\
             axe.run(document, {resultTypes: ['violations'], rules: {'target-size': {enabled: true}}})\
                .then(r => done(r.violations), e => done([{id: 'axe', help: String(e), nodes: []}]));";
        let found: Vec<Violation> = self.script_async(run, vec![]).await;
        let mut text = String::new();
        for v in &found {
            let impact = v.impact.as_deref().unwrap_or("?");
            let _ = writeln!(text, "{} ({impact}): {}", v.id, v.help);
            for node in v.nodes.iter().take(5) {
                let why = node.failure_summary.as_deref().unwrap_or_default().replace('\n', "\n      ");
                let _ = writeln!(text, "    {}\n      {why}", node.html);
            }
        }
        assert!(found.is_empty(), "axe-core finds faults in {what}:\n{text}");
    }
}
