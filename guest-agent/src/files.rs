//! Files of the guest, as root. The agent's root is the guest's, so paths need no translation.
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{chown, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use prost::bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tonic::{Response, Status, Streaming};

use crate::pb::*;
use crate::service::{status, stream, Replies, Reply, CHUNK};

pub async fn read(request: ReadFileRequest) -> Reply<Replies<ReadFileResponse>> {
    let mut file = tokio::fs::File::open(&request.path).await.map_err(status)?;
    if file.metadata().await.map_err(status)?.is_dir() {
        return Err(status(ErrorKind::IsADirectory.into()));
    }
    if request.offset > 0 {
        file.seek(io::SeekFrom::Start(request.offset)).await.map_err(status)?;
    }
    let limit = if request.limit == 0 { u64::MAX } else { request.limit };
    let mut source = file.take(limit);
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

/// Removes the half-written file when the caller goes away.
struct Partial(PathBuf);
impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

pub async fn write(mut input: Streaming<WriteFileRequest>) -> Reply<WriteFileResponse> {
    use write_file_request::Request as In;
    let Some(WriteFileRequest { request: Some(In::Start(start)) }) = input.message().await? else {
        return Err(Status::invalid_argument("the first message of a write is start"));
    };
    let path = Path::new(&start.path);
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
        return Err(Status::invalid_argument("the path names no file"));
    };
    if start.make_parents {
        fs::create_dir_all(parent).map_err(status)?;
    }
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let partial = Partial(parent.join(format!(".{}.hearth-{number}", name.to_string_lossy())));
    let mut file = tokio::fs::File::create(&partial.0).await.map_err(status)?;
    let mut size = 0;
    while let Some(message) = input.message().await? {
        let Some(In::Data(data)) = message.request else { continue };
        file.write_all(&data).await.map_err(status)?;
        size += data.len() as u64;
    }
    file.flush().await.map_err(status)?;
    let mode = if start.mode == 0 { 0o644 } else { start.mode };
    settle(&partial.0, mode, start.uid, start.gid).map_err(status)?;
    fs::rename(&partial.0, path).map_err(status)?;
    Ok(Response::new(WriteFileResponse { size }))
}

/// Owner before mode: a change of owner clears the set-user bits.
pub fn settle(path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
    if unsafe { libc::geteuid() } == 0 {
        chown(path, Some(uid), Some(gid))?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))
}

pub fn info(path: &Path, follow: bool) -> io::Result<FileInfo> {
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
    })
}

pub fn list(path: &str) -> io::Result<ListDirectoryResponse> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        match info(&entry?.path(), false) {
            Err(error) if error.kind() == ErrorKind::NotFound => {} // removed meanwhile
            other => entries.push(other?),
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(ListDirectoryResponse { entries })
}

pub fn make_directory(request: &MakeDirectoryRequest) -> io::Result<()> {
    let path = Path::new(&request.path);
    if request.parents {
        fs::create_dir_all(path)?;
    } else {
        fs::create_dir(path)?;
    }
    let mode = if request.mode == 0 { 0o755 } else { request.mode };
    fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))
}

pub fn remove(request: &RemoveRequest) -> io::Result<()> {
    let path = Path::new(&request.path);
    match (fs::symlink_metadata(path)?.is_dir(), request.recursive) {
        (true, true) => fs::remove_dir_all(path),
        (true, false) => fs::remove_dir(path),
        _ => fs::remove_file(path),
    }
}
