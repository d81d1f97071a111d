//! Processes: starting them as a user, with pipes or a terminal, and reaping.
//!
//! The agent reaps with waitpid(-1), because process 1 inherits every orphan; so nothing here may use a
//! library that waits for its own children. One thread runs everything, hence a child is always
//! registered before its end can be noticed.
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use tokio::sync::watch;

use crate::pb::Exit;

#[derive(Default)]
pub struct Spec {
    pub argv: Vec<String>,
    pub user: String,
    pub workdir: String,
    pub env: HashMap<String, String>,
    pub pty: Option<(u16, u16)>,
}

pub struct Child {
    pub pid: i32,
    pub exit: watch::Receiver<Option<Exit>>,
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    /// Absent with a terminal, which has one output.
    pub stderr: Option<OwnedFd>,
}

#[derive(Default)]
pub struct Processes(Mutex<HashMap<i32, watch::Sender<Option<Exit>>>>);

impl Processes {
    pub fn spawn(&self, spec: &Spec) -> io::Result<Child> {
        let (program, arguments) = spec
            .argv
            .split_first()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "argv is empty"))?;
        let user = User::find(&spec.user)?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", DEFAULT_PATH).env("HOME", &user.home);
        if spec.pty.is_some() {
            command.env("TERM", "xterm-256color");
        }
        command.envs(&spec.env);
        let workdir = if spec.workdir.is_empty() { "/" } else { &spec.workdir };
        command.current_dir(workdir);
        let pty = spec.pty.map(|(rows, cols)| open_pty(rows, cols)).transpose()?;
        if let Some((_, terminal)) = &pty {
            command.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(terminal.try_clone()?);
        } else {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let controlling = pty.is_some();
        // Only async-signal-safe calls: this runs between fork and exec.
        unsafe { command.pre_exec(move || user.enter(controlling)) };
        let mut child = command.spawn()?;
        drop(command);
        let pid = child.id() as i32;
        let (sender, exit) = watch::channel(None);
        self.0.lock().unwrap().insert(pid, sender);
        Ok(match pty {
            Some((master, _)) => Child {
                pid,
                exit,
                stdin: Some(master.try_clone()?.into()),
                stdout: master.into(),
                stderr: None,
            },
            None => Child {
                pid,
                exit,
                stdin: child.stdin.take().map(OwnedFd::from),
                stdout: child.stdout.take().map(OwnedFd::from).expect("stdout is piped"),
                stderr: child.stderr.take().map(OwnedFd::from),
            },
        })
    }

    /// Collects everything that has ended, whoever started it.
    pub fn reap(&self) {
        loop {
            let mut status = 0;
            let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
            if pid <= 0 {
                return;
            }
            let exit = if libc::WIFSIGNALED(status) {
                let signal = libc::WTERMSIG(status);
                Exit { code: 128 + signal, signal }
            } else {
                Exit { code: libc::WEXITSTATUS(status), signal: 0 }
            };
            if let Some(sender) = self.0.lock().unwrap().remove(&pid) {
                sender.send_replace(Some(exit));
            }
        }
    }
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

struct User {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    home: String,
}

impl User {
    /// `name`, `uid`, `name:group` or `uid:gid`, as in an OCI image. A numeric id needs no entry anywhere.
    fn find(text: &str) -> io::Result<Self> {
        let text = if text.is_empty() { "0" } else { text };
        let (name, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
        let passwd = table("/etc/passwd");
        let groups = table("/etc/group");
        let entry = passwd.iter().find(|f| f.len() > 5 && (f[0] == name || f[2] == name));
        let unknown =
            |what: &str| io::Error::new(io::ErrorKind::NotFound, format!("unknown user or group: {what}"));
        let number = |text: &str| text.parse::<u32>().ok();
        let uid = entry.map_or(number(name), |f| number(&f[2])).ok_or_else(|| unknown(name))?;
        let gid = match group {
            Some(group) => groups
                .iter()
                .find(|f| f.len() > 2 && f[0] == group)
                .map_or(number(group), |f| number(&f[2]))
                .ok_or_else(|| unknown(group))?,
            None => entry.and_then(|f| number(&f[3])).unwrap_or(0),
        };
        let mut supplementary = vec![gid];
        if let (Some(entry), None) = (entry, group) {
            let member = |f: &&Vec<String>| f.len() > 3 && f[3].split(',').any(|m| m == entry[0]);
            supplementary.extend(groups.iter().filter(member).filter_map(|f| number(&f[2])));
        }
        let home = entry.map_or("/".to_owned(), |f| f[5].clone());
        Ok(Self { uid, gid, groups: supplementary, home })
    }

    fn enter(&self, controlling: bool) -> io::Result<()> {
        unsafe {
            check(libc::setsid())?;
            if controlling {
                check(libc::ioctl(0, libc::TIOCSCTTY as _, 0))?;
            }
            // An agent that is not root (tests) can only run processes as itself.
            if libc::geteuid() == 0 {
                check(libc::setgroups(self.groups.len(), self.groups.as_ptr()))?;
                check(libc::setgid(self.gid))?;
                check(libc::setuid(self.uid))?;
            }
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        }
        Ok(())
    }
}

fn table(path: &str) -> Vec<Vec<String>> {
    let text = fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    text.lines().map(|l| l.split(':').map(str::to_owned).collect()).collect()
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn open_pty(rows: u16, cols: u16) -> io::Result<(File, File)> {
    let (mut master, mut terminal) = (0, 0);
    let null = std::ptr::null_mut();
    check(unsafe { libc::openpty(&mut master, &mut terminal, null, null as _, null as _) })?;
    let pair = unsafe { (File::from_raw_fd(master), File::from_raw_fd(terminal)) };
    for file in [&pair.0, &pair.1] {
        check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    }
    resize(&pair.0, rows, cols)?;
    Ok(pair)
}

pub fn resize(terminal: &impl AsRawFd, rows: u16, cols: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ as _, &size) })
}

pub fn signal(pid: i32, number: i32) -> io::Result<()> {
    check(unsafe { libc::kill(pid, number) })
}
