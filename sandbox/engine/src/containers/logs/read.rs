//! Reading a container's log back, from the files, in threads that may block: a log can be long, and the disk slow.

use super::{Log, rotation};
use crate::containers::streams::{Stream, frame};
use crate::{
    clock::Timestamp,
    error::{Error, Result},
};
use bytes::Bytes;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
};
use tokio::sync::mpsc;

/// Longest line of the file that is read back: six bytes for each of a piece, and attributes.
const LONGEST_ENTRY: u64 = 512 * 1024;
/// Bytes of the file that are read before a look at whether the reader is still there.
const BATCH: usize = 1 << 20;
/// Bytes that wait for a slow reader.
const READY: usize = 64 * 1024;

/// What a reader wants.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Standard output.
    pub out: bool,
    /// Standard error.
    pub err: bool,
    /// Go on until the run ends.
    pub follow: bool,
    /// Only the last ones.
    pub tail: Option<usize>,
    /// Nothing earlier.
    pub since: Option<Timestamp>,
    /// Nothing later.
    pub until: Option<Timestamp>,
    /// The time before each line.
    pub timestamps: bool,
    /// Attributes before each line.
    pub details: bool,
    /// In frames that tell the streams apart.
    pub framed: bool,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    time: Timestamp,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

impl Log {
    /// Sends what is wanted to `to`, until that is closed or there is no more.
    pub async fn read(&self, wanted: Wanted, to: mpsc::Sender<Bytes>) -> Result<()> {
        let Some(path) = &self.path else {
            return Err(Error::not_implemented("configured logging driver does not support reading"));
        };
        let mut progress = self.progress.subscribe();
        let mut seen = *progress.borrow_and_update();
        let (until, follow) = (wanted.until, wanted.follow);
        let (first, max_files) = (path.clone(), self.max_files);
        let mut reading = blocking(move || Reading::open(&first, max_files, wanted)).await?;
        loop {
            let mut more = true;
            while more {
                let batch;
                (reading, batch) = blocking(move || reading.batch()).await?;
                for piece in batch.pieces {
                    if to.send(piece).await.is_err() {
                        return Ok(());
                    }
                }
                if batch.past || to.is_closed() {
                    return Ok(());
                }
                more = batch.more;
            }
            if !follow {
                return Ok(());
            }
            let now = *progress.borrow_and_update();
            if now == seen && !now.live {
                return Ok(());
            }
            if now.rotations > seen.rotations || reading.files.is_empty() {
                let missed = if reading.files.is_empty() { 0 } else { now.rotations - seen.rotations };
                reading.files.extend(newest(path, missed));
            }
            if now == seen {
                let changed = async { progress.changed().await.is_ok() };
                let gone = tokio::select! {
                    more = changed => !more,
                    () = to.closed() => true,
                    () = past(until) => true,
                };
                if gone {
                    return Ok(());
                }
            }
            seen = now;
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal(error.to_string()))
}

/// A reader's place in the files.
struct Reading {
    wanted: Wanted,
    /// The oldest that is not read yet first.
    files: VecDeque<BufReader<File>>,
    line: Vec<u8>,
}

/// What a look into the files brought.
#[derive(Default)]
struct Batch {
    pieces: Vec<Bytes>,
    /// There may be more at once.
    more: bool,
    /// All that comes is later than what is wanted.
    past: bool,
}

impl Reading {
    fn open(path: &Path, max_files: u64, wanted: Wanted) -> Self {
        let files = open_all(path, max_files, wanted.tail);
        Self { wanted, files, line: Vec::new() }
    }

    fn batch(mut self) -> (Self, Batch) {
        let mut batch = Batch::default();
        let (mut read, mut ready) = (0, 0);
        while let Some(file) = self.files.front_mut() {
            match next(file, &mut self.line) {
                Some(found) => {
                    read += self.line.len();
                    // A line that is no entry is left out.
                    if found
                        .as_ref()
                        .is_ok_and(|found| self.wanted.until.is_some_and(|until| found.time > until))
                    {
                        batch.past = true;
                        break;
                    }
                    if let Some(piece) = found.ok().and_then(|found| self.wanted.piece(&found)) {
                        ready += piece.len();
                        batch.pieces.push(piece);
                    }
                }
                None if self.files.len() > 1 => drop(self.files.pop_front()),
                None => break,
            }
            if read >= BATCH || ready >= READY {
                batch.more = true;
                break;
            }
        }
        (self, batch)
    }
}

impl Wanted {
    /// An entry as this reader wants it, if it does.
    fn piece(&self, entry: &Entry) -> Option<Bytes> {
        let stream = if entry.stream == "stderr" { Stream::Err } else { Stream::Out };
        let wanted = if stream == Stream::Err { self.err } else { self.out };
        if !wanted || self.since.is_some_and(|since| entry.time < since) {
            return None;
        }
        let mut line = String::new();
        if self.timestamps {
            line = fixed(entry.time) + " ";
        }
        if self.details {
            let pairs: Vec<String> = entry.attrs.iter().map(|(k, v)| format!("{k}={v}")).collect();
            line = line + &pairs.join(",") + " ";
        }
        line.push_str(&entry.log);
        Some(if self.framed { frame(stream, line.as_bytes()) } else { line.into() })
    }
}

/// With nine digits of nanoseconds always.
fn fixed(time: Timestamp) -> String {
    let text = time.to_string();
    let (whole, fraction) =
        text.trim_end_matches('Z').split_once('.').unwrap_or((text.trim_end_matches('Z'), ""));
    format!("{whole}.{fraction:0<9}Z")
}

async fn past(until: Option<Timestamp>) {
    match until {
        Some(until) => tokio::time::sleep(until.since(Timestamp::now())).await,
        None => std::future::pending().await,
    }
}

/// All files from the oldest on, at the place where the wanted lines begin.
fn open_all(path: &Path, max_files: u64, tail: Option<usize>) -> VecDeque<BufReader<File>> {
    let mut files = VecDeque::new();
    let mut left = tail;
    for n in 0..max_files {
        let Some(mut file) = rotation::open(path, n) else { if n == 0 { continue } else { break } };
        if let Some(lines) = &mut left {
            match seek_back(&mut file, *lines) {
                Ok(found) => *lines -= found,
                Err(_) => continue,
            }
        }
        files.push_front(BufReader::with_capacity(32 * 1024, file));
        if left == Some(0) {
            break;
        }
    }
    files
}

/// The current file and as many before it as have been rotated away meanwhile.
fn newest(path: &Path, missed: u64) -> Vec<BufReader<File>> {
    (0..missed.clamp(1, 100)).rev().filter_map(|n| rotation::open(path, n)).map(BufReader::new).collect()
}

/// Places a file before its last lines; returns how many there are.
fn seek_back(file: &mut File, lines: usize) -> io::Result<usize> {
    let mut at = file.metadata()?.len();
    let mut found = 0;
    let mut block = vec![0; 64 * 1024];
    let mut last = true;
    while at > 0 {
        let len = block.len().min(usize::try_from(at).unwrap_or(usize::MAX));
        at -= len as u64;
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut block[..len])?;
        for position in (0..len).rev() {
            if block[position] != b'\n' {
                if std::mem::take(&mut last) {
                    found += 1;
                }
                continue;
            }
            if found >= lines {
                file.seek(SeekFrom::Start(at + position as u64 + 1))?;
                return Ok(found);
            }
            if !std::mem::take(&mut last) || lines > 0 {
                found += 1;
            }
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(found.min(lines))
}

/// The next entry: `None` at the end (for now), an error for a line that is none.
fn next(file: &mut BufReader<File>, line: &mut Vec<u8>) -> Option<Result<Entry, ()>> {
    line.clear();
    let read = file.by_ref().take(LONGEST_ENTRY).read_until(b'\n', line).ok()?;
    if read == 0 {
        return None;
    }
    if line.last() != Some(&b'\n') && (read as u64) < LONGEST_ENTRY {
        // Half a line: the writer is at it.
        let _again = file.seek_relative(-(i64::try_from(read).ok()?));
        return None;
    }
    Some(serde_json::from_slice(line).map_err(|_| ()))
}
