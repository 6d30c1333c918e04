//! One layer from a registry to a file without a name: in pieces, resumed where it broke, its digest checked.

use super::{
    ClientOptions,
    pull::{LayerBlob, PullLayer},
    repository::Repository,
};
use crate::{
    Error, Event, Events, Result,
    digest::{Hasher, short},
    events::Meter,
};
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{CONTENT_RANGE, HeaderValue, RANGE},
};
use std::{io::SeekFrom, path::Path, sync::Arc, time::Duration};
use tokio::{
    fs::File,
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
    sync::Semaphore,
};

/// What has arrived so far.
struct Spool {
    file: File,
    hasher: Hasher,
}

impl Spool {
    async fn new(dir: &Path) -> Result<Self> {
        let dir = dir.to_owned();
        let made = tokio::task::spawn_blocking(move || tempfile::tempfile_in(dir)).await;
        let file = made.map_err(std::io::Error::other).and_then(|file| file);
        let file = File::from_std(file.map_err(Error::io("cannot make a file for the layer"))?);
        Ok(Self { file, hasher: Hasher::new() })
    }

    async fn reset(&mut self) -> Result<()> {
        self.hasher = Hasher::new();
        self.file.set_len(0).await.map_err(Error::io("cannot empty the file of the layer"))?;
        self.file.rewind().await.map_err(Error::io("cannot empty the file of the layer"))?;
        Ok(())
    }
}

/// Fetches a layer. Waits for its turn, tries again as often as the options say.
pub(super) async fn layer(
    repository: Arc<Repository>,
    layer: PullLayer,
    events: Events,
    turns: Arc<Semaphore>,
) -> Result<LayerBlob> {
    let id = short(&layer.digest);
    let turn = Arc::clone(&turns).try_acquire_owned();
    let _turn = match turn {
        Ok(turn) => Some(turn),
        Err(_) => {
            events(Event::layer(&id, "Waiting"));
            turns.acquire_owned().await.ok()
        }
    };
    let options = Arc::clone(&repository.options);
    if layer.size > options.layer_max {
        return Err(Error::Content(format!(
            "layer {} exceeds the limit of {} bytes",
            layer.digest, options.layer_max
        )));
    }
    let mut spool = Spool::new(&options.spool).await?;
    let mut attempt = 1;
    while let Err(error) = once(&repository, &layer, &mut spool, &events).await {
        if !error.may_retry() || attempt >= options.attempts {
            return Err(error);
        }
        tracing::info!(layer = %layer.digest, attempt, %error, "download failed, trying again");
        pause(&options, attempt, &events, &id).await;
        attempt += 1;
    }
    events(Event::layer(&id, "Download complete"));
    let size = spool.hasher.bytes();
    spool.file.rewind().await.map_err(Error::io("cannot read the layer"))?;
    Ok(LayerBlob { file: spool.file.into_std().await, size })
}

/// One request; on success the file is whole and right.
async fn once(repository: &Repository, layer: &PullLayer, spool: &mut Spool, events: &Events) -> Result<()> {
    let url = repository.url(&format!("blobs/{}", layer.digest));
    let offset = spool.hasher.bytes();
    let range = HeaderValue::from_str(&format!("bytes={offset}-")).ok().filter(|_| offset > 0);
    let answer = repository.fetch(Method::GET, &url, range.map(|r| (RANGE, r)).into_iter().collect()).await?;
    match answer.status() {
        StatusCode::PARTIAL_CONTENT if offset > 0 && starts_at(answer.headers(), offset) => {}
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            spool.reset().await?;
            return Err(Error::Broken("the registry did not continue where the download broke off".into()));
        }
        StatusCode::OK if offset > 0 => spool.reset().await?,
        StatusCode::OK => {}
        _ => return Err(repository.http.refusal(answer).await),
    }
    // A file is written at its cursor, which a failed write may have moved beyond what was counted.
    let cursor = spool.hasher.bytes();
    spool.file.seek(SeekFrom::Start(cursor)).await.map_err(Error::io("cannot write the layer"))?;
    let mut meter = Meter::new(Arc::clone(events), short(&layer.digest), "Downloading", layer.size);
    meter.set(cursor);
    let mut body = answer.into_body();
    while let Some(piece) = repository.http.piece(&mut body).await? {
        if spool.hasher.bytes() + piece.len() as u64 > layer.size {
            return Err(Error::Content(format!("layer {} is larger than its manifest says", layer.digest)));
        }
        spool.file.write_all(&piece).await.map_err(Error::io("cannot write the layer"))?;
        spool.hasher.update(&piece);
        meter.add(piece.len() as u64);
    }
    spool.file.flush().await.map_err(Error::io("cannot write the layer"))?;
    if spool.hasher.bytes() < layer.size {
        return Err(Error::Broken("unexpected EOF".into()));
    }
    events(Event::layer(short(&layer.digest), "Verifying Checksum"));
    if spool.hasher.digest() == layer.digest {
        return Ok(());
    }
    let text = format!("filesystem layer verification failed for digest {}", layer.digest);
    if cursor > 0 {
        // Perhaps only the pieces do not fit together.
        spool.reset().await?;
        return Err(Error::Broken(text));
    }
    Err(Error::Content(text))
}

fn starts_at(headers: &HeaderMap, offset: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let start = range.strip_prefix("bytes ").and_then(|r| r.split('-').next()).and_then(|s| s.parse().ok());
    start == Some(offset)
}

/// Counts down to the next attempt.
pub(super) async fn pause(options: &ClientOptions, attempt: u32, events: &Events, id: &str) {
    let mut left = options.retry_delay * attempt;
    while !left.is_zero() {
        let seconds = left.as_secs_f64().ceil() as u64;
        let plural = if seconds == 1 { "" } else { "s" };
        events(Event::layer(id, format!("Retrying in {seconds} second{plural}")));
        let step = left.min(Duration::from_secs(1));
        tokio::time::sleep(step).await;
        left -= step;
    }
}
