//! The Guest service: turns calls into processes, files and settings.
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::channel::Port;
use crate::logs::Logs;
use crate::pb::guest_server::Guest;
use crate::pb::*;
use crate::process::{self, Child, Processes, Spec};
use crate::{files, system};

/// Messages in flight per stream; with CHUNK it bounds what a slow reader makes the agent hold.
const IN_FLIGHT: usize = 4;
pub const CHUNK: usize = 32 * 1024;
const LINGER: Duration = Duration::from_millis(200);

pub type Reply<T> = Result<Response<T>, Status>;
pub type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Sink<T> = mpsc::Sender<Result<T, Status>>;

#[derive(Default)]
pub struct Agent {
    pub processes: Processes,
    logs: Logs,
    env: Mutex<HashMap<String, String>>,
    /// What `configure` set, so that a later one can take it back.
    addresses: Mutex<Vec<Address>>,
    main: Mutex<Option<Main>>,
}

struct Main {
    pid: i32,
    exit: watch::Receiver<Option<Exit>>,
}

/// A handle to the one agent; each connection has its own.
#[derive(Clone)]
pub struct Service(pub Arc<Agent>);

impl Agent {
    fn spec(&self, argv: Vec<String>, user: String, workdir: String, env: HashMap<String, String>) -> Spec {
        let mut merged = self.env.lock().unwrap().clone();
        merged.extend(env);
        Spec { argv, user, workdir, env: merged, pty: None }
    }

    pub fn main_pid(&self) -> Option<i32> {
        self.main.lock().unwrap().as_ref().filter(|m| m.exit.borrow().is_none()).map(|m| m.pid)
    }
}

pub fn status(error: io::Error) -> Status {
    use io::ErrorKind::*;
    let text = error.to_string();
    match error.kind() {
        NotFound => Status::not_found(text),
        PermissionDenied => Status::permission_denied(text),
        AlreadyExists => Status::already_exists(text),
        InvalidInput => Status::invalid_argument(text),
        NotADirectory | IsADirectory | DirectoryNotEmpty => Status::failed_precondition(text),
        StorageFull => Status::resource_exhausted(text),
        _ => Status::internal(text),
    }
}

pub fn stream<T: Send + 'static>() -> (Sink<T>, Replies<T>) {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    (sender, Box::pin(ReceiverStream::new(receiver)))
}

/// Reads until the end and hands each chunk to `take`, which waits when the reader is slow.
///
/// A daemon left behind may hold the other end for ever. So once the process has ended, a wait for more is
/// limited; a slow reader is not, as what the process wrote is still to be read.
async fn pump<F, R>(mut source: Port, exit: watch::Receiver<Option<Exit>>, mut take: F)
where
    F: FnMut(Bytes) -> R,
    R: std::future::Future<Output = bool>,
{
    let mut buffer = vec![0; CHUNK];
    loop {
        let mut exit = exit.clone();
        let lingered = async {
            ended(&mut exit).await;
            tokio::time::sleep(LINGER).await;
        };
        let result = tokio::select! {
            biased;
            result = source.read(&mut buffer) => result,
            () = lingered => return,
        };
        // A terminal whose last process ended reads as EIO, which is its end of file.
        let Ok(n @ 1..) = result else { return };
        if !take(Bytes::copy_from_slice(&buffer[..n])).await {
            return;
        }
    }
}

async fn ended(exit: &mut watch::Receiver<Option<Exit>>) -> Exit {
    match exit.wait_for(Option::is_some).await {
        Ok(value) => value.unwrap_or_default(),
        Err(_) => Exit::default(),
    }
}

async fn run_exec(
    child: Child,
    mut input: Streaming<ExecRequest>,
    out: Sink<ExecResponse>,
) -> io::Result<()> {
    use exec_request::Request as In;
    use exec_response::Response as Out;
    let Child { pid, mut exit, stdin, stdout, stderr } = child;
    let send = |out: &Sink<ExecResponse>, response| {
        let out = out.clone();
        async move { out.send(Ok(ExecResponse { response: Some(response) })).await.is_ok() }
    };
    send(&out, Out::Started(Started { pid: pid as u32 })).await;
    let stdout = Port::from_fd(stdout)?;
    let stderr = stderr.map(Port::from_fd).transpose()?;
    let stdin = stdin.map(Port::from_fd).transpose()?;
    let terminal = stderr.is_none();

    let (feed, mut fed) = mpsc::channel::<In>(IN_FLIGHT);
    // Apart from control messages, so that a process that does not read its input can still be signalled.
    let writer = tokio::spawn(async move {
        let mut stdin = stdin;
        while let Some(message) = fed.recv().await {
            match (message, &mut stdin) {
                (In::Stdin(data), Some(pipe)) => match pipe.write_all(&data).await {
                    Ok(()) => {}
                    Err(_) => stdin = None,
                },
                // A terminal has no end of input but the character for it.
                (In::CloseStdin(_), Some(pipe)) if terminal => drop(pipe.write_all(&[4]).await),
                (In::CloseStdin(_), _) => stdin = None,
                (In::Resize(size), Some(pipe)) => {
                    let _ = process::resize(pipe, size.rows as u16, size.cols as u16);
                }
                _ => {}
            }
        }
    });
    let control = tokio::spawn(async move {
        loop {
            match input.message().await {
                Ok(Some(ExecRequest { request: Some(In::Signal(number)) })) => {
                    let _ = process::signal(-pid, number);
                }
                Ok(Some(ExecRequest { request: Some(request) })) => {
                    if feed.send(request).await.is_err() {
                        return;
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                // The caller went away without an end: its process goes the way of a closed terminal.
                Err(_) => {
                    let _ = process::signal(-pid, libc::SIGHUP);
                    return;
                }
            }
        }
    });
    let one = pump(stdout, exit.clone(), |data| send(&out, Out::Stdout(data)));
    let two = async {
        if let Some(stderr) = stderr {
            pump(stderr, exit.clone(), |data| send(&out, Out::Stderr(data))).await;
        }
    };
    tokio::join!(one, two);
    let result = ended(&mut exit).await;
    control.abort();
    writer.abort();
    send(&out, Out::Exited(result)).await;
    Ok(())
}

#[tonic::async_trait]
impl Guest for Service {
    type WaitMainStream = Replies<WaitMainResponse>;
    type ExecStream = Replies<ExecResponse>;
    type ReadFileStream = Replies<ReadFileResponse>;
    type LogsStream = Replies<LogsResponse>;

    async fn hello(&self, _: Request<HelloRequest>) -> Reply<HelloResponse> {
        Ok(Response::new(system::hello()))
    }

    async fn configure(&self, request: Request<ConfigureRequest>) -> Reply<ConfigureResponse> {
        let request = request.into_inner();
        system::configure(&request, &mut self.0.addresses.lock().unwrap()).map_err(status)?;
        self.0.env.lock().unwrap().extend(request.env);
        Ok(Response::new(ConfigureResponse {}))
    }

    async fn start_main(&self, request: Request<StartMainRequest>) -> Reply<StartMainResponse> {
        let r = request.into_inner();
        if self.0.main_pid().is_some() {
            return Err(Status::already_exists("the main process runs"));
        }
        let mut spec = self.0.spec(r.argv, r.user, r.workdir, r.env);
        spec.pty = r.tty.then_some((24, 80));
        let child = self.0.processes.spawn(&spec).map_err(status)?;
        let exit = child.exit;
        *self.0.main.lock().unwrap() = Some(Main { pid: child.pid, exit: exit.clone() });
        for (stderr, fd) in [(false, Some(child.stdout)), (true, child.stderr)] {
            let Some(fd) = fd else { continue };
            let (agent, port) = (self.0.clone(), Port::from_fd(fd).map_err(status)?);
            let push = move |data| {
                agent.logs.push(stderr, data);
                std::future::ready(true)
            };
            tokio::spawn(pump(port, exit.clone(), push));
        }
        Ok(Response::new(StartMainResponse { pid: child.pid as u32 }))
    }

    async fn wait_main(&self, _: Request<WaitMainRequest>) -> Reply<Self::WaitMainStream> {
        use wait_main_response::Status as State;
        let (sink, replies) = stream();
        let main = self.0.main.lock().unwrap().as_ref().map(|m| (m.pid, m.exit.clone()));
        tokio::spawn(async move {
            let tell = |status| sink.send(Ok(WaitMainResponse { status: Some(status) }));
            let Some((pid, mut exit)) = main else {
                let _ = tell(State::NotStarted(NotStarted {})).await;
                return;
            };
            if exit.borrow().is_none() {
                let _ = tell(State::Running(Running { pid: pid as u32 })).await;
            }
            tokio::select! {
                exit = ended(&mut exit) => drop(tell(State::Exited(exit)).await),
                () = sink.closed() => {}
            }
        });
        Ok(Response::new(replies))
    }

    async fn exec(&self, request: Request<Streaming<ExecRequest>>) -> Reply<Self::ExecStream> {
        let mut input = request.into_inner();
        let Some(ExecRequest { request: Some(exec_request::Request::Start(start)) }) =
            input.message().await?
        else {
            return Err(Status::invalid_argument("the first message of an exec is start"));
        };
        let mut spec = self.0.spec(start.argv, start.user, start.workdir, start.env);
        spec.pty = start.pty.map(|size| (size.rows as u16, size.cols as u16));
        let child = self.0.processes.spawn(&spec).map_err(status)?;
        let (sink, replies) = stream();
        tokio::spawn(run_exec(child, input, sink));
        Ok(Response::new(replies))
    }

    async fn signal(&self, request: Request<SignalRequest>) -> Reply<SignalResponse> {
        let r = request.into_inner();
        let pid = match r.pid {
            0 => self
                .0
                .main_pid()
                .ok_or_else(|| Status::failed_precondition("the main process does not run"))?,
            1 => return Err(Status::invalid_argument("process 1 is the agent")),
            pid => pid as i32,
        };
        process::signal(pid, r.signal).map_err(status)?;
        Ok(Response::new(SignalResponse {}))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Reply<Self::LogsStream> {
        let r = request.into_inner();
        let (sink, replies) = stream();
        let agent = self.0.clone();
        tokio::spawn(async move {
            let (mut next, mut newest) = (r.from_seq, agent.logs.watch());
            loop {
                newest.borrow_and_update();
                while let Some(entry) = agent.logs.at(next) {
                    next = entry.seq + 1;
                    let (seq, time_ms, stderr, data) = (entry.seq, entry.time_ms, entry.stderr, entry.data);
                    if sink.send(Ok(LogsResponse { seq, time_ms, stderr, data })).await.is_err() {
                        return;
                    }
                }
                if !r.follow {
                    return;
                }
                tokio::select! {
                    _ = newest.changed() => {}
                    () = sink.closed() => return,
                }
            }
        });
        Ok(Response::new(replies))
    }

    async fn list_processes(&self, _: Request<ListProcessesRequest>) -> Reply<ListProcessesResponse> {
        Ok(Response::new(ListProcessesResponse { processes: system::processes().map_err(status)? }))
    }
    async fn read_file(&self, request: Request<ReadFileRequest>) -> Reply<Self::ReadFileStream> {
        files::read(request.into_inner()).await
    }
    async fn write_file(&self, request: Request<Streaming<WriteFileRequest>>) -> Reply<WriteFileResponse> {
        files::write(request.into_inner()).await
    }
    async fn list_directory(&self, request: Request<ListDirectoryRequest>) -> Reply<ListDirectoryResponse> {
        files::list(&request.into_inner().path).map_err(status).map(Response::new)
    }
    async fn stat(&self, request: Request<StatRequest>) -> Reply<StatResponse> {
        let r = request.into_inner();
        let info = Some(files::info(r.path.as_ref(), r.follow).map_err(status)?);
        Ok(Response::new(StatResponse { info }))
    }
    async fn make_directory(&self, request: Request<MakeDirectoryRequest>) -> Reply<MakeDirectoryResponse> {
        files::make_directory(&request.into_inner()).map_err(status)?;
        Ok(Response::new(MakeDirectoryResponse {}))
    }
    async fn remove(&self, request: Request<RemoveRequest>) -> Reply<RemoveResponse> {
        files::remove(&request.into_inner()).map_err(status)?;
        Ok(Response::new(RemoveResponse {}))
    }
    async fn rename(&self, request: Request<RenameRequest>) -> Reply<RenameResponse> {
        let r = request.into_inner();
        std::fs::rename(r.from, r.to).map_err(status)?;
        Ok(Response::new(RenameResponse {}))
    }
    async fn stats(&self, _: Request<StatsRequest>) -> Reply<StatsResponse> {
        system::stats().map_err(status).map(Response::new)
    }
    async fn sync(&self, _: Request<SyncRequest>) -> Reply<SyncResponse> {
        unsafe { libc::sync() };
        Ok(Response::new(SyncResponse {}))
    }
    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Reply<ShutdownResponse> {
        tokio::spawn(system::shutdown(request.into_inner().grace_ms));
        Ok(Response::new(ShutdownResponse {}))
    }
}
