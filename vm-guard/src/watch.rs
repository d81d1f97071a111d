//! The guard itself: a process in a session of its own that waits for the end of the VMM or of the lease.
use std::fs;
use std::io::{Error, Result};

/// How often the lease is read. A host that was suspended is noticed within this time after it wakes.
const LOOK_MS: i64 = 500;
const KILLED_POLL_MS: i64 = 1_000;

/// Until the lease, and `grace_ms` more, is over. Not more than zero when it is, or when nobody can tell.
pub fn remaining_ms(lease: &str, grace_ms: i64) -> i64 {
    let text = fs::read_to_string(lease).unwrap_or_default();
    match text.trim().parse::<i64>() {
        Ok(until) => until.saturating_add(grace_ms).saturating_sub(boot_ms()),
        Err(_) => 0,
    }
}

/// Field 22 of proc(5) stat. The second field is a name in parentheses and may hold blanks.
pub fn start_time(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    rest.split(' ').nth(19).map(str::to_owned)
}

pub fn pidfd_open(pid: i32) -> Result<i32> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(fd as i32)
    }
}

/// Forks the guard. When this returns it is ready, and no child of the caller.
pub fn spawn(lease: &str, grace_ms: i64, pidfd: i32) -> Result<()> {
    let mut ends = [0i32; 2];
    // SAFETY: `ends` has room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => return Err(Error::last_os_error()),
        0 => middle(lease, grace_ms, pidfd, ends[1]),
        child => unsafe {
            libc::close(ends[1]);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        },
    }
    let mut ready = 0u8;
    // SAFETY: one byte is read into one byte. The end of the pipe without a byte is a guard that failed.
    let read = unsafe { libc::read(ends[0], (&raw mut ready).cast(), 1) };
    unsafe { libc::close(ends[0]) };
    if read == 1 {
        Ok(())
    } else {
        Err(Error::from_raw_os_error(libc::ECHILD))
    }
}

/// Between the caller and the guard, so that the VMM has no child that it does not know of.
fn middle(lease: &str, grace_ms: i64, pidfd: i32, ready: i32) -> ! {
    // SAFETY: this process has one thread, and ends without running anything of the caller's.
    unsafe {
        libc::setsid();
        if libc::fork() != 0 {
            libc::_exit(0);
        }
    }
    settle(&[pidfd, ready]);
    // SAFETY: one byte is written from one byte.
    unsafe {
        libc::write(ready, (&raw const pidfd).cast(), 1);
        libc::close(ready);
    }
    guard(lease, grace_ms, pidfd)
}

/// Keeps nothing open of the caller's, takes no signal that is meant for others, and is the last to go for memory.
fn settle(keep: &[i32]) {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE, libc::SIGQUIT] {
        // SAFETY: SIG_IGN is no function of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")
        .map(|entries| {
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
        })
        .unwrap_or_default();
    for fd in open.into_iter().filter(|fd| !keep.contains(fd)) {
        // SAFETY: nothing in this process uses it any more.
        unsafe { libc::close(fd) };
    }
    let _ = std::env::set_current_dir("/");
    let _ = fs::write("/proc/self/oom_score_adj", "-999");
}

fn guard(lease: &str, grace_ms: i64, pidfd: i32) -> ! {
    loop {
        let left = remaining_ms(lease, grace_ms);
        if left <= 0 {
            // SAFETY: a pidfd names one process for ever; a signal to one that is gone is an error and no more.
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, libc::SIGKILL, 0usize, 0) };
        }
        let wait = if left <= 0 { KILLED_POLL_MS } else { left.min(LOOK_MS) };
        let mut one = libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor is passed, and the count says so.
        if unsafe { libc::poll(&raw mut one, 1, wait as i32) } > 0 {
            // SAFETY: nothing is left to be done.
            unsafe { libc::_exit(0) };
        }
    }
}

fn boot_ms() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is written whole. This clock goes on while the host sleeps.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
}
