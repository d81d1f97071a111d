//! The few calls of N-API that are needed, as functions that return what they make. A call that fails leaves an
//! exception behind or is a fault of this library: either way there is nothing to hand out, and `None` is returned.
//!
//! All of them are for the thread of `env`, while Node calls this library: that is what makes each `unsafe` here sound.

use napi_sys::*;
use std::ffi::{c_void, CString};
use std::ptr::{null, null_mut};
use std::rc::Rc;

use crate::memory::Memory;

pub type Env = napi_env;
pub type Value = napi_value;

fn made(status: napi_status, value: Value) -> Option<Value> {
    (status == Status::napi_ok).then_some(value)
}

pub fn arguments<const COUNT: usize>(env: Env, info: napi_callback_info) -> Option<[Value; COUNT]> {
    let mut values = [null_mut(); COUNT];
    let mut count = COUNT;
    // SAFETY: Node fills as many as there is room for, and says with `undefined` which are absent.
    let status =
        unsafe { napi_get_cb_info(env, info, &mut count, values.as_mut_ptr(), null_mut(), null_mut()) };
    (status == Status::napi_ok).then_some(values)
}

pub fn read_u32(env: Env, value: Value) -> Option<u32> {
    let mut number = 0;
    // SAFETY: the result is a place for one number.
    let status = unsafe { napi_get_value_uint32(env, value, &mut number) };
    (status == Status::napi_ok).then_some(number)
}

/// Of a text that is short.
pub fn read_text(env: Env, value: Value) -> Option<String> {
    let mut bytes = [0u8; 128];
    let mut length = 0;
    // SAFETY: Node writes no more than it is told that there is room for.
    let status = unsafe {
        napi_get_value_string_utf8(env, value, bytes.as_mut_ptr().cast(), bytes.len(), &mut length)
    };
    if status != Status::napi_ok {
        return None;
    }
    String::from_utf8(bytes[..length].to_vec()).ok()
}

pub fn number(env: Env, value: i32) -> Option<Value> {
    let mut result = null_mut();
    // SAFETY: the result is a place for one value; so in all that follow.
    made(unsafe { napi_create_int32(env, value, &mut result) }, result)
}

pub fn text(env: Env, value: &str) -> Option<Value> {
    let mut result = null_mut();
    // SAFETY: the text is as long as it is said to be, and copied.
    made(unsafe { napi_create_string_utf8(env, value.as_ptr().cast(), value.len(), &mut result) }, result)
}

pub fn object(env: Env, properties: &[(&str, Value)]) -> Option<Value> {
    let mut result = null_mut();
    // SAFETY: as above.
    let object = made(unsafe { napi_create_object(env, &mut result) }, result)?;
    for (name, value) in properties {
        set(env, object, name, *value)?;
    }
    Some(object)
}

pub fn set(env: Env, object: Value, name: &str, value: Value) -> Option<()> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name ends with a zero byte and is copied.
    let status = unsafe { napi_set_named_property(env, object, name.as_ptr(), value) };
    (status == Status::napi_ok).then_some(())
}

pub fn function(env: Env, call: unsafe extern "C" fn(Env, napi_callback_info) -> Value) -> Option<Value> {
    let mut result = null_mut();
    // SAFETY: the function is of this library, which Node never unloads while it may be called.
    made(unsafe { napi_create_function(env, null(), 0, Some(call), null_mut(), &mut result) }, result)
}

/// The block as an `ArrayBuffer`, which holds it for as long as JavaScript can reach it.
pub fn share(env: Env, memory: &Rc<Memory>) -> Option<Value> {
    unsafe extern "C" fn release(_env: Env, _data: *mut c_void, hint: *mut c_void) {
        // SAFETY: the hint is the pointer that `share` made. Node calls this once, on the thread of `env`.
        drop(unsafe { Rc::from_raw(hint.cast::<Memory>().cast_const()) });
    }
    let held = Rc::into_raw(Rc::clone(memory));
    let mut result = null_mut();
    // SAFETY: the block is as large as it is said to be, and `held` keeps it until `release`.
    let status = unsafe {
        napi_create_external_arraybuffer(
            env,
            memory.start(),
            memory.size(),
            Some(release),
            held.cast_mut().cast(),
            &mut result,
        )
    };
    if status != Status::napi_ok {
        // SAFETY: Node has not taken it.
        drop(unsafe { Rc::from_raw(held) });
    }
    made(status, result)
}

/// Returns null, for what throws to return.
pub fn throw(env: Env, code: &str, message: &str) -> Value {
    let (Ok(code), Ok(message)) = (CString::new(code), CString::new(message)) else { return null_mut() };
    // SAFETY: both end with a zero byte and are copied.
    unsafe { napi_throw_error(env, code.as_ptr(), message.as_ptr()) };
    null_mut()
}

/// A function of JavaScript that the event loop calls.
pub struct Callback {
    env: Env,
    function: napi_ref,
    context: napi_async_context,
}

impl Callback {
    /// None for what is no function.
    pub fn new(env: Env, function: Value, name: &str) -> Option<Self> {
        let mut kind = ValueType::napi_undefined;
        // SAFETY: the result is a place for one kind.
        unsafe { napi_typeof(env, function, &mut kind) };
        if kind != ValueType::napi_function {
            return None;
        }
        let name = text(env, name)?;
        let mut callback = Self { env, function: null_mut(), context: null_mut() };
        // SAFETY: each result is a place for one handle, and `drop` gives both back.
        let statuses = unsafe {
            [
                napi_create_reference(env, function, 1, &mut callback.function),
                napi_async_init(env, null_mut(), name, &mut callback.context),
            ]
        };
        (statuses == [Status::napi_ok; 2]).then_some(callback)
    }

    /// With all that follows a callback of Node: its ticks, its promises, and what becomes of an error nobody caught.
    pub fn call(&self, argument: i32) {
        let env = self.env;
        let mut scope = null_mut();
        // SAFETY: values live in the scope, which is closed on the way out.
        unsafe {
            if napi_open_handle_scope(env, &mut scope) != Status::napi_ok {
                return;
            }
            let (mut receiver, mut function, mut thrown) = (null_mut(), null_mut(), null_mut());
            let is_ready = napi_get_global(env, &mut receiver) == Status::napi_ok
                && napi_get_reference_value(env, self.function, &mut function) == Status::napi_ok;
            if let (true, Some(argument)) = (is_ready, number(env, argument)) {
                let values = [argument];
                let status =
                    napi_make_callback(env, self.context, receiver, function, 1, values.as_ptr(), null_mut());
                if status == Status::napi_pending_exception
                    && napi_get_and_clear_last_exception(env, &mut thrown) == Status::napi_ok
                {
                    napi_fatal_exception(env, thrown);
                }
            }
            napi_close_handle_scope(env, scope);
        }
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        // SAFETY: Node made both, and they are given back once. One that was not made is null, which Node refuses.
        unsafe {
            napi_delete_reference(self.env, self.function);
            napi_async_destroy(self.env, self.context);
        }
    }
}
