//! The machine's main process: started, waited for, and started again.
use std::fs::File;
use std::sync::Arc;

use tokio::sync::watch;
use tonic::Status;

use crate::agent::Agent;
use crate::groups::Group;
use crate::pb::wait_main_response::Status as State;
use crate::pb::*;
use crate::process::{ended, Exited, Spec};
use crate::reply::{stream, Replies, Sink};
use crate::stdio::{pump, Input};
use crate::terminal::Size;

const DEFAULT_SIZE: Size = Size { rows: 24, cols: 80 };

pub struct Main {
    pub pid: i32,
    /// Set when the process ends. What it wrote may still be on its way.
    pub exit: Exited,
    /// Set once all its output is in the logs, too.
    pub done: watch::Receiver<Option<Done>>,
    pub input: Option<Input>,
    pub terminal: Option<File>,
}

#[derive(Clone)]
pub struct Done {
    pub exit: Exit,
    /// The number after that of its last output.
    pub end_seq: u64,
}

impl Main {
    pub fn is_running(&self) -> bool {
        self.exit.borrow().is_none()
    }
}

pub async fn wait(done: &mut watch::Receiver<Option<Done>>) -> Done {
    let done = done.wait_for(Option::is_some).await.ok().and_then(|done| done.clone());
    done.unwrap_or(Done { exit: Exit::default(), end_seq: u64::MAX })
}

impl Agent {
    pub fn main(&self) -> Option<Arc<Main>> {
        self.main.borrow().clone()
    }

    pub fn running_main(&self) -> Option<Arc<Main>> {
        self.main().filter(|main| main.is_running())
    }

    pub fn may_start_main(&self) -> Result<(), Status> {
        if self.main().is_some_and(|main| main.done.borrow().is_none()) {
            return Err(Status::already_exists("the main process runs"));
        }
        Ok(())
    }

    pub fn start_main(self: &Arc<Self>, request: StartMainRequest) -> Result<StartMainResponse, Status> {
        self.may_start_main()?;
        let size = request.size.map_or(DEFAULT_SIZE, Into::into);
        let child = self.processes.spawn(Spec {
            argv: request.argv,
            user: request.user,
            workdir: request.workdir,
            env: self.env(request.env),
            pty: request.tty.then_some(size),
            stdin: request.open_stdin,
            group: Group::Main,
        })?;
        let (pid, exit, first_seq) = (child.pid, child.exit, self.logs.next());
        let output = |stderr, fd| {
            let logs = self.logs.clone();
            pump(fd, exit.clone(), move |data| {
                logs.push(stderr, data);
                let logs = logs.clone();
                async move { logs.room().await }
            })
        };
        let stdout = output(false, child.stdout);
        let stderr = child.stderr.map(|fd| output(true, fd));
        let (finish, done) = watch::channel(None);
        let (logs, mut end) = (self.logs.clone(), exit.clone());
        tokio::spawn(async move {
            let ending = async {
                let exit = ended(&mut end).await;
                // As in a container: when the main process ends, so does all that it left behind.
                let _ = Group::Main.kill();
                exit
            };
            let errors = async {
                if let Some(stderr) = stderr {
                    stderr.await;
                }
            };
            let (exit, (), ()) = tokio::join!(ending, stdout, errors);
            finish.send_replace(Some(Done { exit, end_seq: logs.next() }));
        });
        let is_terminal = child.terminal.is_some();
        let input = child.stdin.and_then(|fd| Input::open(fd, is_terminal).ok());
        let main = Main { pid, exit, done, input, terminal: child.terminal };
        self.main.send_replace(Some(Arc::new(main)));
        Ok(StartMainResponse { pid: pid as u32, first_seq })
    }

    pub fn wait_main(self: &Arc<Self>) -> Replies<WaitMainResponse> {
        let (sink, replies) = stream();
        let agent = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = agent.tell_of_main(&sink) => {}
                () = sink.closed() => {}
            }
        });
        replies
    }

    async fn tell_of_main(&self, sink: &Sink<WaitMainResponse>) {
        let tell = |status| sink.send(Ok(WaitMainResponse { status: Some(status) }));
        if self.main().is_none() {
            let _ = tell(State::NotStarted(NotStarted {})).await;
        }
        let mut newest = self.main.subscribe();
        tokio::select! {
            _ = newest.wait_for(Option::is_some) => {}
            () = self.ended() => return,
        }
        let Some(main) = self.main() else { return };
        let mut done = main.done.clone();
        if done.borrow().is_none() {
            let _ = tell(State::Running(Running { pid: main.pid as u32 })).await;
        }
        drop(main);
        let _ = tell(State::Exited(wait(&mut done).await.exit)).await;
    }
}
