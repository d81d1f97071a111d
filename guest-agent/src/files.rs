//! Files of the guest, as root.
//!
//! The agent's root is the guest's: it moved there before it answered the first call, so no link and no `..`
//! leads out of what the guest itself sees. Everything here may wait for a disk and runs on `blocking`.
use std::collections::{BinaryHeap, HashMap};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{chown, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use prost::bytes::Bytes;
use tokio::io::AsyncReadExt;
use tonic::{Response, Status, Streaming};

use crate::pb::*;
use crate::reply::{blocking, status, stream, Replies, Reply, CHUNK};
use crate::user;

pub async fn read(request: ReadFileRequest) -> Reply<Replies<ReadFileResponse>> {
    let limit = if request.limit == 0 { u64::MAX } else { request.limit };
    let file = blocking(move || open(&request)).await?;
    let mut source = tokio::fs::File::from_std(file).take(limit);
    let (sink, replies) = stream();
    tokio::spawn(async move {
        let mut buffer = vec![0; CHUNK];
        loop {
            let message = match source.read(&mut buffer).await {
                Ok(0) => return,
                Ok(n) => Ok(ReadFileResponse { data: Bytes::copy_from_slice(&buffer[..n]) }),
                Err(error) => Err(status(error)),
            };
            let last = message.is_err();
            if sink.send(message).await.is_err() || last {
                return;
            }
        }
    });
    Ok(Response::new(replies))
}

fn open(request: &ReadFileRequest) -> io::Result<File> {
    // Opening a pipe would wait for its other end.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(&request.path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if kind.is_fifo() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is a pipe"));
    }
    if request.offset > 0 {
        file.seek(SeekFrom::Start(request.offset))?;
    }
    Ok(file)
}

/// A new file beside the one it will replace; it goes away unless it is put in place.
struct Partial {
    file: File,
    path: PathBuf,
    target: PathBuf,
    in_place: bool,
}

impl Partial {
    fn create(target: &Path) -> io::Result<Self> {
        // A link to a file stays one: what it points to is replaced. A link to nowhere is itself replaced.
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.into());
        if fs::metadata(&target).is_ok_and(|meta| !meta.is_file()) {
            return Err(io::Error::new(ErrorKind::IsADirectory, "it is not a regular file"));
        }
        let invalid = || io::Error::new(ErrorKind::InvalidInput, "the path names no file");
        let (name, parent) = (target.file_name().ok_or_else(invalid)?, target.parent().ok_or_else(invalid)?);
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let mut own =
            std::ffi::OsString::from(format!(".hearth-{}-", NUMBER.fetch_add(1, Ordering::Relaxed)));
        // A long name must not become one that is too long.
        own.push(if name.len() < 200 { name } else { "long".as_ref() });
        let path = parent.join(own);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        Ok(Self { file, path, target, in_place: false })
    }

    fn settle(mut self, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
        let mode = match (mode, fs::metadata(&self.target)) {
            (0, Ok(replaced)) => replaced.mode(),
            (0, Err(_)) => 0o644,
            (mode, _) => mode,
        };
        own(&self.path, mode, uid, gid)?;
        fs::rename(&self.path, &self.target)?;
        self.in_place = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.in_place {
            return;
        }
        let path = std::mem::take(&mut self.path);
        let remove = move || drop(fs::remove_file(path));
        // A caller may go away while the disk is frozen, and the agent's one thread must not wait for it.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// Owner before mode: a change of owner clears the set-user bits.
fn own(path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
    // An agent that is not root (tests) can give nothing away.
    if unsafe { libc::geteuid() } == 0 {
        chown(path, Some(uid), Some(gid))?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))
}

pub fn put(path: &Path, content: &[u8], mode: u32, uid: u32, gid: u32) -> io::Result<()> {
    make_parents(path, 0, 0)?;
    let mut partial = Partial::create(path)?;
    partial.file.write_all(content)?;
    partial.settle(mode, uid, gid)
}

pub async fn write(mut input: Streaming<WriteFileRequest>) -> Reply<WriteFileResponse> {
    use write_file_request::Request as In;
    let Some(WriteFileRequest { request: Some(In::Start(start)) }) = input.message().await? else {
        return Err(Status::invalid_argument("the first message of a write is start"));
    };
    let WriteFileStart { path, mode, uid, gid, make_parents: parents } = start;
    let mut partial = blocking(move || {
        let path = Path::new(&path);
        if parents {
            make_parents(path, uid, gid)?;
        }
        Partial::create(path)
    })
    .await?;
    let mut size = 0;
    loop {
        let message = input.message().await?.ok_or_else(|| Status::aborted("the write was not finished"))?;
        match message.request {
            Some(In::Data(data)) => {
                size += data.len() as u64;
                partial = blocking(move || partial.file.write_all(&data).map(|()| partial)).await?;
            }
            Some(In::Finish(_)) => break,
            _ => {}
        }
    }
    blocking(move || partial.settle(mode, uid, gid)).await?;
    Ok(Response::new(WriteFileResponse { size }))
}

fn make_parents(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().skip(1).take_while(|parent| !parent.exists()).collect();
    for parent in missing.into_iter().rev().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir(parent)?;
        own(parent, 0o755, uid, gid)?;
    }
    Ok(())
}

pub fn make_directory(request: &MakeDirectoryRequest) -> io::Result<()> {
    let path = Path::new(&request.path);
    if request.parents {
        make_parents(path, request.uid, request.gid)?;
        if path.is_dir() {
            return Ok(());
        }
    }
    fs::create_dir(path)?;
    own(path, if request.mode == 0 { 0o755 } else { request.mode }, request.uid, request.gid)
}

pub fn remove(request: &RemoveRequest) -> io::Result<()> {
    let path = Path::new(&request.path);
    match (fs::symlink_metadata(path)?.is_dir(), request.recursive) {
        (true, true) => fs::remove_dir_all(path),
        (true, false) => fs::remove_dir(path),
        _ => fs::remove_file(path),
    }
}

/// Names of owners, read once for a whole listing.
pub struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    pub fn read() -> Self {
        Self { users: user::names("/etc/passwd"), groups: user::names("/etc/group") }
    }
}

pub fn info(path: &Path, follow: bool, names: &Names) -> io::Result<FileInfo> {
    let meta = if follow { fs::metadata(path)? } else { fs::symlink_metadata(path)? };
    let kind = match meta.file_type() {
        t if t.is_file() => FileKind::Regular,
        t if t.is_dir() => FileKind::Directory,
        t if t.is_symlink() => FileKind::Symlink,
        _ => FileKind::Other,
    };
    let target = if kind == FileKind::Symlink { fs::read_link(path)? } else { PathBuf::new() };
    Ok(FileInfo {
        name: path.file_name().map_or_else(|| "/".into(), |n| n.to_string_lossy().into_owned()),
        kind: kind.into(),
        size: meta.size(),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        modified_ms: meta.mtime() * 1000 + meta.mtime_nsec() / 1_000_000,
        link_target: target.to_string_lossy().into_owned(),
        user: names.users.get(&meta.uid()).cloned().unwrap_or_default(),
        group: names.groups.get(&meta.gid()).cloned().unwrap_or_default(),
    })
}

/// Holds no more than `limit` names, however large the directory is.
pub fn list(request: &ListDirectoryRequest) -> io::Result<ListDirectoryResponse> {
    let limit = if request.limit == 0 { usize::MAX } else { request.limit as usize };
    let mut first = BinaryHeap::new();
    let mut more = false;
    for entry in fs::read_dir(&request.path)? {
        let name = entry?.file_name();
        if name.as_encoded_bytes() <= request.after.as_bytes() {
            continue;
        }
        first.push(name);
        if first.len() > limit {
            first.pop();
            more = true;
        }
    }
    let (names, directory) = (Names::read(), Path::new(&request.path));
    let mut entries = Vec::new();
    for name in first.into_sorted_vec() {
        match info(&directory.join(name), false, &names) {
            Err(error) if error.kind() == ErrorKind::NotFound => {} // removed meanwhile
            other => entries.push(other?),
        }
    }
    Ok(ListDirectoryResponse { entries, more })
}
