//! What a call answers with: streams that hold little, and errors that name the kernel's reason.
use std::io;
use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::Stream;
use tonic::{Response, Status};

/// Messages in flight per stream; with CHUNK it bounds what a slow reader makes the agent hold.
pub const IN_FLIGHT: usize = 2;
pub const CHUNK: usize = 32 * 1024;

pub type Reply<T> = Result<Response<T>, Status>;
pub type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
pub type Sink<T> = mpsc::Sender<Result<T, Status>>;

pub fn stream<T: Send + 'static>() -> (Sink<T>, Replies<T>) {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    (sender, Box::pin(ReceiverStream::new(receiver)))
}

pub fn status(error: io::Error) -> Status {
    use io::ErrorKind::*;
    let text = error.to_string();
    match (error.kind(), error.raw_os_error()) {
        (NotFound, _) | (_, Some(libc::ESRCH)) => Status::not_found(text),
        (PermissionDenied, _) => Status::permission_denied(text),
        (AlreadyExists, _) => Status::already_exists(text),
        (InvalidInput | NotADirectory | IsADirectory, _) | (_, Some(libc::ELOOP | libc::ENAMETOOLONG)) => {
            Status::invalid_argument(text)
        }
        (StorageFull, _) => Status::resource_exhausted(text),
        (Unsupported, _) => Status::unimplemented(text),
        (DirectoryNotEmpty | ReadOnlyFilesystem | CrossesDevices, _) => Status::failed_precondition(text),
        _ => Status::internal(text),
    }
}

/// An error whose code alone does not tell the host what to say.
pub fn refusal(code: tonic::Code, reason: &'static str, text: impl Into<String>) -> Status {
    let mut metadata = tonic::metadata::MetadataMap::new();
    metadata.insert("hearth-reason", tonic::metadata::MetadataValue::from_static(reason));
    Status::with_metadata(code, text, metadata)
}

/// Runs what may wait for a disk on a thread of its own: a frozen disk must not stop the agent.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Status::internal("the agent is ending"))?.map_err(status)
}
