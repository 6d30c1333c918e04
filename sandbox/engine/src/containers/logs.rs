//! A container's log in Docker's `json-file` form: a JSON object per line of output, rotated by size. Readers read the files, not
//! the program's output, so that a slow one holds up nobody. The file is opened with the first output.

use super::{
    record::Record,
    streams::{Stream, frame},
    validate::human_size,
};
use crate::{
    clock::Timestamp,
    error::{Error, Result},
};
use bytes::Bytes;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{mpsc, watch};

/// Longest piece of a line that is logged as one; a longer line becomes several, as Docker's copier has it.
const LONGEST: usize = 16 * 1024;
/// Longest line of the file that is read back: six bytes for each of a piece, and attributes.
const LONGEST_ENTRY: u64 = 512 * 1024;

/// Where a container's output goes.
#[derive(Debug)]
pub struct Log {
    path: Option<PathBuf>,
    max_size: u64,
    max_files: u64,
    /// `,"attrs":{…}` or nothing.
    attributes: String,
    writer: Mutex<Writer>,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct Writer {
    file: Option<File>,
    size: u64,
}

/// What followers look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    /// The program runs.
    live: bool,
    written: u64,
    rotations: u64,
}

/// Cuts a stream into lines.
#[derive(Debug)]
pub struct Cutter {
    stream: Stream,
    rest: Vec<u8>,
}

impl Cutter {
    /// For one stream of one run.
    pub fn new(stream: Stream) -> Self {
        Self { stream, rest: Vec::new() }
    }
}

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
    /// The log of a container; nothing is opened yet.
    pub fn new(dir: &Path, record: &Record) -> Self {
        let config = &record.host.log_config;
        let option = |name: &str| config.config.get(name);
        let (path, size, files) = match config.driver.as_str() {
            "none" => (None, 0, 1),
            "local" => (Some(dir.join("local-logs").join("container.log")), 20 << 20, 5),
            _ => (Some(json_path(dir, &record.id)), 0, 1),
        };
        let size = option("max-size").and_then(|s| human_size(s)).unwrap_or(size);
        Self {
            path,
            max_size: u64::try_from(size).unwrap_or(0),
            max_files: option("max-file").and_then(|n| n.parse().ok()).unwrap_or(files).max(1),
            attributes: attributes(record),
            writer: Mutex::default(),
            progress: watch::Sender::default(),
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run begins or has ended: then followers end when they have read all.
    pub fn set_live(&self, live: bool) {
        self.progress.send_modify(|p| p.live = live);
    }

    /// Logs output.
    pub fn write(&self, cutter: &mut Cutter, bytes: &[u8]) {
        if self.path.is_none() {
            return;
        }
        let now = Timestamp::now().to_string();
        let mut entries = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let (line, after) = rest.split_at(end + 1);
            rest = after;
            cutter.rest.extend_from_slice(line);
            self.cut(cutter, &now, &mut entries);
            if !cutter.rest.is_empty() {
                let line = std::mem::take(&mut cutter.rest);
                self.encode(&mut entries, cutter.stream, &line, &now);
            }
        }
        cutter.rest.extend_from_slice(rest);
        self.cut(cutter, &now, &mut entries);
        self.append(&entries);
    }

    /// Logs what is left of a stream without a line end.
    pub fn finish(&self, cutter: &mut Cutter) {
        let rest = std::mem::take(&mut cutter.rest);
        if !rest.is_empty() {
            let mut entries = Vec::new();
            self.encode(&mut entries, cutter.stream, &rest, &Timestamp::now().to_string());
            self.append(&entries);
        }
    }

    /// Logs the beginning of a line that is too long for one entry.
    fn cut(&self, cutter: &mut Cutter, now: &str, entries: &mut Vec<u8>) {
        let mut done = 0;
        while cutter.rest.len() - done > LONGEST {
            let piece = &cutter.rest[done..done + LONGEST];
            self.encode(entries, cutter.stream, piece, now);
            done += LONGEST;
        }
        cutter.rest.drain(..done);
    }

    fn encode(&self, entries: &mut Vec<u8>, stream: Stream, line: &[u8], now: &str) {
        entries.extend_from_slice(b"{\"log\":");
        let text = String::from_utf8_lossy(line);
        // Writing to memory can't fail, and text always is JSON.
        let _infallible = serde_json::to_writer(&mut *entries, &text);
        let _infallible =
            writeln!(entries, ",\"stream\":\"{}\"{},\"time\":\"{now}\"}}", stream.name(), self.attributes);
    }

    fn append(&self, entries: &[u8]) {
        let Some(path) = self.path.as_ref().filter(|_| !entries.is_empty()) else { return };
        let mut writer = self.writer();
        let (mut rest, mut rotated) = (entries, 0);
        while !rest.is_empty() {
            // Its size is known from then on; what fails here is told below.
            let _open = writer.open(path);
            // As dockerd: a file that has grown too large takes no further line.
            rotated += u64::from(self.is_full(&writer) && self.rotate(&mut writer, path));
            let (piece, after) = rest.split_at(self.fits(&writer, rest));
            rest = after;
            if let Err(error) = writer.append(path, piece) {
                // A full disk stops the log, not the program.
                tracing::debug!(%error, "a log line is lost");
            }
        }
        drop(writer);
        self.progress.send_modify(|p| {
            p.written += 1;
            p.rotations += rotated;
        });
    }

    fn is_full(&self, writer: &Writer) -> bool {
        self.max_size > 0 && writer.size >= self.max_size
    }

    /// Bytes of whole entries up to and with the one that fills the file.
    fn fits(&self, writer: &Writer, entries: &[u8]) -> usize {
        let room = usize::try_from(self.max_size.saturating_sub(writer.size)).unwrap_or(usize::MAX);
        if self.max_size == 0 || room > entries.len() {
            return entries.len();
        }
        let last = room.saturating_sub(1);
        entries[last..].iter().position(|byte| *byte == b'\n').map_or(entries.len(), |end| last + end + 1)
    }

    fn rotate(&self, writer: &mut Writer, path: &Path) -> bool {
        *writer = Writer::default();
        if self.max_files == 1 {
            return fs::remove_file(path).is_ok();
        }
        for n in (1..self.max_files - 1).rev() {
            let _not_there = fs::rename(numbered(path, n), numbered(path, n + 1));
        }
        fs::rename(path, numbered(path, 1)).is_ok()
    }

    /// Sends what is wanted to `to`, until that is closed or there is no more.
    pub async fn read(&self, wanted: Wanted, to: mpsc::Sender<Bytes>) -> Result<()> {
        let Some(path) = &self.path else {
            return Err(Error::not_implemented("configured logging driver does not support reading"));
        };
        let mut progress = self.progress.subscribe();
        let mut seen = *progress.borrow_and_update();
        let mut files = open_all(path, self.max_files, wanted.tail);
        let mut entry = Vec::new();
        loop {
            while let Some(file) = files.front_mut() {
                match next(file, &mut entry) {
                    Some(Ok(found)) => {
                        if wanted.until.is_some_and(|until| found.time > until) {
                            return Ok(());
                        }
                        let Some(piece) = wanted.piece(&found) else { continue };
                        if to.send(piece).await.is_err() {
                            return Ok(());
                        }
                    }
                    Some(Err(())) => {}
                    None if files.len() > 1 => drop(files.pop_front()),
                    None => break,
                }
            }
            if !wanted.follow {
                return Ok(());
            }
            let now = *progress.borrow_and_update();
            if now == seen && !now.live {
                return Ok(());
            }
            if now.rotations > seen.rotations || files.is_empty() {
                let missed = if files.is_empty() { 0 } else { now.rotations - seen.rotations };
                files.extend(newest(path, missed));
            }
            if now == seen || files.is_empty() {
                let changed = async { progress.changed().await.is_ok() };
                let gone = tokio::select! {
                    more = changed => !more,
                    () = to.closed() => true,
                    () = past(wanted.until) => true,
                };
                if gone {
                    return Ok(());
                }
            }
            seen = now;
        }
    }
}

impl Writer {
    fn append(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.open(path)?;
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
            self.size += bytes.len() as u64;
        }
        Ok(())
    }

    fn open(&mut self, path: &Path) -> io::Result<()> {
        if self.file.is_none() {
            let open = || {
                let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
                fs::OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path)
            };
            let file = match open() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    path.parent().map_or(Ok(()), fs::create_dir_all)?;
                    open()?
                }
                other => other?,
            };
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::other("not a regular file"));
            }
            self.size = metadata.len();
            self.file = Some(file);
        }
        Ok(())
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

/// Where Docker has the log of a container.
pub fn json_path(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}-json.log"))
}

fn numbered(path: &Path, n: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

/// The `attrs` of a container's log: labels and environment that the log options name.
fn attributes(record: &Record) -> String {
    let names = |option: &str| -> Vec<String> {
        let text = record.host.log_config.config.get(option).map_or("", String::as_str);
        text.split(',').map(str::trim).filter(|n| !n.is_empty()).map(Into::into).collect()
    };
    let mut found = BTreeMap::new();
    for name in names("labels") {
        if let Some(value) = record.config.labels.as_ref().and_then(|labels| labels.get(&name)) {
            found.insert(name, value.clone());
        }
    }
    for name in names("env") {
        let env = record.config.env.iter().flatten().filter_map(|e| e.split_once('='));
        if let Some((_, value)) = env.into_iter().find(|(n, _)| *n == name) {
            found.insert(name, value.to_string());
        }
    }
    if let Some(tag) = record.host.log_config.config.get("tag") {
        found.insert("tag".into(), tag.replace("{{.Name}}", &record.name).replace("{{.ID}}", record.short()));
    }
    match serde_json::to_string(&found) {
        Ok(text) if !found.is_empty() => format!(",\"attrs\":{text}"),
        _ => String::new(),
    }
}

fn open(path: &Path) -> Option<File> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().is_ok_and(|m| m.is_file()).then_some(file)
}

/// All files from the oldest on, at the place where the wanted lines begin.
fn open_all(path: &Path, max_files: u64, tail: Option<usize>) -> VecDeque<BufReader<File>> {
    let mut files = VecDeque::new();
    let mut left = tail;
    for n in 0..max_files {
        let Some(mut file) = open(&if n == 0 { path.to_path_buf() } else { numbered(path, n) }) else {
            if n == 0 { continue } else { break }
        };
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
    let before = (1..missed.min(100)).rev().map(|n| numbered(path, n));
    before.chain([path.to_path_buf()]).filter_map(|p| open(&p)).map(BufReader::new).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn log(dir: &Path, options: &[(&str, &str)]) -> Arc<Log> {
        let mut record = Record { id: "x".into(), ..Record::default() };
        record.host.log_config.config =
            options.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
        Arc::new(Log::new(dir, &record))
    }

    async fn all(log: &Log, wanted: Wanted) -> String {
        let (to, mut from) = mpsc::channel(100_000);
        log.read(Wanted { out: true, err: true, ..wanted }, to).await.unwrap();
        let mut text = String::new();
        while let Ok(piece) = from.try_recv() {
            text.push_str(std::str::from_utf8(&piece).unwrap());
        }
        text
    }

    #[tokio::test]
    async fn lines_are_kept_whole_and_long_ones_in_pieces() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), &[]);
        let mut out = Cutter::new(Stream::Out);
        log.write(&mut out, b"a\nb");
        log.write(&mut out, b"c\n");
        let long = "x".repeat(LONGEST + 5);
        log.write(&mut out, format!("{long}\nno end").as_bytes());
        assert_eq!(all(&log, Wanted::default()).await, format!("a\nbc\n{long}\n"));
        log.finish(&mut out);
        assert_eq!(all(&log, Wanted { tail: Some(2), ..Wanted::default() }).await, "xxxxx\nno end");
        assert_eq!(all(&log, Wanted { tail: Some(0), ..Wanted::default() }).await, "");
        let lines = fs::read_to_string(json_path(temp.path(), "x")).unwrap();
        assert_eq!(lines.lines().count(), 5);
        assert!(lines.starts_with("{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"20"), "{lines:.80}");
    }

    #[tokio::test]
    async fn rotation_keeps_the_newest_files_and_readers_see_all_of_them() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), &[("max-size", "200"), ("max-file", "3")]);
        let mut out = Cutter::new(Stream::Out);
        for n in 0..20 {
            log.write(&mut out, format!("{n}\n").as_bytes());
        }
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 3);
        let text = all(&log, Wanted::default()).await;
        assert!(text.ends_with("17\n18\n19\n") && text.lines().count() >= 6, "{text}");
        assert_eq!(all(&log, Wanted { tail: Some(5), ..Wanted::default() }).await, "15\n16\n17\n18\n19\n");
    }

    /// However much comes at once, a file ends with the line that fills it.
    #[tokio::test]
    async fn files_are_rotated_within_what_is_written_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), &[("max-size", "1k"), ("max-file", "3")]);
        let mut out = Cutter::new(Stream::Out);
        let lines: String = (0..200).map(|n| format!("line {n}\n")).collect();
        log.write(&mut out, lines.as_bytes());
        log.write(&mut out, b"last\n");
        for entry in fs::read_dir(temp.path()).unwrap() {
            let size = entry.unwrap().metadata().unwrap().len();
            assert!(size < 1000 + 100, "{size}");
        }
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 3);
        assert!(all(&log, Wanted::default()).await.ends_with("line 198\nline 199\nlast\n"));
    }

    #[tokio::test]
    async fn a_follower_gets_everything_until_the_end_also_over_a_rotation() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), &[("max-size", "300"), ("max-file", "9")]);
        log.set_live(true);
        let (to, mut from) = mpsc::channel(1);
        let reader = log.clone();
        let wanted = Wanted { out: true, follow: true, ..Wanted::default() };
        let following = tokio::spawn(async move { reader.read(wanted, to).await });
        let collecting = tokio::spawn(async move {
            let mut text = String::new();
            while let Some(piece) = from.recv().await {
                text.push_str(std::str::from_utf8(&piece).unwrap());
            }
            text
        });
        let mut out = Cutter::new(Stream::Out);
        let mut expected = String::new();
        for n in 0..30 {
            log.write(&mut out, format!("{n}\n").as_bytes());
            expected += &format!("{n}\n");
            tokio::task::yield_now().await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        log.set_live(false);
        following.await.unwrap().unwrap();
        assert_eq!(collecting.await.unwrap(), expected);
    }
}
