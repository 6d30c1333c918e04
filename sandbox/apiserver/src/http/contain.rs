//! Panics that are kept within one request (`WithPanicRecovery` of k8s.io/apiserver `pkg/server/filters/wrap.go`, and what Go's HTTP server
//! does for the rest of a connection): its client is told, and nobody else notices. A panic of anything else must end the process:
//! whoever starts it asks [`is_contained`].

use futures_util::FutureExt;
use std::future::Future;
use std::panic::AssertUnwindSafe;

tokio::task_local! {
    static CONTAINED: ();
}

/// Whether a panic of this task, now, is one of a single request.
pub fn is_contained() -> bool {
    CONTAINED.try_with(|()| ()).is_ok()
}

/// What comes of it; none if it panicked. Whatever requests share is changed under locks and as a whole, so nothing is left halfway.
pub fn contained<F: Future>(work: F) -> impl Future<Output = Option<F::Output>> {
    // In a box: it is some kilobytes, and each layer around it would move it once more.
    let work = Box::pin(work);
    async { CONTAINED.scope((), AssertUnwindSafe(work).catch_unwind()).await.ok() }
}

/// Runs the streams of a connection, each contained.
#[derive(Debug, Clone, Copy)]
pub struct Streams;

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(contained(stream));
    }
}
