//! The built agent on a unix socket, driven as a host drives it.
use std::process::{Child, Command};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio_stream::StreamExt;
use tonic::transport::{Channel, Endpoint};

mod pb {
    #![allow(dead_code, clippy::all)]
    tonic::include_proto!("hearth.guest.v1");
}
use pb::exec_request::Request as In;
use pb::exec_response::Response as Out;
use pb::guest_client::GuestClient;
use pb::write_file_request::Request as PartOf;
use pb::*;

struct Running {
    child: Child,
    directory: std::path::PathBuf,
    client: GuestClient<Channel>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

async fn start(name: &str) -> Running {
    let directory = std::env::temp_dir().join(format!("hearth-agent-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("agent.sock");
    let child =
        Command::new(env!("CARGO_BIN_EXE_hearth-guest-agent")).arg("--unix").arg(&path).spawn().unwrap();
    let connected = async {
        loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let stream = tokio::time::timeout(Duration::from_secs(5), connected).await.expect("the agent listens");
    let nonce = "00112233445566778899aabbccddeeff";
    let mut stream = BufReader::new(stream);
    for (say, hear) in [("HEARTH-SYNC", "HEARTH-SYNC-OK"), ("GO", "READY")] {
        stream.write_all(format!("{say} {nonce}\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        assert_eq!(line, format!("{hear} {nonce}\n"));
    }
    let mut once = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        std::future::ready(once.take().ok_or(std::io::ErrorKind::BrokenPipe).map_err(std::io::Error::from))
    });
    let channel = Endpoint::from_static("http://guest")
        // Small, so that a reader that stalls is felt by the agent.
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535)
        .connect_with_connector(connector)
        .await
        .unwrap();
    Running { child, directory, client: GuestClient::new(channel) }
}

fn shell(script: &str) -> ExecStart {
    ExecStart { argv: ["/bin/sh", "-c", script].map(String::from).into(), ..Default::default() }
}

/// Standard output, standard error and the exit.
async fn exec(agent: &mut Running, start: ExecStart, input: Vec<In>) -> (Vec<u8>, Vec<u8>, Exit) {
    let requests: Vec<_> =
        std::iter::once(In::Start(start)).chain(input).map(|r| ExecRequest { request: Some(r) }).collect();
    let open = tokio_stream::iter(requests).chain(tokio_stream::pending());
    let mut replies = agent.client.exec(open).await.unwrap().into_inner();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(reply) = replies.message().await.unwrap() {
        match reply.response.unwrap() {
            Out::Started(started) => assert!(started.pid > 1),
            Out::Stdout(data) => out.extend_from_slice(&data),
            Out::Stderr(data) => err.extend_from_slice(&data),
            Out::Exited(exit) => return (out, err, exit),
        }
    }
    panic!("no exit was reported");
}

#[tokio::test]
async fn an_exec_reports_its_output_and_its_exit_code() {
    let mut agent = start("code").await;
    let (out, err, exit) = exec(&mut agent, shell("echo out; echo err >&2; exit 7"), vec![]).await;
    assert_eq!((out.as_slice(), err.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!((exit.code, exit.signal), (7, 0));
}

#[tokio::test]
async fn an_exec_reads_its_input_to_the_end() {
    let mut agent = start("stdin").await;
    let input = vec![In::Stdin("hello ".into()), In::Stdin("guest".into()), In::CloseStdin(CloseStdin {})];
    let (out, _, exit) = exec(&mut agent, shell("cat"), input).await;
    assert_eq!((out.as_slice(), exit.code), (&b"hello guest"[..], 0));
}

#[tokio::test]
async fn a_signal_that_ends_an_exec_is_reported() {
    let mut agent = start("signal").await;
    let (_, _, exit) = exec(&mut agent, shell("sleep 60"), vec![In::Signal(15)]).await;
    assert_eq!((exit.code, exit.signal), (143, 15));
}

#[tokio::test]
async fn an_unknown_program_is_not_found() {
    let mut agent = start("missing").await;
    let start = ExecStart { argv: vec!["/no/such/program".into()], ..Default::default() };
    let request = ExecRequest { request: Some(In::Start(start)) };
    let error = agent.client.exec(tokio_stream::iter([request])).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn large_output_arrives_whole() {
    let mut agent = start("large").await;
    let (out, _, exit) = exec(&mut agent, shell("head -c 20000000 /dev/zero"), vec![]).await;
    assert_eq!((out.len(), exit.code), (20_000_000, 0));
}

#[tokio::test]
async fn a_terminal_has_the_size_that_was_asked_for() {
    let mut agent = start("pty").await;
    let start = ExecStart { pty: Some(PtySize { rows: 40, cols: 120 }), ..shell("stty size; tty") };
    let (out, _, exit) = exec(&mut agent, start, vec![]).await;
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("40 120\r\n/dev/pts/"), "{text:?}");
    assert_eq!(exit.code, 0);
}

#[tokio::test]
async fn the_exit_of_main_is_kept_and_its_output_logged() {
    let mut agent = start("main").await;
    let argv = ["/bin/sh", "-c", "echo $GREETING; exit 3"].map(String::from).into();
    let env = [("GREETING".to_owned(), "hi".to_owned())].into();
    agent.client.start_main(StartMainRequest { argv, env, ..Default::default() }).await.unwrap();
    for _ in 0..2 {
        let mut states = agent.client.wait_main(WaitMainRequest {}).await.unwrap().into_inner();
        let mut last = None;
        while let Some(state) = states.message().await.unwrap() {
            last = state.status;
        }
        assert_eq!(last, Some(wait_main_response::Status::Exited(Exit { code: 3, ..Default::default() })));
    }
    let mut logs = agent.client.logs(LogsRequest { from_seq: 0, follow: true }).await.unwrap().into_inner();
    let first = logs.message().await.unwrap().unwrap();
    assert_eq!((first.seq, first.data.as_ref()), (0, &b"hi\n"[..]));
}

#[tokio::test]
async fn a_file_written_is_read_back() {
    let mut agent = start("files").await;
    let path = agent.directory.join("a/b").to_str().unwrap().to_owned();
    let start = WriteFileStart { path: path.clone(), mode: 0o600, make_parents: true, ..Default::default() };
    let parts = [PartOf::Start(start), PartOf::Data("content".into()), PartOf::Finish(WriteFileFinish {})];
    let requests = parts.map(|r| WriteFileRequest { request: Some(r) });
    let written = agent.client.write_file(tokio_stream::iter(requests)).await.unwrap().into_inner();
    assert_eq!(written.size, 7);
    let request = ReadFileRequest { path: path.clone(), offset: 3, limit: 0 };
    let mut data = agent.client.read_file(request).await.unwrap().into_inner();
    assert_eq!(data.message().await.unwrap().unwrap().data.as_ref(), b"tent");
    let info =
        agent.client.stat(StatRequest { path, follow: false }).await.unwrap().into_inner().info.unwrap();
    assert_eq!((info.name.as_str(), info.mode, info.size), ("b", 0o600, 7));
}

/// The tail must be in the pipe when the process ends, and how much the buffers before it hold is not ours
/// to know; so several sizes are tried at once.
#[tokio::test]
async fn a_reader_that_stalls_after_the_process_ended_loses_nothing() {
    let sizes = (1..=16).map(|n| n * 40_000);
    let runs: Vec<_> = sizes.map(|size| tokio::spawn(read_with_a_stall(size))).collect();
    for run in runs {
        run.await.unwrap();
    }
}

async fn read_with_a_stall(size: usize) {
    let mut agent = start(&format!("stall-{size}")).await;
    let request = ExecRequest { request: Some(In::Start(shell(&format!("head -c {size} /dev/zero")))) };
    let open = tokio_stream::iter([request]).chain(tokio_stream::pending());
    let mut replies = agent.client.exec(open).await.unwrap().into_inner();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut received = 0;
    while let Some(reply) = replies.message().await.unwrap() {
        if let Some(Out::Stdout(data)) = reply.response {
            received += data.len();
        }
    }
    assert_eq!(received, size);
}

#[tokio::test]
async fn a_process_left_behind_does_not_keep_an_exec_open() {
    let mut agent = start("left").await;
    let (out, _, exit) = exec(&mut agent, shell("sleep 30 & echo done"), vec![]).await;
    assert_eq!((out.as_slice(), exit.code), (&b"done\n"[..], 0));
}
