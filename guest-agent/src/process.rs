//! Processes: starting them as a user, with pipes or a terminal, and reaping.
//!
//! The agent reaps with waitpid(-1), because process 1 inherits every orphan; so nothing here may use a
//! library that waits for its own children. One thread starts and reaps, hence a child is always registered
//! before its end can be noticed, and a process that has no exit yet still owns its number.
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use tokio::sync::watch;
use tonic::{Code, Status};

use crate::groups::Group;
use crate::pb::Exit;
use crate::reply::{refusal, status};
use crate::terminal::{self, Size};
use crate::user::User;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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
        let (program, arguments) =
            spec.argv.split_first().ok_or_else(|| Status::invalid_argument("argv is empty"))?;
        let user = User::find(&spec.user).map_err(|unknown| {
            refusal(Code::NotFound, "user-unknown", format!("unknown user or group: {unknown}"))
        })?;
        let workdir = if spec.workdir.is_empty() { "/" } else { &spec.workdir };
        if !Path::new(workdir).is_dir() {
            return Err(refusal(Code::NotFound, "workdir-not-found", format!("no directory {workdir}")));
        }
        let mut command = Command::new(program);
        command.args(arguments).current_dir(workdir);
        command.env_clear().env("PATH", DEFAULT_PATH).env("HOME", &user.home);
        if spec.pty.is_some() {
            command.env("TERM", "xterm-256color");
        }
        command.envs(&spec.env);
        self.start(command, user, &spec).map_err(|error| {
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

    fn start(&self, mut command: Command, user: User, spec: &Spec) -> io::Result<Child> {
        let pty = spec.pty.map(terminal::open).transpose()?;
        if let Some((_, end)) = &pty {
            command.stdin(end.try_clone()?).stdout(end.try_clone()?).stderr(end.try_clone()?);
        } else {
            let stdin = if spec.stdin { Stdio::piped() } else { Stdio::null() };
            command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let entrance = spec.group.entrance();
        let (controlling, first_own) = (pty.is_some(), if spec.stdin || pty.is_some() { 0 } else { 1 });
        unsafe { command.pre_exec(move || prepare(&user, controlling, first_own, entrance.as_ref())) };
        let oom_kills = spec.group.oom_kills();
        let mut child = command.spawn()?;
        drop(command); // and with it the agent's copies of the process's end of the terminal
        let pid = child.id() as i32;
        let (sender, exit) = watch::channel(None);
        self.0.lock().unwrap().insert(pid, Running { exit: sender, group: spec.group, oom_kills });
        let (stdin, stdout, stderr, terminal) = match pty {
            Some((master, _)) => {
                (Some(master.try_clone()?.into()), Some(master.try_clone()?.into()), None, Some(master))
            }
            None => (
                child.stdin.take().map(OwnedFd::from),
                child.stdout.take().map(OwnedFd::from),
                child.stderr.take().map(OwnedFd::from),
                None,
            ),
        };
        Ok(Child { pid, exit, stdin, stdout: stdout.expect("stdout is piped"), stderr, terminal })
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

/// Runs between fork and exec: only async-signal-safe calls.
fn prepare(user: &User, controlling: bool, first_own: i32, entrance: Option<&File>) -> io::Result<()> {
    let check = |result: i32| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    unsafe {
        check(libc::setsid())?;
        if controlling {
            check(libc::ioctl(0, libc::TIOCSCTTY as _, 0))?;
        }
        if let Some(file) = entrance {
            libc::write(file.as_raw_fd(), c"0".as_ptr().cast(), 1);
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
