//! Holding the disk still, and the machine's end.
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout, timeout_at, Instant};
use tonic::Status;

use crate::agent::Agent;
use crate::groups::Group;
use crate::reply::blocking;
use crate::system::is_init;
use crate::{main_process, process};

/// linux/fs.h
const FIFREEZE: libc::c_ulong = 0xC004_5877;
const FITHAW: libc::c_ulong = 0xC004_5878;
const FREEZE_LIMIT: Duration = Duration::from_secs(10);
/// For what was killed to be gone, for hosts to read the rest, for a disk to take it. A machine that was told
/// to end does end, even if the disk does not answer.
const KILL_LIMIT: Duration = Duration::from_secs(2);
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);
const SYNC_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(2);

/// The root directory of the scratch disk, which nothing in the guest's own tree leads to.
static SCRATCH: OnceLock<File> = OnceLock::new();

pub fn keep_scratch(root: File) {
    let _ = SCRATCH.set(root);
}

fn scratch() -> io::Result<&'static File> {
    let missing = || io::Error::new(io::ErrorKind::Unsupported, "this machine has no disk of its own");
    SCRATCH.get().ok_or_else(missing)
}

#[derive(Default)]
pub struct Freezer(Mutex<Option<AbortHandle>>);

impl Agent {
    /// On a task of its own: a caller who goes away in the middle must not leave the disk frozen.
    pub async fn freeze(self: &Arc<Self>, limit_ms: u32) -> Result<(), Status> {
        let limit = if limit_ms == 0 { FREEZE_LIMIT } else { Duration::from_millis(limit_ms.into()) };
        let agent = self.clone();
        let frozen = tokio::spawn(async move {
            blocking(|| match unsafe { libc::ioctl(scratch()?.as_raw_fd(), FIFREEZE as _, 0) } {
                0 => Ok(()),
                _ => match io::Error::last_os_error() {
                    error if error.raw_os_error() == Some(libc::EBUSY) => Ok(()), // frozen already
                    error => Err(error),
                },
            })
            .await?;
            let thawing = agent.clone();
            let timer = tokio::spawn(async move {
                sleep(limit).await;
                thaw_scratch();
                thawing.freezer.0.lock().unwrap().take();
            });
            agent.freezer.set(Some(timer.abort_handle()));
            Ok(())
        });
        frozen.await.unwrap_or_else(|_| Err(Status::internal("the agent is ending")))
    }

    /// Never waits behind writers that the frozen disk holds, hence on no thread of theirs.
    pub fn thaw(&self) {
        thaw_scratch();
        self.freezer.set(None);
    }

    /// Ends the main process, then every process, then the machine. Outside a machine it ends only the agent.
    pub async fn shutdown(self: Arc<Self>, grace_ms: u32, signal: i32) {
        let grace = Instant::now() + Duration::from_millis(grace_ms.into());
        self.thaw();
        if let Some(main) = self.running_main() {
            let _ = process::signal(main.pid, if signal == 0 { libc::SIGTERM } else { signal });
            let mut done = main.done.clone();
            if timeout_at(grace, main_process::wait(&mut done)).await.is_err() {
                let _ = process::signal(main.pid, libc::SIGKILL);
                let _ = timeout(KILL_LIMIT, main_process::wait(&mut done)).await;
            }
        }
        if is_init() {
            kill_all().await;
        }
        self.ending.send_replace(true);
        let mut talks = self.talks.subscribe();
        let _ = timeout(FAREWELL_LIMIT, talks.wait_for(|open| *open == 0)).await;
        if !is_init() {
            std::process::exit(0);
        }
        // A frozen file system is a clean one: the next boot has no journal to replay.
        let settle = || unsafe {
            libc::sync();
            scratch().map(|disk| libc::ioctl(disk.as_raw_fd(), FIFREEZE as _, 0))
        };
        let _ = timeout(SYNC_LIMIT, blocking(settle)).await;
        // A restart ends the VM: there is no ACPI to switch it off with, and the VMM does not boot it again.
        unsafe { libc::reboot(libc::RB_AUTOBOOT) };
    }
}

impl Freezer {
    fn set(&self, timer: Option<AbortHandle>) {
        if let Some(old) = std::mem::replace(&mut *self.0.lock().unwrap(), timer) {
            old.abort();
        }
    }
}

/// An error means that nothing was frozen.
fn thaw_scratch() {
    if let Ok(disk) = scratch() {
        unsafe { libc::ioctl(disk.as_raw_fd(), FITHAW as _, 0) };
    }
}

async fn kill_all() {
    unsafe { libc::kill(-1, libc::SIGKILL) };
    let _ = timeout(KILL_LIMIT, async {
        while !(Group::Main.is_empty() && Group::Exec.is_empty()) {
            sleep(POLL).await;
        }
    })
    .await;
}
