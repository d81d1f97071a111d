//! The Guest service: each call, and the part that answers it.
use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use crate::agent::Agent;
use crate::pb::guest_server::Guest;
use crate::pb::*;
use crate::reply::{blocking, refusal, status, stream, Replies, Reply};
use crate::{attach, exec, files, identity, process, system, watch};

/// A handle to the one agent; each conversation has its own.
#[derive(Clone)]
pub struct Service(pub Arc<Agent>);

fn reply<T>(value: T) -> Reply<T> {
    Ok(Response::new(value))
}

#[tonic::async_trait]
impl Guest for Service {
    type WaitMainStream = Replies<WaitMainResponse>;
    type ExecStream = Replies<ExecResponse>;
    type AttachStream = Replies<AttachResponse>;
    type ReadFileStream = Replies<ReadFileResponse>;
    type WatchStream = Replies<WatchResponse>;
    type LogsStream = Replies<LogsResponse>;

    async fn hello(&self, _: Request<HelloRequest>) -> Reply<HelloResponse> {
        reply(system::hello())
    }

    async fn configure(&self, request: Request<ConfigureRequest>) -> Reply<ConfigureResponse> {
        let agent = self.0.clone();
        blocking(move || identity::configure(&agent, request.into_inner())).await?;
        reply(ConfigureResponse {})
    }

    async fn adopt_identity(&self, request: Request<AdoptIdentityRequest>) -> Reply<AdoptIdentityResponse> {
        // The machine may have been copied with its disk frozen.
        self.0.thaw();
        let agent = self.0.clone();
        blocking(move || identity::adopt(&agent, request.into_inner())).await?;
        reply(AdoptIdentityResponse {})
    }

    async fn start_main(&self, request: Request<StartMainRequest>) -> Reply<StartMainResponse> {
        let mut request = request.into_inner();
        self.0.may_start_main()?;
        let agent = self.0.clone();
        let (configure, workdir) = (request.configure.take(), request.workdir.clone());
        let first = self.0.main().is_none();
        let prepare = move || {
            if let Some(configure) = configure {
                identity::configure(&agent, configure)?;
            }
            // One that no layer holds is made, as other runtimes do. Whether it is there is seen at the start.
            if system::is_init() && !workdir.is_empty() && workdir != "/" {
                let _ = std::fs::create_dir_all(workdir);
            }
            Ok(())
        };
        // Before the first start nobody else is held up, and a thread would cost a cold guest 4 ms.
        let prepared = if first { prepare().map_err(status) } else { blocking(prepare).await };
        prepared.map_err(|failed| refusal(failed.code(), "configure-failed", failed.message()))?;
        reply(self.0.start_main(request)?)
    }

    async fn wait_main(&self, _: Request<WaitMainRequest>) -> Reply<Self::WaitMainStream> {
        reply(self.0.wait_main())
    }

    async fn exec(&self, request: Request<Streaming<ExecRequest>>) -> Reply<Self::ExecStream> {
        reply(exec::exec(&self.0, request.into_inner()).await?)
    }

    async fn attach(&self, request: Request<Streaming<AttachRequest>>) -> Reply<Self::AttachStream> {
        reply(attach::attach(self.0.clone(), request.into_inner()).await?)
    }

    async fn signal(&self, request: Request<SignalRequest>) -> Reply<SignalResponse> {
        let r = request.into_inner();
        let pid = match r.pid {
            0 => match self.0.running_main() {
                Some(main) => main.pid,
                None => return Err(Status::failed_precondition("the main process does not run")),
            },
            1 => return Err(Status::invalid_argument("process 1 is the agent")),
            pid => i32::try_from(pid).map_err(|_| Status::invalid_argument("no such process number"))?,
        };
        process::signal(if r.group { -pid } else { pid }, r.signal).map_err(status)?;
        reply(SignalResponse {})
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Reply<Self::LogsStream> {
        let r = request.into_inner();
        let (sink, replies) = stream();
        let agent = self.0.clone();
        tokio::spawn(async move {
            let (mut next, mut newest) = (r.from_seq, agent.logs.watch());
            let mut last = !r.follow;
            // Who follows keeps the durable copy, and so is waited for like somebody attached.
            let mut reader = r.follow.then(|| agent.logs.reader(r.from_seq));
            loop {
                newest.borrow_and_update();
                let mut take = || match &mut reader {
                    Some(reader) => reader.take(u64::MAX),
                    None => agent.logs.at(next).inspect(|entry| next = entry.seq + 1),
                };
                while let Some(entry) = take() {
                    let (seq, time_ms, stderr, data) = (entry.seq, entry.time_ms, entry.stderr, entry.data);
                    if sink.send(Ok(LogsResponse { seq, time_ms, stderr, data })).await.is_err() {
                        return;
                    }
                }
                if last {
                    return;
                }
                tokio::select! {
                    _ = newest.changed() => {}
                    () = sink.closed() => return,
                    () = agent.ended() => last = true,
                }
            }
        });
        reply(replies)
    }

    async fn list_processes(&self, _: Request<ListProcessesRequest>) -> Reply<ListProcessesResponse> {
        reply(ListProcessesResponse { processes: system::processes().map_err(status)? })
    }

    async fn read_file(&self, request: Request<ReadFileRequest>) -> Reply<Self::ReadFileStream> {
        files::read(request.into_inner()).await
    }

    async fn write_file(&self, request: Request<Streaming<WriteFileRequest>>) -> Reply<WriteFileResponse> {
        files::write(request.into_inner()).await
    }

    async fn list_directory(&self, request: Request<ListDirectoryRequest>) -> Reply<ListDirectoryResponse> {
        reply(blocking(move || files::list(&request.into_inner())).await?)
    }

    async fn stat(&self, request: Request<StatRequest>) -> Reply<StatResponse> {
        let r = request.into_inner();
        let info = blocking(move || files::info(r.path.as_ref(), r.follow, &files::Names::read())).await?;
        reply(StatResponse { info: Some(info) })
    }

    async fn make_directory(&self, request: Request<MakeDirectoryRequest>) -> Reply<MakeDirectoryResponse> {
        blocking(move || files::make_directory(&request.into_inner())).await?;
        reply(MakeDirectoryResponse {})
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Reply<RemoveResponse> {
        blocking(move || files::remove(&request.into_inner())).await?;
        reply(RemoveResponse {})
    }

    async fn rename(&self, request: Request<RenameRequest>) -> Reply<RenameResponse> {
        let r = request.into_inner();
        blocking(move || std::fs::rename(r.from, r.to)).await?;
        reply(RenameResponse {})
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Reply<Self::WatchStream> {
        watch::watch(self.0.clone(), request.into_inner()).await
    }

    async fn stats(&self, _: Request<StatsRequest>) -> Reply<StatsResponse> {
        reply(system::stats().map_err(status)?)
    }

    async fn sync(&self, _: Request<SyncRequest>) -> Reply<SyncResponse> {
        blocking(|| {
            unsafe { libc::sync() };
            Ok(())
        })
        .await?;
        reply(SyncResponse {})
    }

    async fn freeze(&self, request: Request<FreezeRequest>) -> Reply<FreezeResponse> {
        self.0.freeze(request.into_inner().limit_ms).await?;
        reply(FreezeResponse {})
    }

    async fn thaw(&self, _: Request<ThawRequest>) -> Reply<ThawResponse> {
        self.0.thaw();
        reply(ThawResponse {})
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Reply<ShutdownResponse> {
        let r = request.into_inner();
        tokio::spawn(self.0.clone().shutdown(r.grace_ms, r.signal));
        reply(ShutdownResponse {})
    }
}
