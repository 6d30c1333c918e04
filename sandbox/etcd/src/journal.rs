//! The journal: a file of frames to which each change is appended before anybody sees it. An acknowledged write survives the death
//! of the process; with `fsync` it also survives that of the machine. Once it is much larger than the state it tells of, the file is
//! written anew and takes the old one's place.
//!
//! What a death tears is the end of the file: an incomplete last frame was never acknowledged and is cut off. Damage before the end
//! is refused, since writes would be lost that were acknowledged.

use crate::Error;
use crate::frame::{self, Builder, Frame};
use crate::mvcc::{Export, State};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The journal's name in its directory.
const NAME: &str = "journal";
/// Bytes of a snapshot that are made at once, about.
const SNAPSHOT_PIECE: usize = 64 << 10;
/// By the length of a file `etcdctl` tells that it ends with a checksum: it is a multiple of this, as pages of bbolt are, and the checksum.
const SNAPSHOT_BLOCK: u64 = 512;
/// It may grow by so much and by its own size before it is written anew.
const SLACK: u64 = 16 << 20;

/// An open journal.
pub(crate) struct Journal {
    dir: PathBuf,
    /// The same, open: what makes a new name durable must not fail for want of a descriptor.
    directory: File,
    file: Arc<File>,
    /// Length of the file up to the last whole frame.
    length: u64,
    /// Length when it was written anew.
    base: u64,
    /// All bytes that were ever appended; what is durable is told in these.
    pub written: u64,
    /// Why nothing can be written any more.
    broken: Option<String>,
}

impl Journal {
    /// Opens the journal in a directory, which is made if it is not there, and reads what it tells.
    pub fn open(dir: &Path, id: u64) -> Result<(Self, State), Error> {
        fs::create_dir_all(dir).map_err(|error| io(dir, &error))?;
        let directory = File::open(dir).map_err(|error| io(dir, &error))?;
        let path = dir.join(NAME);
        if !path.exists() {
            create(dir, State::new(id).export())?;
            directory.sync_all().map_err(|error| io(dir, &error))?;
        }
        let file =
            OpenOptions::new().read(true).append(true).open(&path).map_err(|error| io(&path, &error))?;
        lock(&file, &path)?;
        let (state, length) = read(&file, &path, false)?;
        let whole = file.metadata().map_err(|error| io(&path, &error))?.len();
        if whole > length {
            tracing::warn!(path = %path.display(), bytes = whole - length, "cut off a torn end of the journal");
            file.set_len(length).map_err(|error| io(&path, &error))?;
        }
        let journal = Self {
            dir: dir.into(),
            directory,
            file: Arc::new(file),
            length,
            base: length,
            written: 0,
            broken: None,
        };
        Ok((journal, state))
    }

    /// Appends a frame. If this fails the file is as before.
    pub fn append(&mut self, frame: &Frame) -> Result<(), Error> {
        if let Some(why) = &self.broken {
            return Err(Error::NoSpace(why.clone()));
        }
        let mut bytes = Vec::new();
        frame::encode(frame, &mut bytes)?;
        let mut file = &*self.file;
        if let Err(error) = file.write_all(&bytes) {
            // Half a frame in the middle would make all that follows unreadable.
            if let Err(second) = self.file.set_len(self.length) {
                self.broken = Some(format!("{error}, and then {second}"));
            }
            return Err(Error::NoSpace(error.to_string()));
        }
        self.length += bytes.len() as u64;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// True if it should be written anew.
    pub fn is_large(&self) -> bool {
        self.length > 2 * self.base + SLACK
    }

    /// Writes it anew. If this fails before the new one has the old one's name, the old one goes on. If the name itself can't be made
    /// durable, nothing is written any more: the machine may forget it, and with it all that only the new one tells.
    pub fn rewrite(&mut self, export: Export) -> Result<(), Error> {
        let (file, length) = create(&self.dir, export)?;
        // From here on the old one has no name, and what is appended to it would be lost.
        self.file = Arc::new(file);
        self.length = length;
        self.base = length;
        self.directory.sync_all().map_err(|error| {
            let error = io(&self.dir, &error);
            self.broken = Some(error.to_string());
            error
        })
    }

    /// Length of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The file, for making it durable.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }
}

/// Writes a snapshot: a history, and its SHA-256 as etcd's snapshots end with. A piece at a time. It is no bbolt file, which no crate
/// that is kept up writes: so `etcdctl snapshot save` takes it and [`restore`] puts it back, but `etcdutl` cannot read it.
pub(crate) fn snapshot(export: Export) -> impl Iterator<Item = Result<Vec<u8>, Error>> {
    let mut sum = Sha256::new();
    let mut frames = frame::history(export);
    let mut is_done = false;
    let mut length = 0_u64;
    std::iter::from_fn(move || {
        if is_done {
            return None;
        }
        let mut piece = Vec::new();
        while piece.len() < SNAPSHOT_PIECE {
            let Some(frame) = frames.next() else {
                is_done = true;
                break;
            };
            if let Err(error) = frame::encode(&frame, &mut piece) {
                is_done = true;
                return Some(Err(error));
            }
        }
        length += piece.len() as u64;
        if is_done {
            let padding = length.next_multiple_of(SNAPSHOT_BLOCK) - length;
            piece.resize(piece.len() + usize::try_from(padding).unwrap_or(0), 0);
        }
        sum.update(&piece);
        if is_done {
            piece.extend_from_slice(&sum.clone().finalize());
        }
        Some(Ok(piece))
    })
}

/// Makes a directory's journal tell what a snapshot file tells, as a store of its own.
pub(crate) fn restore(snapshot: &Path, dir: &Path, id: u64) -> Result<(), Error> {
    if dir.join(NAME).exists() {
        return Err(Error::Corrupt(format!("data-dir {} is not empty or could not be read", dir.display())));
    }
    let mut file = File::open(snapshot).map_err(|error| io(snapshot, &error))?;
    let (state, length) = read(&file, snapshot, true)?;
    check_sum(&mut file, length).map_err(|error| place(error, snapshot, length))?;
    fs::create_dir_all(dir).map_err(|error| io(dir, &error))?;
    create(dir, Export { id, ..state.export() })?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| io(dir, &error))
}

fn check_sum(file: &mut File, length: u64) -> Result<(), Error> {
    let fail = |error: std::io::Error| Error::Corrupt(error.to_string());
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    let mut reader = BufReader::new(file);
    let mut sum = Sha256::new();
    let mut left = length.next_multiple_of(SNAPSHOT_BLOCK);
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let piece = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        reader.read_exact(&mut buffer[..piece]).map_err(fail)?;
        sum.update(&buffer[..piece]);
        left -= piece as u64;
    }
    let mut told = Vec::new();
    reader.take(33).read_to_end(&mut told).map_err(fail)?;
    if told[..] == sum.finalize()[..] {
        Ok(())
    } else {
        Err(Error::Corrupt("snapshot integrity check failed: expected another sha256".into()))
    }
}

/// Makes a new journal file and puts it in its place. That it has the name is durable when the directory has been synchronised.
fn create(dir: &Path, export: Export) -> Result<(File, u64), Error> {
    let temporary = dir.join("journal.new");
    let fail = |error: std::io::Error| io(&temporary, &error);
    let file = OpenOptions::new().create(true).write(true).truncate(true).open(&temporary).map_err(fail)?;
    let mut writer = BufWriter::new(&file);
    let mut length = 0;
    let mut buffer = Vec::new();
    for frame in frame::history(export) {
        buffer.clear();
        frame::encode(&frame, &mut buffer)?;
        length += buffer.len() as u64;
        writer.write_all(&buffer).map_err(fail)?;
    }
    writer.flush().map_err(fail)?;
    drop(writer);
    file.sync_all().map_err(fail)?;
    drop(file);
    let file = OpenOptions::new().read(true).append(true).open(&temporary).map_err(fail)?;
    lock(&file, &temporary)?;
    fs::rename(&temporary, dir.join(NAME)).map_err(fail)?;
    Ok((file, length))
}

/// Two processes that append to one file would destroy it.
fn lock(file: &File, path: &Path) -> Result<(), Error> {
    file.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => {
            Error::Corrupt(format!("{} is in use by another process", path.display()))
        }
        fs::TryLockError::Error(error) => io(path, &error),
    })
}

/// Reads a journal: the state and the length up to the last whole frame. Of a snapshot, no more than the history.
fn read(file: &File, path: &Path, is_snapshot: bool) -> Result<(State, u64), Error> {
    let total = file.metadata().map_err(|error| io(path, &error))?.len();
    let mut reader = BufReader::with_capacity(64 << 10, file);
    reader.seek(SeekFrom::Start(0)).map_err(|error| io(path, &error))?;
    let mut builder = Builder::default();
    let mut state = None;
    let mut at = 0;
    while let Some((frame, length)) = next(&mut reader, total - at).map_err(|error| place(error, path, at))? {
        match &mut state {
            None => state = builder.take(frame).map_err(|error| place(error, path, at))?,
            Some(state) => frame::replay(state, frame).map_err(|error| place(error, path, at))?,
        }
        at += length;
        if is_snapshot && state.is_some() {
            break;
        }
    }
    let state = state.ok_or_else(|| place(Error::Corrupt("it ends too early".into()), path, at))?;
    Ok((state, at))
}

/// The next frame and its length; none at the end, torn or not.
fn next(reader: &mut impl Read, left: u64) -> Result<Option<(Frame, u64)>, Error> {
    let mut header = [0; frame::HEADER];
    if left < header.len() as u64 {
        return Ok(None);
    }
    let fail = |error: std::io::Error| Error::Corrupt(error.to_string());
    reader.read_exact(&mut header).map_err(fail)?;
    let (body_length, sum) = match frame::header(header) {
        Ok(header) => header,
        // The file got its length before its content did.
        Err(_torn) if is_zero(reader).map_err(fail)? => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = (body_length + header.len()) as u64;
    if length > left {
        return Ok(None);
    }
    let mut body = vec![0; body_length];
    reader.read_exact(&mut body).map_err(fail)?;
    match frame::decode(&body, sum) {
        Ok(frame) => Ok(Some((frame, length))),
        Err(_torn) if length == left => Ok(None),
        Err(error) => Err(error),
    }
}

/// True if nothing but zeros is left.
fn is_zero(reader: &mut impl Read) -> std::io::Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(true),
            length if buffer[..length].iter().any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

fn place(error: Error, path: &Path, at: u64) -> Error {
    match error {
        Error::Corrupt(why) => Error::Corrupt(format!("{} at byte {at}: {why}", path.display())),
        other => other,
    }
}

fn io(path: &Path, error: &std::io::Error) -> Error {
    Error::NoSpace(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_whose_name_is_not_durable_takes_no_more_writes_and_keeps_those_it_took() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, mut state) = Journal::open(dir.path(), 7).unwrap();
        let revision = state.revision();
        // What is no directory of a file system can't be synchronised.
        journal.directory = File::open("/dev/null").unwrap();
        let lease = Frame::Grant { id: 5, ttl: 60 };
        journal.append(&lease).unwrap();
        state.leases.grant(5, 60);
        let refused = journal.rewrite(state.export());
        assert!(matches!(refused, Err(Error::NoSpace(_))), "{refused:?}");
        let refused = journal.append(&Frame::Revoke { id: 5 });
        assert!(
            matches!(refused, Err(Error::NoSpace(_))),
            "nobody may believe that it was written: {refused:?}"
        );
        drop(journal);
        let (_, state) = Journal::open(dir.path(), 7).unwrap();
        assert_eq!(state.revision(), revision);
        assert!(state.leases.exists(5));
    }

    #[test]
    fn a_journal_that_cannot_be_written_anew_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, state) = Journal::open(dir.path(), 7).unwrap();
        fs::create_dir(dir.path().join("journal.new")).unwrap();
        journal.rewrite(state.export()).unwrap_err();
        journal.append(&Frame::Grant { id: 5, ttl: 60 }).unwrap();
        drop(journal);
        let (_, state) = Journal::open(dir.path(), 7).unwrap();
        assert!(state.leases.exists(5));
    }
}
