//! Pseudo-terminals: the pair, and its size.
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

#[derive(Clone, Copy)]
pub struct Size {
    pub rows: u16,
    pub cols: u16,
}

impl From<crate::pb::PtySize> for Size {
    fn from(size: crate::pb::PtySize) -> Self {
        let cells = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        Self { rows: cells(size.rows), cols: cells(size.cols) }
    }
}

/// The end of the agent and the end of the process.
pub fn open(size: Size) -> io::Result<(File, File)> {
    let (mut master, mut terminal) = (0, 0);
    let null = std::ptr::null_mut();
    check(unsafe { libc::openpty(&mut master, &mut terminal, null, null as _, null as _) })?;
    let pair = unsafe { (File::from_raw_fd(master), File::from_raw_fd(terminal)) };
    for file in [&pair.0, &pair.1] {
        check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    }
    resize(&pair.0, size)?;
    Ok(pair)
}

/// The kernel tells the terminal's foreground processes with SIGWINCH.
pub fn resize(terminal: &impl AsRawFd, size: Size) -> io::Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ as _, &size) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
