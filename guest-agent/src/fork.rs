//! Fork and exec of a program, straight into its control group.
//!
//! The library's own way needs the child to move itself there, and a move makes the kernel wait for a grace
//! period of all processors: 26 ms of a guest's start. clone3(2) with CLONE_INTO_CGROUP makes the child inside.
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::process::DEFAULT_PATH;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// All that exec needs, made before the fork: after it nothing may be allocated.
pub struct Program {
    argv: Vec<CString>,
    env: Vec<CString>,
    workdir: CString,
    /// Where the program may be, in the order of the path.
    candidates: Vec<CString>,
}

impl Program {
    pub fn new(argv: &[String], env: &[(String, String)], workdir: &str) -> io::Result<Self> {
        let program = argv.first().map_or("", String::as_str);
        let path = env.iter().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, value)| value);
        let candidates = match program {
            "" => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
            program if program.contains('/') => vec![CString::new(program)?],
            program => path
                .split(':')
                .map(|directory| if directory.is_empty() { "." } else { directory })
                .map(|directory| CString::new(format!("{directory}/{program}")))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self {
            argv: argv.iter().map(|word| CString::new(word.as_str())).collect::<Result<_, _>>()?,
            env: env
                .iter()
                .map(|(name, value)| CString::new(format!("{name}={value}")))
                .collect::<Result<_, _>>()?,
            workdir: CString::new(workdir)?,
            candidates,
        })
    }

    /// The number of the process that runs it, once exec has succeeded; its error otherwise, and no process.
    ///
    /// `prepare` runs in the child, after its standard streams are in place: only async-signal-safe calls.
    pub fn start(
        &self,
        stdio: [RawFd; 3],
        group: Option<&File>,
        prepare: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<i32> {
        let argv = pointers(&self.argv);
        let env = pointers(&self.env);
        let (reader, writer) = pipe()?;
        let pid = match fork(group)? {
            0 => {
                let error = self.become_it(stdio, &argv, &env, prepare);
                let number = error.raw_os_error().unwrap_or(libc::EINVAL).to_ne_bytes();
                unsafe {
                    libc::write(writer.as_raw_fd(), number.as_ptr().cast(), number.len());
                    libc::_exit(127)
                }
            }
            pid => pid,
        };
        drop(writer);
        let mut number = [0; 4];
        // The end of the pipe without a word: exec closed it.
        if File::from(reader).read_exact(&mut number).is_err() {
            return Ok(pid);
        }
        // Nobody was told of this process, so its end is taken here.
        unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
        Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number)))
    }

    fn become_it(
        &self,
        stdio: [RawFd; 3],
        argv: &[*const libc::c_char],
        env: &[*const libc::c_char],
        prepare: impl FnOnce() -> io::Result<()>,
    ) -> io::Error {
        unsafe {
            for (number, fd) in stdio.into_iter().enumerate() {
                // A descriptor that is in its place already would keep its close-on-exec.
                let placed = if fd == number as i32 {
                    libc::fcntl(fd, libc::F_SETFD, 0)
                } else {
                    libc::dup2(fd, number as i32)
                };
                if placed < 0 {
                    return io::Error::last_os_error();
                }
            }
            if libc::chdir(self.workdir.as_ptr()) < 0 {
                return io::Error::last_os_error();
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
            if let Err(error) = prepare() {
                return error;
            }
            // As a shell looks: what may not be run does not end the search, but is what is told of it.
            let mut told = libc::ENOENT;
            for candidate in &self.candidates {
                libc::execve(candidate.as_ptr(), argv.as_ptr(), env.as_ptr());
                match *libc::__errno_location() {
                    libc::ENOENT | libc::ENOTDIR => {}
                    libc::EACCES => told = libc::EACCES,
                    other => return io::Error::from_raw_os_error(other),
                }
            }
            io::Error::from_raw_os_error(told)
        }
    }
}

fn pointers(words: &[CString]) -> Vec<*const libc::c_char> {
    words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect()
}

/// Its reading end and its writing end.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// struct clone_args of clone3(2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// 0 in the child. A kernel that cannot place the child in a group makes it where its parent is.
fn fork(group: Option<&File>) -> io::Result<i32> {
    if let Some(group) = group {
        let arguments = CloneArgs {
            flags: CLONE_INTO_CGROUP,
            exit_signal: libc::SIGCHLD as u64,
            cgroup: group.as_raw_fd() as u64,
            ..CloneArgs::default()
        };
        let size = std::mem::size_of::<CloneArgs>();
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &arguments, size) };
        if pid >= 0 {
            return Ok(pid as i32);
        }
    }
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}
