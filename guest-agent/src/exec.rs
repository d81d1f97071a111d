//! A program that a host runs in the guest, with its input, output and signals on one stream.
use std::pin::pin;
use std::time::Duration;

use tonic::{Status, Streaming};

use crate::agent::Agent;
use crate::groups::Group;
use crate::pb::exec_request::Request as In;
use crate::pb::exec_response::Response as Out;
use crate::pb::*;
use crate::process::{self, ended, Child, Exited, Spec};
use crate::reply::{stream, Replies, Sink};
use crate::stdio::{pump, Feed, Input};
use crate::terminal;

/// What a process may take to end after the host went away, before it is killed.
const HANG_UP_GRACE: Duration = Duration::from_secs(2);

pub async fn exec(agent: &Agent, mut input: Streaming<ExecRequest>) -> Result<Replies<ExecResponse>, Status> {
    let Some(ExecRequest { request: Some(In::Start(start)) }) = input.message().await? else {
        return Err(Status::invalid_argument("the first message of an exec is start"));
    };
    let child = agent.processes.spawn(Spec {
        argv: start.argv,
        user: start.user,
        workdir: start.workdir,
        env: agent.env(start.env),
        pty: start.pty.map(Into::into),
        stdin: true,
        group: Group::Exec,
    })?;
    let (out, replies) = stream();
    tokio::spawn(converse(child, input, out));
    Ok(replies)
}

async fn converse(child: Child, input: Streaming<ExecRequest>, out: Sink<ExecResponse>) {
    let Child { pid, exit, stdin, stdout, stderr, terminal } = child;
    let writer = stdin.and_then(|fd| Input::open(fd, terminal.is_some()).ok());
    // Nothing is closed before the process ended: what it says when it is hung up on must not kill it, and what
    // it reads must not end as if all had been sent.
    let mut work = pin!(async {
        send(&out, Out::Started(Started { pid: pid as u32 })).await;
        let one = pump(stdout, exit.clone(), |data| send(&out, Out::Stdout(data)));
        let two = async {
            if let Some(stderr) = stderr {
                pump(stderr, exit.clone(), |data| send(&out, Out::Stderr(data))).await;
            }
        };
        tokio::join!(one, two);
        ended(&mut exit.clone()).await
    });
    let mut control = pin!(obey(pid, exit.clone(), writer, terminal, input));
    tokio::select! {
        result = &mut work => return send(&out, Out::Exited(result)).await,
        () = out.closed() => {}
        () = &mut control => {}
    }
    tokio::join!(hang_up(pid, exit.clone()), work);
}

/// Follows the caller's messages. Returns when the stream broke; a caller who only said all is still there.
async fn obey(
    pid: i32,
    exit: Exited,
    writer: Option<Input>,
    terminal: Option<std::fs::File>,
    mut input: Streaming<ExecRequest>,
) {
    let feed = |feed| async {
        if let Some(writer) = &writer {
            writer.put(feed).await;
        }
    };
    while let Ok(message) = input.message().await {
        // A stream that has ended says nothing of the program's input: clients end theirs also when they give up.
        let Some(message) = message else { return std::future::pending().await };
        match message.request {
            Some(In::Stdin(data)) => feed(Feed::Data(data)).await,
            Some(In::CloseStdin(_)) => feed(Feed::End).await,
            Some(In::Signal(number)) if exit.borrow().is_none() => {
                let _ = process::signal(-pid, number);
            }
            Some(In::Resize(size)) => {
                let _ = terminal.as_ref().map(|terminal| terminal::resize(terminal, size.into()));
            }
            _ => {}
        }
    }
}

/// What a closed terminal does to its processes, and an end to those that do not care.
async fn hang_up(pid: i32, mut exit: Exited) {
    let _ = process::signal(-pid, libc::SIGHUP);
    let _ = process::signal(-pid, libc::SIGCONT);
    let _ = tokio::time::timeout(HANG_UP_GRACE, ended(&mut exit)).await;
    let _ = process::signal(-pid, libc::SIGKILL);
}

/// Who left hears nothing.
async fn send(out: &Sink<ExecResponse>, response: Out) {
    let _ = out.send(Ok(ExecResponse { response: Some(response) })).await;
}
