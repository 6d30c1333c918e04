//! A container's log in Docker's `json-file` form: a JSON object per line of output, rotated by size. Readers read the files, not
//! the program's output ([`read`]), so that a slow one holds up nobody. The file is opened with the first output. Drivers that send
//! lines away ([`remote`]) keep such a file too, for `docker logs`.

mod info;
mod read;
pub mod remote;
mod rotation;
mod tag;

pub use read::Wanted;

use super::{
    model::LogConfig,
    record::Record,
    streams::Stream,
    words::{human_size, parse_bool},
};
use crate::clock::Timestamp;
use info::Info;
use remote::{Line, Remote};
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};
use tokio::sync::watch;

/// Longest piece of a line that is logged as one; a longer line becomes several, as Docker's copier has it.
const LONGEST: usize = 16 * 1024;

/// Where a container's output goes.
#[derive(Debug)]
pub struct Log {
    path: Option<PathBuf>,
    max_size: u64,
    max_files: u64,
    compress: bool,
    run: Mutex<Run>,
    writer: Mutex<Writer>,
    progress: watch::Sender<Progress>,
}

/// What is so from one start to the next.
#[derive(Debug, Clone, Default)]
struct Run {
    /// `,"attrs":{…}` or nothing.
    attributes: Arc<str>,
    remote: Option<Remote>,
}

#[derive(Debug, Default)]
struct Writer {
    file: Option<File>,
    size: u64,
    /// At work on the file before.
    compressing: Option<JoinHandle<()>>,
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

impl Log {
    /// The log of a container; nothing is opened yet.
    pub fn new(dir: &Path, record: &Record) -> Self {
        let config = &record.host.log_config;
        let option = |name: &str| config.config.get(name);
        let (path, size, files) = match config.driver.as_str() {
            "json-file" | "" => (Some(json_path(dir, &record.id)), 0, 1),
            "local" => (Some(dir.join("local-logs").join("container.log")), 20 << 20, 5),
            _ if !is_kept(record) => (None, 0, 1),
            _ => (Some(dir.join("container-cached.log")), 20 << 20, 5),
        };
        let size = option("max-size").and_then(|s| human_size(s)).unwrap_or(size);
        let compress = option("compress").and_then(|text| parse_bool(text));
        Self {
            path,
            compress: compress.unwrap_or(!matches!(config.driver.as_str(), "json-file" | "")),
            max_size: u64::try_from(size).unwrap_or(0),
            max_files: option("max-file").and_then(|n| n.parse().ok()).unwrap_or(files).max(1),
            run: Mutex::default(),
            writer: Mutex::default(),
            progress: watch::Sender::default(),
        }
    }

    /// Before a run: finds out what lines are marked with, and connects to whoever else gets them, if not `later`.
    pub async fn open(&self, record: &Record, later: bool) -> Result<(), String> {
        let driver = record.host.log_config.driver.as_str();
        let info = Info(record);
        let run = match driver {
            "json-file" => Run { attributes: attributes(&info)?.into(), remote: None },
            _ if remote::is_remote(driver) => {
                Run { attributes: Arc::default(), remote: Some(Remote::open(&info, !later).await?) }
            }
            _ => Run::default(),
        };
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = run;
        // It is there before there is a line in it, where inspection says.
        let path = self.path.as_deref().filter(|_| !record.step && !remote::is_remote(driver));
        if let Some(Err(error)) = path.map(|path| self.writer().open(path)) {
            tracing::debug!(container = record.short(), %error, "no log yet");
        }
        Ok(())
    }

    fn run(&self) -> Run {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends lines on that [`write`](Self::write) has found.
    pub async fn deliver(&self, lines: Vec<Line>) {
        if let Some(remote) = self.run().remote.filter(|_| !lines.is_empty()) {
            remote.deliver(lines).await;
        }
    }

    /// Whether there is, or may be, something to read back.
    pub fn is_readable(&self) -> bool {
        self.path.is_some()
    }

    /// Whether anybody gets what the program prints.
    pub fn takes_lines(&self) -> bool {
        self.path.is_some() || self.run().remote.is_some()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run begins or has ended: then followers end when they have read all.
    pub fn set_live(&self, live: bool) {
        if !live {
            self.run.lock().unwrap_or_else(PoisonError::into_inner).remote = None;
        }
        self.progress.send_modify(|p| p.live = live);
    }

    /// Logs output. Returns what is to be [delivered](Self::deliver) too.
    #[must_use]
    pub fn write(&self, cutter: &mut Cutter, bytes: &[u8]) -> Vec<Line> {
        let mut found = Found::new(self.run());
        if self.path.is_none() && !found.sent {
            return vec![];
        }
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let (line, after) = rest.split_at(end + 1);
            rest = after;
            cutter.rest.extend_from_slice(line);
            cut(cutter, &mut found);
            if !cutter.rest.is_empty() {
                let line = std::mem::take(&mut cutter.rest);
                found.add(cutter.stream, &line, false);
            }
        }
        cutter.rest.extend_from_slice(rest);
        cut(cutter, &mut found);
        self.append(&found.entries);
        found.lines
    }

    /// Logs what is left of a stream without a line end, likewise.
    #[must_use]
    pub fn finish(&self, cutter: &mut Cutter) -> Vec<Line> {
        let rest = std::mem::take(&mut cutter.rest);
        let mut found = Found::new(self.run());
        if !rest.is_empty() {
            found.add(cutter.stream, &rest, false);
            self.append(&found.entries);
        }
        found.lines
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
        // Who writes more than a file while one is compressed waits, as with dockerd.
        if let Some(compressing) = writer.compressing.take() {
            let _told = compressing.join();
        }
        *writer = Writer::default();
        let rotated = rotation::rotate(path, self.max_files);
        if rotated.is_ok() && self.compress && self.max_files > 1 {
            writer.compressing = rotation::compress(path);
        }
        rotated.is_ok()
    }
}

impl Writer {
    fn append(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.open(path)?;
        let Some(file) = &mut self.file else { return Ok(()) };
        if let Err(error) = file.write_all(bytes) {
            // Half an entry would spoil the next one.
            file.set_len(self.size)?;
            return Err(error);
        }
        self.size += bytes.len() as u64;
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

/// Where Docker has the log of a container.
pub fn json_path(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}-json.log"))
}

/// Whether lines that are sent away are kept for `docker logs`.
fn is_kept(record: &Record) -> bool {
    let LogConfig { driver, config } = &record.host.log_config;
    let disabled = config.get("cache-disabled").and_then(|text| parse_bool(text)).unwrap_or_default();
    driver != "none" && !disabled
}

/// The `attrs` of a container's log: labels, environment and tag that the log options name.
fn attributes(info: &Info<'_>) -> Result<String, String> {
    let mut found = info.attributes(str::to_owned)?;
    let tag = info.tag("")?;
    if !tag.is_empty() {
        found.insert("tag".into(), tag);
    }
    match serde_json::to_string(&found) {
        Ok(text) if !found.is_empty() => Ok(format!(",\"attrs\":{text}")),
        _ => Ok(String::new()),
    }
}

/// Lines of output that came at the same time.
struct Found {
    now: Timestamp,
    at: String,
    attributes: Arc<str>,
    /// As the file has them.
    entries: Vec<u8>,
    /// Whether they are sent away, too.
    sent: bool,
    lines: Vec<Line>,
}

impl Found {
    fn new(run: Run) -> Self {
        let now = Timestamp::now();
        Self {
            now,
            at: now.to_string(),
            attributes: run.attributes,
            entries: vec![],
            sent: run.remote.is_some(),
            lines: vec![],
        }
    }

    fn add(&mut self, stream: Stream, line: &[u8], partial: bool) {
        if self.sent {
            let text = line.strip_suffix(b"\n").unwrap_or(line).to_vec();
            self.lines.push(Line { stream, time: self.now, text, partial });
        }
        let Self { at, attributes, entries, .. } = self;
        entries.extend_from_slice(b"{\"log\":");
        let text = String::from_utf8_lossy(line);
        // Writing to memory can't fail, and text always is JSON.
        let _infallible = serde_json::to_writer(&mut *entries, &text);
        let _infallible =
            writeln!(entries, ",\"stream\":\"{}\"{attributes},\"time\":\"{at}\"}}", stream.name());
    }
}

/// Takes the beginning of a line that is too long for one entry.
fn cut(cutter: &mut Cutter, found: &mut Found) {
    let mut done = 0;
    while cutter.rest.len() - done > LONGEST {
        found.add(cutter.stream, &cutter.rest[done..done + LONGEST], true);
        done += LONGEST;
    }
    cutter.rest.drain(..done);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::mpsc;

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

    /// Also one that nobody reads, or that nobody else is to have.
    #[tokio::test]
    async fn what_is_sent_away_is_kept_for_readers_too() {
        let temp = tempfile::tempdir().unwrap();
        let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = format!("udp://{}", server.local_addr().unwrap());
        let mut record = Record { id: "0123456789abcdef".into(), ..Record::default() };
        record.host.log_config.driver = "syslog".into();
        record.host.log_config.config = [("syslog-address".to_owned(), address)].into();
        let log = Log::new(temp.path(), &record);
        log.open(&record, false).await.unwrap();
        let mut out = Cutter::new(Stream::Out);
        let mut lines = log.write(&mut out, b"one\n\ntwo");
        lines.extend(log.finish(&mut out));
        log.deliver(lines).await;
        log.set_live(false);
        let mut seen = Vec::new();
        for _ in 0..2 {
            let mut datagram = [0; 200];
            let len = server.recv(&mut datagram).await.unwrap();
            seen.push(String::from_utf8(datagram[..len].to_vec()).unwrap());
        }
        assert!(seen[0].starts_with("<30>") && seen[0].ends_with("]: one\n"), "{seen:?}");
        assert!(seen[1].contains(" 0123456789ab[") && seen[1].ends_with("]: two\n"), "{seen:?}");
        assert_eq!(all(&log, Wanted::default()).await, "one\n\ntwo");
        assert!(temp.path().join("container-cached.log").is_file());
        record.host.log_config.config.insert("cache-disabled".into(), "true".into());
        assert!(!Log::new(temp.path(), &record).is_readable());
    }

    #[tokio::test]
    async fn a_run_is_marked_with_what_its_container_is_called_then() {
        let temp = tempfile::tempdir().unwrap();
        let mut record = Record { id: "0123456789abcdef".into(), name: "old".into(), ..Record::default() };
        record.host.log_config.driver = "json-file".into();
        record.host.log_config.config = [("tag".to_owned(), "{{.Name}}".to_owned())].into();
        let log = Log::new(temp.path(), &record);
        for name in ["old", "new"] {
            record.name = name.into();
            log.open(&record, false).await.unwrap();
            let _none = log.write(&mut Cutter::new(Stream::Out), b"line\n");
        }
        let details = Wanted { details: true, ..Wanted::default() };
        assert_eq!(all(&log, details).await, "tag=old line\ntag=new line\n");
        record.host.log_config.config = [("tag".to_owned(), "{{.Nmae}}".to_owned())].into();
        assert!(log.open(&record, false).await.unwrap_err().contains("can't evaluate field Nmae"));
    }

    #[tokio::test]
    async fn lines_are_kept_whole_and_long_ones_in_pieces() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), &[]);
        let mut out = Cutter::new(Stream::Out);
        let _none = log.write(&mut out, b"a\nb");
        let _none = log.write(&mut out, b"c\n");
        let long = "x".repeat(LONGEST + 5);
        let _none = log.write(&mut out, format!("{long}\nno end").as_bytes());
        assert_eq!(all(&log, Wanted::default()).await, format!("a\nbc\n{long}\n"));
        let _none = log.finish(&mut out);
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
            let _none = log.write(&mut out, format!("{n}\n").as_bytes());
        }
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 3);
        let text = all(&log, Wanted::default()).await;
        assert!(text.ends_with("17\n18\n19\n") && text.lines().count() >= 6, "{text}");
        assert_eq!(all(&log, Wanted { tail: Some(5), ..Wanted::default() }).await, "15\n16\n17\n18\n19\n");
    }

    /// Compressed ones are read as they were, and follow each other as before.
    #[tokio::test]
    async fn full_files_are_compressed_where_that_is_asked_for() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), &[("max-size", "1k"), ("max-file", "3"), ("compress", "true")]);
        let mut out = Cutter::new(Stream::Out);
        for n in 0..40 {
            let _none = log.write(&mut out, format!("line {n}\n").as_bytes());
        }
        if let Some(compressing) = log.writer().compressing.take() {
            compressing.join().unwrap();
        }
        let mut names: Vec<String> = fs::read_dir(temp.path())
            .unwrap()
            .map(|f| f.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["x-json.log", "x-json.log.1.gz", "x-json.log.2.gz"]);
        let text = all(&log, Wanted::default()).await;
        assert!(text.lines().count() > 20 && text.ends_with("line 38\nline 39\n"), "{text}");
        let tail = Wanted { tail: Some(15), ..Wanted::default() };
        let expected: String = (25..40).map(|n| format!("line {n}\n")).collect();
        assert_eq!(all(&log, tail).await, expected);
    }

    /// A number of files that nobody could count through holds up nothing.
    #[tokio::test]
    async fn a_huge_number_of_files_is_none_to_count_through() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), &[("max-size", "100"), ("max-file", "9000000000000000000")]);
        let mut out = Cutter::new(Stream::Out);
        for n in 0..10 {
            let _none = log.write(&mut out, format!("{n}\n").as_bytes());
        }
        assert_eq!(all(&log, Wanted::default()).await, "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    }

    /// Looking through a long log for what is not there gives way to others.
    #[tokio::test]
    async fn a_reader_that_finds_nothing_holds_up_nobody() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), &[]);
        let _none = log.write(&mut Cutter::new(Stream::Out), "line\n".repeat(100_000).as_bytes());
        let since = Some(Timestamp::from_unix(9_000_000_000, 0));
        let (to, _from) = mpsc::channel(1);
        let others = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = others.clone();
        let other = tokio::spawn(async move {
            loop {
                tokio::task::yield_now().await;
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
        log.read(Wanted { out: true, since, ..Wanted::default() }, to).await.unwrap();
        other.abort();
        assert!(others.load(std::sync::atomic::Ordering::Relaxed) > 1);
    }

    /// What did not fit on the disk leaves no half line, in which the next one would be lost. (root, for a disk)
    #[test]
    fn a_full_disk_tears_no_line() {
        use nix::{mount, sched};
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().to_owned();
        let work = move || {
            sched::unshare(sched::CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            let private = mount::MsFlags::MS_REC | mount::MsFlags::MS_PRIVATE;
            mount::mount(none, "/", none, private, none).unwrap();
            mount::mount(Some("tmpfs"), &dir, Some("tmpfs"), mount::MsFlags::empty(), Some("size=64k"))
                .unwrap();
            let log = log(&dir, &[]);
            let mut out = Cutter::new(Stream::Out);
            let long = "x".repeat(10_000) + "\n";
            for _ in 0..10 {
                let _none = log.write(&mut out, long.as_bytes());
            }
            let path = json_path(&dir, "x");
            let size = fs::metadata(&path).unwrap().len();
            assert!(size > 50_000 && fs::read(&path).unwrap().ends_with(b"}\n"), "{size}");
        };
        std::thread::spawn(work).join().unwrap();
    }

    /// However much comes at once, a file ends with the line that fills it.
    #[tokio::test]
    async fn files_are_rotated_within_what_is_written_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), &[("max-size", "1k"), ("max-file", "3")]);
        let mut out = Cutter::new(Stream::Out);
        let lines: String = (0..200).map(|n| format!("line {n}\n")).collect();
        let _none = log.write(&mut out, lines.as_bytes());
        let _none = log.write(&mut out, b"last\n");
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
            let _none = log.write(&mut out, format!("{n}\n").as_bytes());
            expected += &format!("{n}\n");
            tokio::task::yield_now().await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        log.set_live(false);
        following.await.unwrap().unwrap();
        assert_eq!(collecting.await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_follower_of_a_run_that_says_nothing_ends_with_it() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), &[]);
        log.set_live(true);
        let (to, mut from) = mpsc::channel(1);
        let reader = log.clone();
        let wanted = Wanted { out: true, follow: true, ..Wanted::default() };
        let following = tokio::spawn(async move { reader.read(wanted, to).await });
        tokio::task::yield_now().await;
        log.set_live(false);
        let patience = std::time::Duration::from_secs(10);
        tokio::time::timeout(patience, following).await.expect("it ends").unwrap().unwrap();
        assert!(from.recv().await.is_none());
    }
}
