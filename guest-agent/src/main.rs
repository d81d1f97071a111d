//! The guest agent: process 1 of a machine, and the host's only way into it.
mod boot;
mod channel;
mod files;
mod logs;
mod net;
mod process;
mod service;
mod system;

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
/// How often a port is looked at while no host holds its other end.
const HOST_POLL: Duration = Duration::from_millis(20);

fn main() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
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

fn agent() -> io::Result<service::Service> {
    let agent = Arc::new(service::Agent::default());
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
    let service = agent()?;
    let file = channel::Port::find(PORT).await?;
    loop {
        let port = channel::Port::register(&file)?;
        let _ = converse(port, service.clone()).await;
        tokio::time::sleep(HOST_POLL).await;
    }
}

async fn serve_unix(path: &str) -> io::Result<()> {
    let service = agent()?;
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
    let service = TowerToHyperService::new(pb::guest_server::GuestServer::new(service));
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}
