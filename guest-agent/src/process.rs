//! Processes: starting them as a user, with pipes or a terminal, and reaping.
//!
//! The agent reaps with waitpid(-1), because process 1 inherits every orphan; so nothing here may use a
//! library that waits for its own children. One thread starts and reaps, hence a child is always registered
//! before its end can be noticed, and a process that has no exit yet still owns its number.
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;

use tokio::sync::watch;
use tonic::{Code, Status};

use crate::fork::{pipe, Program};
use crate::groups::Group;
use crate::pb::Exit;
use crate::reply::{refusal, status};
use crate::terminal::{self, Size};
use crate::user::User;

pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub type Exited = watch::Receiver<Option<Exit>>;

pub struct Spec {
    pub argv: Vec<String>,
    pub user: String,
    pub workdir: String,
    pub env: HashMap<String, String>,
    pub pty: Option<Size>,
    /// Whether standard input can be written to; a terminal always can.
    pub stdin: bool,
    pub group: Group,
}

pub struct Child {
    pub pid: i32,
    pub exit: Exited,
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    /// Absent with a terminal, which has one output.
    pub stderr: Option<OwnedFd>,
    pub terminal: Option<File>,
}

struct Running {
    exit: watch::Sender<Option<Exit>>,
    group: Group,
    /// The group's count when it started.
    oom_kills: u64,
}

#[derive(Default)]
pub struct Processes(Mutex<HashMap<i32, Running>>);

impl Processes {
    pub fn spawn(&self, spec: Spec) -> Result<Child, Status> {
        let program = spec.argv.first().ok_or_else(|| Status::invalid_argument("argv is empty"))?;
        let user = User::find(&spec.user).map_err(|unknown| {
            refusal(Code::NotFound, "user-unknown", format!("unknown user or group: {unknown}"))
        })?;
        let workdir = if spec.workdir.is_empty() { "/" } else { &spec.workdir };
        if !Path::new(workdir).is_dir() {
            return Err(refusal(Code::NotFound, "workdir-not-found", format!("no directory {workdir}")));
        }
        let mut env = vec![("PATH".into(), DEFAULT_PATH.into()), ("HOME".into(), user.home.clone())];
        if spec.pty.is_some() {
            env.push(("TERM".into(), "xterm-256color".into()));
        }
        env.retain(|(name, _)| !spec.env.contains_key(name));
        env.extend(spec.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        let started =
            Program::new(&spec.argv, &env, workdir).and_then(|ready| self.start(&ready, user, &spec));
        started.map_err(|error| {
            let text = format!("{program}: {error}");
            match (error.kind(), error.raw_os_error()) {
                (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, _) => {
                    refusal(Code::NotFound, "program-not-found", text)
                }
                (io::ErrorKind::PermissionDenied, _) | (_, Some(libc::ENOEXEC)) => {
                    refusal(Code::FailedPrecondition, "program-not-executable", text)
                }
                _ => status(error),
            }
        })
    }

    fn start(&self, program: &Program, user: User, spec: &Spec) -> io::Result<Child> {
        let (theirs, mut child) = streams(spec)?;
        let stdio = [theirs[0].as_raw_fd(), theirs[1].as_raw_fd(), theirs[2].as_raw_fd()];
        let (controlling, first_own) =
            (spec.pty.is_some(), if spec.stdin || spec.pty.is_some() { 0 } else { 1 });
        let oom_kills = spec.group.oom_kills();
        let group = spec.group.directory();
        child.pid = program.start(stdio, group.as_ref(), || prepare(&user, controlling, first_own))?;
        let (sender, exit) = watch::channel(None);
        child.exit = exit;
        self.0.lock().unwrap().insert(child.pid, Running { exit: sender, group: spec.group, oom_kills });
        Ok(child)
    }

    /// Collects everything that has ended, whoever started it.
    pub fn reap(&self) {
        loop {
            let mut status = 0;
            let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
            if pid <= 0 {
                return;
            }
            let Some(running) = self.0.lock().unwrap().remove(&pid) else { continue };
            let signal = if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 };
            let code = if signal > 0 { 128 + signal } else { libc::WEXITSTATUS(status) };
            // A shell whose program was killed says so with its own exit code.
            let killed = code == 128 + libc::SIGKILL;
            let oom = killed && running.group.oom_kills() > running.oom_kills;
            running.exit.send_replace(Some(Exit { code, signal, oom }));
        }
    }
}

/// The process's ends of its standard streams, and the agent's.
fn streams(spec: &Spec) -> io::Result<([OwnedFd; 3], Child)> {
    let child = |stdin, stdout, stderr, terminal| Child {
        pid: 0,
        exit: watch::channel(None).1,
        stdin,
        stdout,
        stderr,
        terminal,
    };
    if let Some(size) = spec.pty {
        let (master, end) = terminal::open(size)?;
        let theirs = [end.try_clone()?.into(), end.try_clone()?.into(), end.into()];
        let (input, output) = (master.try_clone()?.into(), master.try_clone()?.into());
        return Ok((theirs, child(Some(input), output, None, Some(master))));
    }
    let (stdin, input) = if spec.stdin {
        let (theirs, ours) = pipe()?;
        (theirs, Some(ours))
    } else {
        (File::open("/dev/null")?.into(), None)
    };
    let (output, stdout) = pipe()?;
    let (errors, stderr) = pipe()?;
    Ok(([stdin, stdout, stderr], child(input, output, Some(errors), None)))
}

/// Runs between fork and exec: only async-signal-safe calls.
fn prepare(user: &User, controlling: bool, first_own: i32) -> io::Result<()> {
    let check = |result: i32| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    unsafe {
        check(libc::setsid())?;
        if controlling {
            check(libc::ioctl(0, libc::TIOCSCTTY as _, 0))?;
        }
        // Programs reopen /dev/stdout by name, for which a process that is not root has to own it.
        for fd in first_own..3 {
            libc::fchown(fd, user.uid, user.gid);
        }
        user.enter()?;
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
    Ok(())
}

pub async fn ended(exit: &mut Exited) -> Exit {
    match exit.wait_for(Option::is_some).await {
        Ok(value) => value.unwrap_or_default(),
        Err(_) => Exit::default(),
    }
}

pub fn signal(pid: i32, number: i32) -> io::Result<()> {
    if unsafe { libc::kill(pid, number) } < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
