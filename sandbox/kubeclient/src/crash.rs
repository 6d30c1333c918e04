//! What a panic does to a component: it ends the process, as upstream's `runtime.HandleCrash` does, and whoever runs the component starts
//! it anew. A runtime would end the one task that panicked, and its work would stay undone without a word.

use std::panic;
use std::process;

/// As which a Go program ends that panicked.
const STATUS: i32 = 2;

/// From now on a panic of any task or thread ends the process, after it was told on the error output. `is_contained` tells, on the thread
/// that panics, whether somebody there takes care of it.
pub fn panics_end_the_process(is_contained: fn() -> bool) {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        tell(panic);
        if !is_contained() {
            process::exit(STATUS);
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::process::Command;

    use super::*;
    use crate::WorkQueue;

    const CHILD: &str = "DRYDOCK_KUBECLIENT_TEST_PANICS";

    /// In a process of its own: a controller one of whose workers panics.
    #[tokio::test]
    async fn a_controller() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        panics_end_the_process(|| false);
        let queue = WorkQueue::new();
        queue.add("job".to_owned());
        tokio::spawn(async move {
            let reconcile = |item: String| async move {
                assert!(item.is_empty(), "{item} is too much");
                Ok::<_, Infallible>(None)
            };
            queue.work(1, reconcile).await;
        });
        std::future::pending().await
    }

    #[test]
    fn a_reconcile_that_panics_ends_the_process_with_an_error() {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::tests::a_controller", "--exact", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert_eq!(child.status.code(), Some(STATUS));
        let told = String::from_utf8_lossy(&child.stderr);
        assert!(told.contains("job is too much"), "{told}");
    }
}
