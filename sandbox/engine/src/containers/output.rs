//! What a container prints, on its way: a stream goes to the log and to who is attached. Whoever ends a run waits until nothing of it is
//! being written any more.

use super::{
    Container,
    logs::Cutter,
    streams::{Io, Stream, pump},
};
use crate::engine::Engine;
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{RwLock, Semaphore};

/// One stream to the log and to who is attached.
pub async fn pump_out(sink: Sink, io: Arc<Io>, stream: Stream) {
    let to = sink.clone();
    pump(io, move |piece| {
        let to = to.clone();
        async move {
            tokio::join!(to.log(Some(piece.clone())), to.container.streams.hand_out(stream, &piece));
        }
    })
    .await;
    sink.log(None).await;
}

/// A stream's way to the log.
#[derive(Clone)]
pub struct Sink {
    container: Arc<Container>,
    cutter: Arc<Mutex<Cutter>>,
    /// The right to a thread.
    threads: Arc<Semaphore>,
    /// Read by whoever writes something of this run.
    writing: Arc<RwLock<()>>,
}

impl Sink {
    /// For a stream of a run. `writing` is shared by all streams of the run.
    pub fn new(
        engine: &Engine,
        container: &Arc<Container>,
        stream: Stream,
        writing: &Arc<RwLock<()>>,
    ) -> Self {
        Self {
            container: container.clone(),
            cutter: Arc::new(Mutex::new(Cutter::new(stream))),
            threads: engine.containers.log_threads.clone(),
            writing: writing.clone(),
        }
    }

    /// A piece of the stream to the log, or its end. On a thread that may wait for the disk: only the program itself waits for its log.
    async fn log(&self, piece: Option<Bytes>) {
        if !self.container.log.takes_lines() {
            return;
        }
        let written = async {
            let writing = self.writing.clone().read_owned().await;
            // It is never closed.
            let thread = self.threads.clone().acquire_owned().await.ok();
            let (container, cutter) = (self.container.clone(), self.cutter.clone());
            let work = tokio::task::spawn_blocking(move || {
                let mut cutter = cutter.lock().unwrap_or_else(PoisonError::into_inner);
                let lines = match piece {
                    Some(piece) => container.log.write(&mut cutter, &piece),
                    None => container.log.finish(&mut cutter),
                };
                drop((writing, thread));
                lines
            });
            work.await
        };
        match written.await {
            Ok(lines) => self.container.log.deliver(lines).await,
            Err(error) => tracing::error!(container = self.container.id, %error, "output was not logged"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::record::Record;
    use std::fs;

    #[tokio::test]
    async fn a_log_that_waits_for_the_disk_holds_up_its_program_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record { id: "x".into(), ..Record::default() };
        let sink = Sink {
            container: Arc::new(Container::new(record, dir.path())),
            cutter: Arc::new(Mutex::new(Cutter::new(Stream::Out))),
            threads: Arc::new(Semaphore::new(1)),
            writing: Arc::default(),
        };
        let (held, (waits, is_held), (go_on, goes_on)) =
            (sink.cutter.clone(), std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let disk = std::thread::spawn(move || {
            let _busy = held.lock().unwrap();
            waits.send(()).unwrap();
            goes_on.recv().unwrap();
        });
        is_held.recv().unwrap();
        let to = sink.clone();
        let logging = tokio::spawn(async move { to.log(Some(Bytes::from_static(b"line\n"))).await });
        // Whoever else has something to do on this thread does it.
        tokio::task::yield_now().await;
        assert!(!logging.is_finished());
        // What waits for the disk goes on although nobody waits for it, and the run is not over before.
        logging.abort();
        assert!(sink.writing.try_write().is_err());
        go_on.send(()).unwrap();
        let _all_written = sink.writing.write().await;
        disk.join().unwrap();
        let text = fs::read_to_string(dir.path().join("x/x-json.log")).unwrap();
        assert!(text.starts_with(r#"{"log":"line\n""#), "{text}");
    }
}
