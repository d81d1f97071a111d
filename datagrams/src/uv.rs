//! Readiness, from Node's own event loop. Node exports these functions of libuv 1, whose binary interface is stable
//! (https://docs.libuv.org/en/v1.x/poll.html).

use std::ffi::{c_char, c_int, c_void};

#[repr(C)]
pub struct UvLoop {
    _private: [u8; 0],
}
#[repr(C)]
pub struct UvHandle {
    _private: [u8; 0],
}

pub const UV_POLL: c_int = 8;
pub const UV_READABLE: c_int = 1;

pub type PollCallback = unsafe extern "C" fn(*mut UvHandle, c_int, c_int);
pub type CloseCallback = unsafe extern "C" fn(*mut UvHandle);

extern "C" {
    pub fn uv_handle_size(kind: c_int) -> usize;
    pub fn uv_handle_get_data(handle: *const UvHandle) -> *mut c_void;
    pub fn uv_handle_set_data(handle: *mut UvHandle, data: *mut c_void);
    pub fn uv_poll_init(uv_loop: *mut UvLoop, handle: *mut UvHandle, fd: c_int) -> c_int;
    pub fn uv_poll_start(handle: *mut UvHandle, events: c_int, callback: PollCallback) -> c_int;
    pub fn uv_close(handle: *mut UvHandle, callback: CloseCallback);
    pub fn uv_err_name(code: c_int) -> *const c_char;
}
