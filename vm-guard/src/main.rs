//! Ends a virtual machine monitor when the lease of its node has run out, whatever has become of the worker.
//!
//! A worker that is dead or stopped cannot end its machines, and the region starts those that may run elsewhere on
//! another host. So each such machine has a guard: a process of its own that shares nothing with the worker but one
//! file, the moment (CLOCK_BOOTTIME, milliseconds) at which the right of the node ends. The worker moves that moment
//! on with each renewal. A file that is missing or makes no sense counts as over.
//!
//! The guard is forked before the VMM's program is executed, and holds its process by a pidfd: there is no moment at
//! which the VMM runs unguarded, and no other process can be taken for it. It ends with the VMM.
mod watch;

use std::ffi::CString;
use std::process::exit;

const USAGE: &str = "usage: vm-guard run LEASE GRACE_MS -- PROGRAM ARG...
       vm-guard attach LEASE GRACE_MS PID START_TIME RUN_DIRECTORY";
/// sysexits(3) EX_TEMPFAIL: the lease is over, so nothing was started.
const NO_LEASE: i32 = 75;
const WRONG_USE: i32 = 64;
const FAILED: i32 = 71;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["run", lease, grace, "--", program @ ..] if !program.is_empty() => {
            run(lease, grace_of(grace), program)
        }
        ["attach", lease, grace, pid, start, _run_directory] => attach(lease, grace_of(grace), pid, start),
        _ => fail(WRONG_USE, USAGE),
    }
}

/// Becomes the program, with a guard beside it.
fn run(lease: &str, grace_ms: i64, program: &[&str]) {
    if watch::remaining_ms(lease, 0) <= 0 {
        fail(NO_LEASE, "the node's lease is over, so the machine is not started");
    }
    let pidfd = watch::pidfd_open(std::process::id() as i32)
        .unwrap_or_else(|error| fail(FAILED, &format!("pidfd_open: {error}")));
    if let Err(error) = watch::spawn(lease, grace_ms, pidfd) {
        fail(FAILED, &format!("the guard did not start: {error}"));
    }
    let argv: Vec<CString> = program.iter().map(|word| CString::new(*word).unwrap_or_default()).collect();
    let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: the vector ends with a null pointer, and the strings live until the call returns.
    unsafe { libc::execvp(pointers[0], pointers.as_ptr()) };
    fail(FAILED, &format!("{}: {}", program[0], std::io::Error::last_os_error()));
}

/// Guards a process that runs already and has lost its guard.
fn attach(lease: &str, grace_ms: i64, pid: &str, start: &str) {
    let Ok(pid) = pid.parse::<i32>() else { fail(WRONG_USE, USAGE) };
    let pidfd = watch::pidfd_open(pid).unwrap_or_else(|error| fail(FAILED, &format!("pidfd_open: {error}")));
    // The start time is read after the pidfd is held, so that it is of the process that the pidfd names.
    if watch::start_time(pid).as_deref() != Some(start) {
        fail(FAILED, "that process is gone");
    }
    if let Err(error) = watch::spawn(lease, grace_ms, pidfd) {
        fail(FAILED, &format!("the guard did not start: {error}"));
    }
}

fn grace_of(text: &str) -> i64 {
    match text.parse::<i64>() {
        Ok(ms) if ms >= 0 => ms,
        _ => fail(WRONG_USE, USAGE),
    }
}

fn fail(code: i32, text: &str) -> ! {
    eprintln!("vm-guard: {text}");
    exit(code);
}
