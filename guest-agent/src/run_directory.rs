//! /run is empty at each start, as pid files and sockets of an earlier one would deceive programs. But images
//! keep directories there that their programs need and may not make (/run/postgresql), so what the image and
//! the scratch disk hold of directories and links is made anew in the fresh one.
use std::fs::{self, Permissions};
use std::os::unix::fs::{chown, lchown, symlink, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// More would be no skeleton any more; it costs memory.
const ENTRY_LIMIT: usize = 1024;

pub struct Kept {
    path: PathBuf,
    uid: u32,
    gid: u32,
    mode: u32,
    /// Of a link.
    target: Option<PathBuf>,
}

/// Parents come before what they hold.
pub fn remember() -> Vec<Kept> {
    let mut kept = Vec::new();
    if fs::symlink_metadata("/run").is_ok_and(|meta| meta.is_dir()) {
        collect(Path::new("/run"), &mut kept);
    }
    kept
}

fn collect(directory: &Path, kept: &mut Vec<Kept>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let target = if meta.is_symlink() { fs::read_link(&path).ok() } else { None };
        if kept.len() == ENTRY_LIMIT || !(meta.is_dir() || target.is_some()) {
            continue;
        }
        let is_directory = meta.is_dir();
        kept.push(Kept { path: path.clone(), uid: meta.uid(), gid: meta.gid(), mode: meta.mode(), target });
        if is_directory {
            collect(&path, kept);
        }
    }
}

pub fn restore(kept: Vec<Kept>) {
    for Kept { path, uid, gid, mode, target } in kept {
        // None of it is worth a machine that does not boot.
        let _ = match target {
            Some(target) => symlink(target, &path).and_then(|()| lchown(&path, Some(uid), Some(gid))),
            None => fs::create_dir(&path)
                .and_then(|()| chown(&path, Some(uid), Some(gid)))
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode & 0o7777))),
        };
    }
}
