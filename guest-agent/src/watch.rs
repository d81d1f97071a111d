//! Changes below a directory, as the kernel tells them: inotify(7).
//!
//! The kernel watches single directories. For a tree each directory gets a watch, also one that appears
//! later; what was put into it before its watch began is told as created.
use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tonic::Response;

use crate::agent::Agent;
use crate::channel::Port;
use crate::pb::*;
use crate::reply::{blocking, status, stream, Replies, Reply, Sink};

/// Each costs the kernel about a kilobyte.
const WATCH_LIMIT: usize = 8192;
/// struct inotify_event without the name
const HEADER: usize = 16;
const EVENTS: u32 = libc::IN_CREATE
    | libc::IN_MODIFY
    | libc::IN_DELETE
    | libc::IN_MOVED_FROM
    | libc::IN_MOVED_TO
    | libc::IN_ATTRIB
    | libc::IN_DELETE_SELF
    | libc::IN_MOVE_SELF;

pub async fn watch(agent: Arc<Agent>, request: WatchRequest) -> Reply<Replies<WatchResponse>> {
    let (mut tree, port) = blocking(move || {
        let inotify = inotify()?;
        let root = PathBuf::from(&request.path);
        let (recursive, is_directory) = (request.recursive, root.is_dir());
        let mut tree = Tree { inotify, root, recursive, is_directory, watched: HashMap::new() };
        tree.add(Path::new(""), &mut Vec::new())?;
        let port = Port::from_fd(tree.inotify.try_clone()?)?;
        Ok((tree, port))
    })
    .await?;
    let (sink, replies) = stream();
    tokio::spawn(async move {
        tokio::select! {
            () = follow(&mut tree, port, &sink) => {}
            () = sink.closed() => {}
            () = agent.ended() => {}
        }
    });
    Ok(Response::new(replies))
}

async fn follow(tree: &mut Tree, mut port: Port, sink: &Sink<WatchResponse>) {
    let ready = WatchResponse { kind: WatchKind::Ready.into(), ..Default::default() };
    if sink.send(Ok(ready)).await.is_err() {
        return;
    }
    let mut buffer = vec![0; 4096];
    loop {
        let Ok(n @ 1..) = port.read(&mut buffer).await else { return };
        let mut rest = &buffer[..n];
        while rest.len() >= HEADER {
            let word = |i: usize| u32::from_ne_bytes([rest[i], rest[i + 1], rest[i + 2], rest[i + 3]]);
            let (wd, mask, length) = (word(0) as i32, word(4), word(12) as usize);
            let name = rest[HEADER..HEADER + length].split(|b| *b == 0).next().unwrap_or_default();
            let told = tree.take(wd, mask, OsStr::from_bytes(name));
            rest = &rest[HEADER + length..];
            let (changes, failed) = match told {
                Ok(changes) => (changes, None),
                Err(error) => (vec![], Some(status(error))),
            };
            for change in changes {
                if sink.send(Ok(change)).await.is_err() {
                    return;
                }
            }
            if let Some(failed) = failed {
                let _ = sink.send(Err(failed)).await;
                return;
            }
        }
    }
}

fn inotify() -> io::Result<OwnedFd> {
    match unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) } {
        -1 => Err(io::Error::last_os_error()),
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

struct Tree {
    inotify: OwnedFd,
    root: PathBuf,
    recursive: bool,
    is_directory: bool,
    /// By watch descriptor; paths are relative to the root.
    watched: HashMap<i32, PathBuf>,
}

impl Tree {
    /// Watches a directory and, in a tree, those below. `found` gets what is in them already.
    fn add(&mut self, relative: &Path, found: &mut Vec<WatchResponse>) -> io::Result<()> {
        if self.watched.len() == WATCH_LIMIT {
            return Err(io::Error::new(ErrorKind::StorageFull, "the tree has too many directories to watch"));
        }
        // The root may be given by a link, or be a file; below it, links are not followed.
        let (path, flags) = match relative.as_os_str().is_empty() {
            true => (self.root.clone(), 0),
            false => (self.root.join(relative), libc::IN_DONT_FOLLOW | libc::IN_ONLYDIR),
        };
        let name = CString::new(path.as_os_str().as_bytes())?;
        let fd = self.inotify.as_raw_fd();
        match unsafe { libc::inotify_add_watch(fd, name.as_ptr(), EVENTS | flags) } {
            -1 => return Err(io::Error::last_os_error()),
            wd => self.watched.insert(wd, relative.into()),
        };
        if !self.recursive || !path.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            let (relative, directory) = (relative.join(entry.file_name()), entry.file_type()?.is_dir());
            found.push(change(WatchKind::Created, &relative, directory));
            if directory {
                ignore_missing(self.add(&relative, found))?;
            }
        }
        Ok(())
    }

    fn take(&mut self, wd: i32, mask: u32, name: &OsStr) -> io::Result<Vec<WatchResponse>> {
        if mask & libc::IN_Q_OVERFLOW != 0 {
            return Ok(vec![change(WatchKind::Overflow, Path::new(""), false)]);
        }
        let Some(base) = self.watched.get(&wd).cloned() else { return Ok(vec![]) };
        if mask & libc::IN_IGNORED != 0 {
            self.watched.remove(&wd);
            return Ok(vec![]);
        }
        let directory = mask & libc::IN_ISDIR != 0;
        if mask & (libc::IN_DELETE_SELF | libc::IN_MOVE_SELF) != 0 {
            // The parent's watch has told it already, but of the root nobody else tells.
            let kind = if mask & libc::IN_MOVE_SELF != 0 { WatchKind::Renamed } else { WatchKind::Removed };
            let is_root = base.as_os_str().is_empty();
            return Ok(if is_root { vec![change(kind, &base, self.is_directory)] } else { vec![] });
        }
        let path = if name.is_empty() { base } else { base.join(name) };
        let kind = match mask & EVENTS {
            libc::IN_CREATE | libc::IN_MOVED_TO => WatchKind::Created,
            libc::IN_MODIFY => WatchKind::Written,
            libc::IN_DELETE => WatchKind::Removed,
            libc::IN_MOVED_FROM => WatchKind::Renamed,
            libc::IN_ATTRIB => WatchKind::Attributes,
            _ => return Ok(vec![]),
        };
        let mut changes = vec![change(kind, &path, directory)];
        if directory && self.recursive && kind == WatchKind::Created {
            ignore_missing(self.add(&path, &mut changes))?;
        }
        if directory && kind == WatchKind::Renamed {
            self.forget(&path);
        }
        Ok(changes)
    }

    /// What was moved away is no longer ours to tell of.
    fn forget(&mut self, path: &Path) {
        let gone: Vec<i32> =
            self.watched.iter().filter(|(_, p)| p.starts_with(path)).map(|(wd, _)| *wd).collect();
        for wd in gone {
            unsafe { libc::inotify_rm_watch(self.inotify.as_raw_fd(), wd) };
            self.watched.remove(&wd);
        }
    }
}

/// Directories come and go while they are looked at.
fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
        other => other,
    }
}

fn change(kind: WatchKind, path: &Path, directory: bool) -> WatchResponse {
    WatchResponse { kind: kind.into(), path: path.to_string_lossy().into_owned(), directory }
}
