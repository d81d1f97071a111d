//! A bound UDP socket that takes and gives datagrams by the batch.

use crate::memory::{Lane, Memory, ADDRESS_BYTES};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::mem::zeroed;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

/// As `node:dgram` binds, and with room for a burst. `set_recv_buffer_size` asks for what the kernel then may cap.
pub fn bind(address: SocketAddr, receive_buffer_bytes: usize) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.set_recv_buffer_size(receive_buffer_bytes)?;
    Ok(socket)
}

/// Room to describe the slots of one lane to the kernel. What points into the memory is written anew for each call.
pub struct Batch {
    lane: Lane,
    messages: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
}

impl Batch {
    pub fn new(memory: &Memory, lane: Lane) -> Self {
        // SAFETY: of both, all zeroes is a valid value, with no buffer in it.
        let (message, vector) = unsafe { (zeroed(), zeroed()) };
        let count = memory.slots();
        Self {
            lane,
            messages: vec![message; count].into_boxed_slice(),
            vectors: vec![vector; count].into_boxed_slice(),
        }
    }

    fn describe(&mut self, memory: &Memory, slot: usize, length: usize, address_length: usize) {
        let vector = &mut self.vectors[slot];
        *vector = libc::iovec { iov_base: memory.bytes(self.lane, slot), iov_len: length };
        let header = &mut self.messages[slot].msg_hdr;
        header.msg_name = memory.address(self.lane, slot);
        header.msg_namelen = address_length as libc::socklen_t;
        header.msg_iov = vector;
        header.msg_iovlen = 1;
    }

    /// How many came, at most one a slot. The length of one that did not fit is what it was.
    pub fn receive(&mut self, socket: &Socket, memory: &Memory) -> io::Result<usize> {
        for slot in 0..self.messages.len() {
            self.describe(memory, slot, memory.slot_bytes(), ADDRESS_BYTES);
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: each message names a slot of the memory, whose sizes it says, and both live here.
        let came = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                self.messages.len() as libc::c_uint,
                flags as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(came).map_err(|_| io::Error::last_os_error())?;
        for (slot, message) in self.messages[..count].iter().enumerate() {
            memory.set_length(self.lane, slot, message.msg_len);
        }
        Ok(count)
    }

    /// Sends the first slots and returns how many the kernel took. One that it refuses does not keep back those
    /// behind it; when it takes nothing for now, what is left is given up.
    pub fn send(&mut self, socket: &Socket, memory: &Memory, count: usize) -> usize {
        let count = count.min(self.messages.len());
        for slot in 0..count {
            let length = memory.length(self.lane, slot) as usize;
            // SAFETY: an address is longer than its family, and aligned.
            let family =
                unsafe { memory.address(self.lane, slot).cast::<libc::sa_family_t>().read_volatile() };
            let address_length = match i32::from(family) {
                libc::AF_INET => size_of::<libc::sockaddr_in>(),
                _ => size_of::<libc::sockaddr_in6>(),
            };
            self.describe(memory, slot, length.min(memory.slot_bytes()), address_length);
        }
        let mut taken = 0;
        let mut next = 0;
        while next < count {
            // SAFETY: as in `receive`; what is sent is only read.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    self.messages[next..count].as_mut_ptr(),
                    (count - next) as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) => {
                    taken += sent;
                    next += sent.max(1);
                }
                Err(_) => match io::Error::last_os_error().kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return taken,
                    _ => next += 1,
                },
            }
        }
        taken
    }
}
