//! The agent's ends of a process's pipes or terminal: what it writes, and what it is given to read.
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use prost::bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::channel::Port;
use crate::process::{ended, Exited};
use crate::reply::CHUNK;

/// How long a pipe may stay silent after its process ended, before what holds it is taken for a daemon.
const LINGER: Duration = Duration::from_millis(200);
/// What the ended process wrote is in the pipe, which holds this much at most: pipe(7), pipe-max-size.
const LEFT_IN_PIPE: usize = 1 << 20;
/// End of transmission, which a terminal takes for the end of its input.
const EOT: u8 = 4;

/// Reads until the end and hands each chunk to `take`, which waits when the reader is slow.
///
/// A daemon left behind may hold the other end for ever. So once the process has ended, a wait for more is
/// limited, and so is its amount; a slow reader is not, as what the process wrote is still to be read.
pub async fn pump<F, R>(source: OwnedFd, exit: Exited, mut take: F)
where
    F: FnMut(Bytes) -> R,
    R: Future<Output = ()>,
{
    let Ok(mut source) = Port::from_fd(source) else { return };
    let mut buffer = vec![0; CHUNK];
    let mut after_exit = 0;
    while after_exit < LEFT_IN_PIPE {
        let mut exit = exit.clone();
        let has_ended = exit.borrow().is_some();
        let lingered = async {
            ended(&mut exit).await;
            tokio::time::sleep(LINGER).await;
        };
        let result = tokio::select! {
            biased;
            result = source.read(&mut buffer) => result,
            () = lingered => return,
        };
        // A terminal whose last process ended reads as EIO, which is its end of file.
        let Ok(n @ 1..) = result else { return };
        if has_ended {
            after_exit += n;
        }
        take(Bytes::copy_from_slice(&buffer[..n])).await;
    }
}

pub enum Feed {
    Data(Bytes),
    End,
}

/// Standard input. Holds one message beside the one being written, so a process that does not read makes
/// its writer wait.
pub struct Input {
    sender: mpsc::Sender<Feed>,
    task: AbortHandle,
}

impl Input {
    pub fn open(fd: OwnedFd, terminal: bool) -> io::Result<Self> {
        let port = Port::from_fd(fd)?;
        let (sender, fed) = mpsc::channel(1);
        let task = tokio::spawn(write(port, terminal, fed)).abort_handle();
        Ok(Self { sender, task })
    }

    pub async fn put(&self, feed: Feed) {
        let _ = self.sender.send(feed).await;
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Goes on taking what nobody reads any more: a program that closed its input is no error of the caller.
async fn write(port: Port, terminal: bool, mut fed: mpsc::Receiver<Feed>) {
    let mut port = Some(port);
    while let Some(feed) = fed.recv().await {
        let Some(open) = &mut port else { continue };
        let kept = match feed {
            Feed::Data(data) => open.write_all(&data).await.is_ok(),
            Feed::End if terminal => open.write_all(&[EOT]).await.is_ok(),
            Feed::End => false,
        };
        if !kept {
            port = None;
        }
    }
}
