//! The store forgets history that is older than five minutes (`--etcd-compaction-interval`): a client that comes back later lists again.

use drydock_etcd::Store;
use std::time::Duration;

/// Between compactions.
const INTERVAL: Duration = Duration::from_secs(300);

/// Compacts for as long as it is polled.
pub async fn run(store: Store) {
    loop {
        let revision = store.revision();
        tokio::time::sleep(INTERVAL).await;
        if revision > store.compacted()
            && let Err(error) = store.compact(revision).await
        {
            tracing::warn!(%error, revision, "the store was not compacted");
        }
    }
}
