//! The guest agent: process 1 of a machine, and the host's only way into it.
// The error of every call is the library's, and as large as it made it.
#![allow(clippy::result_large_err)]

mod agent;
mod attach;
mod boot;
mod channel;
mod exec;
mod files;
mod fork;
mod groups;
mod identity;
mod logs;
mod main_process;
mod net;
mod power;
mod process;
mod reply;
mod run_directory;
mod service;
mod stdio;
mod system;
mod terminal;
mod user;
mod watch;

pub mod pb {
    #![allow(dead_code, clippy::all)]
    tonic::include_proto!("hearth.guest.v1");
}

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::{signal, SignalKind};

const PORT: &str = "hearth.agent";
/// What a stream may hold for a slow host. The default is six times this, and machines are small.
const SEND_BUFFER: usize = 64 * 1024;
/// Calls at a time; more wait.
const STREAMS: u32 = 200;
/// What a host may send to a process that does not read.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Room for every stream, so that those that stand still never stop the others. It is never full: what is held is
/// bounded by the streams. h2 also takes half of it for its budget of small frames that wait, 256 bytes for each, and
/// ends the connection beyond that; a stream that is typed into byte by byte needs 2 MiB of it.
const CONNECTION_WINDOW: u32 = 1 << 24;
/// guest.proto promises 1 MiB.
const MESSAGE_LIMIT: usize = (1 << 20) + 4096;
/// Threads for what waits for a disk. Virtual memory is all that their stacks cost.
const BLOCKING_THREADS: usize = 16;
const THREAD_STACK: usize = 256 * 1024;
const THREAD_IDLE: Duration = Duration::from_secs(1);

fn main() {
    let result = if system::is_init() {
        boot::boot().and_then(|()| runtime()?.block_on(serve_port()))
    } else {
        let mut arguments = std::env::args().skip(1);
        match (arguments.next().as_deref(), arguments.next()) {
            (Some("--unix"), Some(path)) => runtime().and_then(|r| r.block_on(serve_unix(&path))),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: hearth-guest-agent --unix PATH")),
        }
    };
    if let Err(error) = result {
        eprintln!("hearth-guest-agent: {error}");
        if system::is_init() {
            // Process 1 must not return: the kernel would panic and hide the line above.
            unsafe { libc::reboot(libc::RB_AUTOBOOT) };
        }
        std::process::exit(1);
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(THREAD_STACK)
        .thread_keep_alive(THREAD_IDLE)
        .build()
}

fn service() -> io::Result<service::Service> {
    let agent = Arc::new(agent::Agent::default());
    let mut children = signal(SignalKind::child())?;
    let reaper = agent.clone();
    tokio::spawn(async move {
        while children.recv().await.is_some() {
            reaper.processes.reap();
        }
    });
    Ok(service::Service(agent))
}

async fn serve_port() -> io::Result<()> {
    let service = service()?;
    let file = channel::Port::find(PORT).await?;
    let mut hosts = channel::Hosts::of(&file)?;
    loop {
        hosts.present().await;
        let port = channel::Port::register(&file)?;
        let _ = converse(port, service.clone()).await;
    }
}

async fn serve_unix(path: &str) -> io::Result<()> {
    let service = service()?;
    let listener = tokio::net::UnixListener::bind(path)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(converse(stream, service.clone()));
    }
}

/// The handshake, then one HTTP/2 conversation to its end.
async fn converse<S>(mut stream: S, service: service::Service) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    channel::synchronise(&mut stream).await?;
    let agent = service.0.clone();
    let _talk = Talk::begin(&agent);
    let server = pb::guest_server::GuestServer::new(service).max_decoding_message_size(MESSAGE_LIMIT);
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(server));
    tokio::pin!(connection);
    tokio::select! {
        result = &mut connection => return result.map_err(io::Error::other),
        () = agent.ended() => {}
    }
    // The host gets what is on its way, and then the end of the stream.
    connection.as_mut().graceful_shutdown();
    connection.await.map_err(io::Error::other)
}

/// Counts a conversation for as long as it lives.
struct Talk(Arc<agent::Agent>);

impl Talk {
    fn begin(agent: &Arc<agent::Agent>) -> Self {
        agent.talks.send_modify(|open| *open += 1);
        Self(agent.clone())
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.0.talks.send_modify(|open| *open -= 1);
    }
}
