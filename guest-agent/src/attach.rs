//! The main process as if it were the caller's own. It neither starts nor ends with the stream.
use std::sync::Arc;

use tonic::{Status, Streaming};

use crate::agent::Agent;
use crate::main_process::Main;
use crate::pb::attach_request::Request as In;
use crate::pb::attach_response::Response as Out;
use crate::pb::*;
use crate::process;
use crate::reply::{stream, Replies, Sink};
use crate::stdio::Feed;
use crate::terminal;

pub async fn attach(
    agent: Arc<Agent>,
    mut input: Streaming<AttachRequest>,
) -> Result<Replies<AttachResponse>, Status> {
    let Some(AttachRequest { request: Some(In::Start(start)) }) = input.message().await? else {
        return Err(Status::invalid_argument("the first message of an attach is start"));
    };
    let main = agent.main().ok_or_else(|| Status::failed_precondition("no main process was started"))?;
    let from = start.from_seq.unwrap_or_else(|| agent.logs.next());
    let (out, replies) = stream();
    let control = tokio::spawn(obey(main.clone(), input)).abort_handle();
    tokio::spawn(async move {
        tokio::select! {
            () = show(&agent, &main, from, &out) => {}
            () = out.closed() => {}
        }
        control.abort();
    });
    Ok(replies)
}

async fn show(agent: &Arc<Agent>, main: &Main, from: u64, out: &Sink<AttachResponse>) {
    let send = |response| out.send(Ok(AttachResponse { response: Some(response) }));
    let (mut reader, mut newest, mut done) = (agent.logs.reader(from), agent.logs.watch(), main.done.clone());
    let (pid, tty, next_seq) = (main.pid as u32, main.terminal.is_some(), reader.next);
    if send(Out::Attached(Attached { pid, tty, next_seq })).await.is_err() {
        return;
    }
    loop {
        newest.borrow_and_update();
        let end = done.borrow_and_update().clone();
        let end_seq = end.as_ref().map_or(u64::MAX, |done| done.end_seq);
        let mut expected = reader.next;
        while let Some(entry) = reader.take(end_seq) {
            if entry.seq > expected && send(Out::Lost(entry.seq - expected)).await.is_err() {
                return;
            }
            expected = reader.next;
            let output = if entry.stderr { Out::Stderr(entry.data) } else { Out::Stdout(entry.data) };
            if send(output).await.is_err() {
                return;
            }
        }
        if let Some(end) = end {
            let _ = send(Out::Exited(end.exit)).await;
            return;
        }
        tokio::select! {
            _ = newest.changed() => {}
            _ = done.changed() => {}
        }
    }
}

async fn obey(main: Arc<Main>, mut input: Streaming<AttachRequest>) {
    while let Ok(Some(message)) = input.message().await {
        match (message.request, &main.input) {
            (Some(In::Stdin(data)), Some(input)) => input.put(Feed::Data(data)).await,
            (Some(In::CloseStdin(_)), Some(input)) => input.put(Feed::End).await,
            (Some(In::Signal(number)), _) if main.is_running() => {
                let _ = process::signal(main.pid, number);
            }
            (Some(In::Resize(size)), _) => {
                let _ = main.terminal.as_ref().map(|terminal| terminal::resize(terminal, size.into()));
            }
            _ => {}
        }
    }
}
