//! The byte stream to the host: a virtio-serial port or a unix socket, and the handshake on it.
//!
//! A serial port has no connections, and a machine restored from a snapshot finds a new host in the
//! middle of an old conversation. So each conversation starts with lines:
//!
//!   host  `HEARTH-SYNC <32 hex>`      agent `HEARTH-SYNC-OK <32 hex>`
//!   host  `GO <32 hex>`               agent `READY <32 hex>`
//!
//! and HTTP/2 after that. Everything else is discarded. To an HTTP/2 parser a sync line is a frame larger
//! than any allowed, so a host that repeats it (after more padding than one frame holds) always ends
//! the old conversation; user data is never searched for it.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::signal::unix::{signal, Signal, SignalKind};

const NONCE: usize = 32;
/// Longer than any line of the handshake; what is longer is rubbish and is dropped from the front.
const LINE_MAX: usize = 128;
const FIND_ATTEMPTS: usize = 10_000;
const FIND_EVERY: Duration = Duration::from_millis(1);
const HOST_LIMIT: Duration = Duration::from_millis(100);

/// Waits for a host to complete the handshake. `Err` means that the stream ended or broke.
pub async fn synchronise<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    let mut nonce: Option<String> = None;
    let mut line: Vec<u8> = Vec::with_capacity(LINE_MAX);
    loop {
        // Byte by byte: what follows GO belongs to HTTP/2 and must stay in the stream.
        let byte = stream.read_u8().await?;
        if byte != b'\n' {
            if line.len() == LINE_MAX {
                line.remove(0);
            }
            line.push(byte);
            continue;
        }
        if let Some(found) = token(&line, b"HEARTH-SYNC ") {
            stream.write_all(format!("HEARTH-SYNC-OK {found}\n").as_bytes()).await?;
            stream.flush().await?;
            nonce = Some(found);
        } else if let (Some(found), Some(expected)) = (token(&line, b"GO "), &nonce) {
            if &found == expected {
                stream.write_all(format!("READY {found}\n").as_bytes()).await?;
                return stream.flush().await;
            }
        }
        line.clear();
    }
}

/// The nonce at the end of a line, which may have rubbish of an older conversation before it.
fn token(line: &[u8], word: &[u8]) -> Option<String> {
    let start = line.len().checked_sub(word.len() + NONCE)?;
    let hex = line[start..].strip_prefix(word)?;
    let valid = hex.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    valid.then(|| String::from_utf8_lossy(hex).into_owned())
}

/// A virtio-serial port, found by the name that the host gave it.
pub struct Port(AsyncFd<File>);

impl Port {
    /// The host tells the names in messages of its own, a moment after the driver is there.
    pub async fn find(name: &str) -> io::Result<File> {
        for _ in 0..FIND_ATTEMPTS {
            if let Ok(file) = Self::open(name) {
                return Ok(file);
            }
            tokio::time::sleep(FIND_EVERY).await;
        }
        Self::open(name)
    }

    fn open(name: &str) -> io::Result<File> {
        for entry in fs::read_dir("/sys/class/virtio-ports")? {
            let entry = entry?;
            let found = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if found.trim() == name {
                return OpenOptions::new()
                    .read(true)
                    .write(true)
                    .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
                    .open(std::path::Path::new("/dev").join(entry.file_name()));
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "no virtio port has the agent's name"))
    }

    /// Registers anew: a hang-up seen on a port stays set in a registration, though the host comes back.
    pub fn register(file: &File) -> io::Result<Self> {
        Self::from_fd(file.try_clone()?.into())
    }

    /// Any descriptor that poll supports: pipes and terminals as well.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
        unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) };
        // Sound: the registration owns the file, so the descriptor stays open and the same until it ends.
        Ok(Self(unsafe { AsyncFd::register(File::from(fd)) }?))
    }
}

/// Waits until a host holds the other end of a port.
///
/// The driver sends SIGIO to who asks for it when a host comes, but also for all that a host says; so it is
/// asked only while no host is there.
pub struct Hosts {
    port: File,
    news: Signal,
}

impl Hosts {
    pub fn of(port: &File) -> io::Result<Self> {
        unsafe { libc::fcntl(port.as_raw_fd(), libc::F_SETOWN, libc::getpid()) };
        Ok(Self { port: port.try_clone()?, news: signal(SignalKind::io())? })
    }

    pub async fn present(&mut self) {
        self.ask(true);
        while has_hung_up(&self.port) {
            // Word of a host that came before it was asked for never arrives.
            let _ = tokio::time::timeout(HOST_LIMIT, self.news.recv()).await;
        }
        self.ask(false);
    }

    fn ask(&self, wanted: bool) {
        let fd = self.port.as_raw_fd();
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
        let flags = if wanted { flags | libc::O_ASYNC } else { flags & !libc::O_ASYNC };
        unsafe { libc::fcntl(fd, libc::F_SETFL, flags) };
    }
}

fn has_hung_up(fd: &impl AsRawFd) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    unsafe { libc::poll(&mut poll, 1, 0) };
    poll.revents & libc::POLLHUP != 0
}

impl AsRawFd for Port {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsyncRead for Port {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            match guard.try_io(|fd| fd.get_ref().read(buf.initialize_unfilled())) {
                Ok(Ok(n)) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => continue,
            }
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            match guard.try_io(|fd| fd.get_ref().write(data)) {
                Ok(result) => return Poll::Ready(result),
                // A port without a host lets a writer wait, and is ready for ever by its hang-up.
                Err(_would_block) if has_hung_up(&self.0) => {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
                Err(_would_block) => continue,
            }
        }
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    const A: &str = "0123456789abcdef0123456789abcdef";

    #[tokio::test]
    async fn rubbish_and_stale_nonces_are_discarded_and_bytes_after_go_are_kept() {
        let (mut host, mut agent) = tokio::io::duplex(1 << 16);
        let old = A.replace('0', "f");
        let input =
            format!("\0\u{1}rubbishHEARTH-SYNC {old}\nGO {A}\nx\nHEARTH-SYNC {A}\nGO {old}\nGO {A}\nPRI");
        host.write_all(input.as_bytes()).await.unwrap();
        synchronise(&mut agent).await.unwrap();
        let mut rest = [0; 3];
        agent.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"PRI");
        drop(agent);
        let mut answer = String::new();
        host.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, format!("HEARTH-SYNC-OK {old}\nHEARTH-SYNC-OK {A}\nREADY {A}\n"));
    }

    #[tokio::test]
    async fn a_stream_that_ends_before_go_is_an_error() {
        let (mut host, mut agent) = tokio::io::duplex(1 << 10);
        host.write_all(format!("HEARTH-SYNC {A}\n").as_bytes()).await.unwrap();
        drop(host);
        assert!(synchronise(&mut agent).await.is_err());
    }
}
