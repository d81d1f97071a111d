//! Datagrams in batches for Node: one call of the kernel and one of JavaScript for many of them, in memory that both
//! share. It knows nothing of what is in them.
//!
//! `open(address, port, receiveBufferBytes, slots, slotBytes, onBatch)` returns `{ id, port, memory }`.
//! `onBatch(count)` tells that so many slots of what came in are filled, or, below zero, with what error receiving
//! failed. `send(id, count)` sends the first slots of what goes out and returns how many of them the kernel took.
//! `close(id)` is done when it returns. How the memory is laid out: `memory.rs`.

mod endpoint;
mod memory;
mod node;
mod socket;
mod uv;

use endpoint::Endpoint;
use memory::Memory;
use napi_sys::{napi_callback_info, napi_env, napi_value};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ptr::null_mut;
use std::rc::Rc;

thread_local! {
    // JavaScript names an endpoint by a number that is never used again, so that none can reach what is gone.
    static ENDPOINTS: RefCell<BTreeMap<u32, Rc<Endpoint>>> = const { RefCell::new(BTreeMap::new()) };
    static LAST_ID: Cell<u32> = const { Cell::new(0) };
}

fn endpoint(id: u32) -> Option<Rc<Endpoint>> {
    ENDPOINTS.with_borrow(|all| all.get(&id).cloned())
}

unsafe extern "C" fn open(env: napi_env, info: napi_callback_info) -> napi_value {
    let Some((endpoint, port)) = started(env, info) else { return null_mut() };
    let id = LAST_ID.get() + 1;
    LAST_ID.set(id);
    let opened = node::share(env, endpoint.memory()).and_then(|memory| {
        let (id, port) = (node::number(env, id as i32)?, node::number(env, i32::from(port))?);
        node::object(env, &[("id", id), ("port", port), ("memory", memory)])
    });
    let Some(opened) = opened else {
        endpoint.close();
        return node::throw(env, "ERR_INVALID_STATE", "Node refuses to share memory");
    };
    ENDPOINTS.with_borrow_mut(|all| all.insert(id, endpoint));
    opened
}

/// None when it has thrown.
fn started(env: napi_env, info: napi_callback_info) -> Option<(Rc<Endpoint>, u16)> {
    let [address, port, receive_buffer, slots, slot_bytes, on_batch] = node::arguments(env, info)?;
    let given = (|| {
        let ip: IpAddr = node::read_text(env, address)?.parse().ok()?;
        let address = SocketAddr::new(ip, u16::try_from(node::read_u32(env, port)?).ok()?);
        let slots = node::read_u32(env, slots)? as usize;
        let memory = Memory::new(slots, node::read_u32(env, slot_bytes)? as usize)?;
        let on_batch = node::Callback::new(env, on_batch, "hearth.datagrams")?;
        Some((address, node::read_u32(env, receive_buffer)?, memory, on_batch))
    })();
    let Some((address, receive_buffer, memory, on_batch)) = given else {
        node::throw(
            env,
            "ERR_INVALID_ARG_VALUE",
            "an address, a port, three sizes and a function are needed",
        );
        return None;
    };
    let bound = socket::bind(address, receive_buffer as usize).and_then(|socket| {
        let port = socket.local_addr()?.as_socket().map_or(0, |local| local.port());
        Ok((socket, port))
    });
    let started = bound
        .map_err(|error| -code_of(&error))
        .and_then(|(socket, port)| Ok((Endpoint::start(env, socket, Rc::new(memory), on_batch)?, port)));
    if let Err(failed) = started {
        let name = error_name(failed);
        node::throw(env, &name, &format!("bind {name} {address}"));
    }
    started.ok()
}

fn code_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// As Node names it, such as EADDRINUSE.
fn error_name(code: i32) -> String {
    // SAFETY: libuv returns a text that ends with a zero byte, and keeps those of the errors that it knows.
    unsafe { CStr::from_ptr(uv::uv_err_name(code)) }.to_string_lossy().into_owned()
}

unsafe extern "C" fn send(env: napi_env, info: napi_callback_info) -> napi_value {
    let sent = (|| {
        let [id, count] = node::arguments(env, info)?;
        let count = node::read_u32(env, count)? as usize;
        let taken = endpoint(node::read_u32(env, id)?).map_or(0, |endpoint| endpoint.send(count));
        node::number(env, taken as i32)
    })();
    sent.unwrap_or_else(|| node::throw(env, "ERR_INVALID_ARG_VALUE", "an id and a count are needed"))
}

unsafe extern "C" fn close(env: napi_env, info: napi_callback_info) -> napi_value {
    let Some(id) = node::arguments::<1>(env, info).and_then(|[id]| node::read_u32(env, id)) else {
        return node::throw(env, "ERR_INVALID_ARG_VALUE", "an id is needed");
    };
    if let Some(closing) = ENDPOINTS.with_borrow_mut(|all| all.remove(&id)) {
        closing.close();
    }
    null_mut()
}

/// What Node calls when it loads this.
#[no_mangle]
unsafe extern "C" fn napi_register_module_v1(env: napi_env, exports: napi_value) -> napi_value {
    for (name, call) in [("open", open as _), ("send", send as _), ("close", close as _)] {
        if node::function(env, call).and_then(|made| node::set(env, exports, name, made)).is_none() {
            return null_mut();
        }
    }
    exports
}

#[no_mangle]
extern "C" fn node_api_module_get_api_version_v1() -> i32 {
    8
}
