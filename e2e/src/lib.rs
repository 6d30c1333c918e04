//! What the tests and measurements of the whole product share: a server with a state directory of its own, its command
//! line, an HTTP client, a page's WebSocket without a browser, and a real browser.
//!
//! Everything here knows the product from outside only: the binary, its command line, its HTTP interface and the
//! `data-testid`s of the page. What cannot be set up is a panic that says what is missing, so that no test
//! passes without having tested anything. Nothing waits for a fixed time; [`until`] asks until something holds.

pub mod axe;
pub mod browser;
pub mod guard;
pub mod http;
pub mod lab;
pub mod page_socket;
pub mod server;

pub use browser::Browser;
pub use http::Answer;
pub use lab::Lab;
pub use page_socket::{Event, PageSocket};
pub use server::{Output, Server};

use std::time::{Duration, Instant};

/// How long tests wait for something before they fail.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition is looked at that nobody tells about.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until something holds; panics with its name if it does not within [`PATIENCE`].
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
