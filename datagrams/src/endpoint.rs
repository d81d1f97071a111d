//! A socket, the memory that it shares with JavaScript, and its place in the event loop.
//!
//! The event loop holds the endpoint until it has said that the handle is closed, and a call into JavaScript holds it
//! too: whatever JavaScript does meanwhile, such as closing it in the middle of a batch, nothing is freed under it.

use crate::memory::{Lane, Memory};
use crate::node::{Callback, Env};
use crate::socket::Batch;
use crate::uv::*;
use napi_sys::*;
use socket2::Socket;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::rc::Rc;

/// Then others of the event loop get their turn.
const MAX_BATCHES_A_TURN: usize = 4;

pub struct Endpoint {
    memory: Rc<Memory>,
    incoming: RefCell<Batch>,
    outgoing: RefCell<Batch>,
    /// None once it is closed.
    socket: RefCell<Option<Socket>>,
    on_batch: RefCell<Option<Rc<Callback>>>,
    /// libuv's own, and written by it.
    handle: Box<[UnsafeCell<u128>]>,
    cleanup: Cell<napi_async_cleanup_hook_handle>,
}

impl Endpoint {
    /// @returns an error of libuv when the loop does not take it
    pub fn start(
        env: Env,
        socket: Socket,
        memory: Rc<Memory>,
        on_batch: Callback,
    ) -> Result<Rc<Self>, c_int> {
        // SAFETY: asks for a number.
        let words = unsafe { uv_handle_size(UV_POLL) }.div_ceil(size_of::<u128>());
        let fd = socket.as_raw_fd();
        let endpoint = Rc::new(Self {
            incoming: RefCell::new(Batch::new(&memory, Lane::In)),
            outgoing: RefCell::new(Batch::new(&memory, Lane::Out)),
            memory,
            socket: RefCell::new(Some(socket)),
            on_batch: RefCell::new(Some(Rc::new(on_batch))),
            handle: (0..words).map(|_| UnsafeCell::new(0)).collect(),
            cleanup: Cell::new(null_mut()),
        });
        let mut uv_loop = null_mut();
        // SAFETY: the handle is as large as libuv wants it, and is neither moved nor freed before libuv is done with
        // it: until then the loop holds the endpoint by the count that `into_raw` leaves.
        unsafe {
            if napi_get_uv_event_loop(env, &mut uv_loop) != Status::napi_ok {
                return Err(-libc::EINVAL);
            }
            let failed = uv_poll_init(uv_loop.cast(), endpoint.handle(), fd);
            if failed < 0 {
                return Err(failed);
            }
            let held = Rc::into_raw(Rc::clone(&endpoint)).cast_mut().cast::<c_void>();
            uv_handle_set_data(endpoint.handle(), held);
            let failed = uv_poll_start(endpoint.handle(), UV_READABLE, on_readable);
            if failed < 0 {
                endpoint.close();
                return Err(failed);
            }
            let mut cleanup = null_mut();
            napi_add_async_cleanup_hook(env, Some(on_env_end), held, &mut cleanup);
            endpoint.cleanup.set(cleanup);
        }
        Ok(endpoint)
    }

    pub fn memory(&self) -> &Rc<Memory> {
        &self.memory
    }

    /// How many of the first slots of what goes out the kernel took; none once it is closed.
    pub fn send(&self, count: usize) -> usize {
        match self.socket.borrow().as_ref() {
            Some(socket) => self.outgoing.borrow_mut().send(socket, &self.memory, count),
            None => 0,
        }
    }

    /// At once, and again without harm.
    pub fn close(&self) {
        let Some(socket) = self.socket.take() else { return };
        self.on_batch.take();
        // SAFETY: the handle was initialised, and is closed once as the socket is taken once.
        unsafe { uv_close(self.handle(), on_closed) };
        // After the loop has let go of it.
        drop(socket);
    }

    fn handle(&self) -> *mut UvHandle {
        self.handle.as_ptr().cast_mut().cast()
    }

    fn receive(&self, status: c_int) {
        if status < 0 {
            self.recover();
        }
        for _ in 0..MAX_BATCHES_A_TURN {
            let Some(on_batch) = self.on_batch.borrow().clone() else { return };
            let received = match self.socket.borrow().as_ref() {
                Some(socket) => self.incoming.borrow_mut().receive(socket, &self.memory),
                None => return,
            };
            match received {
                Ok(count) => {
                    on_batch.call(count as i32);
                    if count < self.memory.slots() {
                        return;
                    }
                }
                Err(error) => {
                    let code = error.raw_os_error().unwrap_or(libc::EIO);
                    if code != libc::EAGAIN && code != libc::EINTR {
                        on_batch.call(-code);
                    }
                    return;
                }
            }
        }
    }

    /// libuv stops a poll whose descriptor has an error on it. Reading the error takes it off.
    fn recover(&self) {
        if let Some(socket) = self.socket.borrow().as_ref() {
            let _ = socket.take_error();
            // SAFETY: the handle is open, as the socket is here.
            unsafe { uv_poll_start(self.handle(), UV_READABLE, on_readable) };
        }
    }
}

/// SAFETY: for the data of a handle that is not yet closed, which is an endpoint that the loop holds.
unsafe fn held(data: *mut c_void) -> Rc<Endpoint> {
    let endpoint = data.cast::<Endpoint>().cast_const();
    unsafe {
        Rc::increment_strong_count(endpoint);
        Rc::from_raw(endpoint)
    }
}

unsafe extern "C" fn on_readable(handle: *mut UvHandle, status: c_int, _events: c_int) {
    // SAFETY: libuv calls this for a handle that is open.
    unsafe { held(uv_handle_get_data(handle)) }.receive(status);
}

/// The environment ends with the socket open, as at `process.exit`.
unsafe extern "C" fn on_env_end(_cleanup: napi_async_cleanup_hook_handle, data: *mut c_void) {
    // SAFETY: the hook is taken off before the loop lets go of the endpoint.
    unsafe { held(data) }.close();
}

unsafe extern "C" fn on_closed(handle: *mut UvHandle) {
    // SAFETY: this is the count that `start` left, and libuv calls this once and does not look at the handle again.
    unsafe {
        let endpoint = Rc::from_raw(uv_handle_get_data(handle).cast::<Endpoint>().cast_const());
        let cleanup = endpoint.cleanup.replace(null_mut());
        if !cleanup.is_null() {
            napi_remove_async_cleanup_hook(cleanup);
        }
    }
}
