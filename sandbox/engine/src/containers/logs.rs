//! A container's log in Docker's `json-file` form: a JSON object per line of output, rotated by size. Readers read the files, not
//! the program's output ([`read`]), so that a slow one holds up nobody. The file is opened with the first output.

mod read;

pub use read::Wanted;

use super::{record::Record, streams::Stream, words::human_size};
use crate::clock::Timestamp;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
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
        // However many there may be: only those that are there move.
        let free = (1..self.max_files - 1).find(|n| fs::symlink_metadata(numbered(path, *n)).is_err());
        for n in (1..free.unwrap_or(self.max_files - 1)).rev() {
            let _gone_meanwhile = fs::rename(numbered(path, n), numbered(path, n + 1));
        }
        fs::rename(path, numbered(path, 1)).is_ok()
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

    /// A number of files that nobody could count through holds up nothing.
    #[tokio::test]
    async fn a_huge_number_of_files_is_none_to_count_through() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), &[("max-size", "100"), ("max-file", "9000000000000000000")]);
        let mut out = Cutter::new(Stream::Out);
        for n in 0..10 {
            log.write(&mut out, format!("{n}\n").as_bytes());
        }
        assert_eq!(all(&log, Wanted::default()).await, "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    }

    /// Looking through a long log for what is not there gives way to others.
    #[tokio::test]
    async fn a_reader_that_finds_nothing_holds_up_nobody() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), &[]);
        log.write(&mut Cutter::new(Stream::Out), "line\n".repeat(100_000).as_bytes());
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
                log.write(&mut out, long.as_bytes());
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
