//! What Node and this library both read and write: a block that is shared with JavaScript as an `ArrayBuffer`.
//!
//! It has two lanes one after the other, first of what came in and then of what goes out. A lane is for each slot a
//! length (4 bytes), then for each slot an address as the kernel has it (32 bytes), then for each slot its bytes. All
//! that is here is also in `services/dns/src/datagrams/lanes.ts`.
//!
//! JavaScript may write it whenever it runs, and so nothing here ever holds a reference into it: only pointers, used
//! on the thread on which that JavaScript runs.

use std::cell::UnsafeCell;
use std::ffi::c_void;

pub const ADDRESS_BYTES: usize = 32;
const MAX_SLOTS: usize = 1_024;
const MAX_SLOT_BYTES: usize = 65_536;

pub struct Memory {
    words: Box<[UnsafeCell<u64>]>,
    slots: usize,
    slot_bytes: usize,
}

#[derive(Clone, Copy)]
pub enum Lane {
    In,
    Out,
}

impl Memory {
    /// None for sizes that nobody needs.
    pub fn new(slots: usize, slot_bytes: usize) -> Option<Self> {
        let is_sound = (1..=MAX_SLOTS).contains(&slots)
            && (ADDRESS_BYTES..=MAX_SLOT_BYTES).contains(&slot_bytes)
            && slot_bytes % 8 == 0;
        if !is_sound {
            return None;
        }
        let bytes = 2 * lane_bytes(slots, slot_bytes);
        // Made this way it is zero without having been written, and costs no memory until it is used.
        let words = Box::into_raw(vec![0u64; bytes.div_ceil(8)].into_boxed_slice());
        // SAFETY: an `UnsafeCell` is laid out as what is in it.
        let words = unsafe { Box::from_raw(words as *mut [UnsafeCell<u64>]) };
        Some(Self { words, slots, slot_bytes })
    }

    pub fn slots(&self) -> usize {
        self.slots
    }

    pub fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    pub fn size(&self) -> usize {
        2 * lane_bytes(self.slots, self.slot_bytes)
    }

    pub fn start(&self) -> *mut c_void {
        self.words.as_ptr().cast_mut().cast()
    }

    pub fn address(&self, lane: Lane, slot: usize) -> *mut c_void {
        self.at(lane, slot, 4 * self.slots + ADDRESS_BYTES * slot)
    }

    pub fn bytes(&self, lane: Lane, slot: usize) -> *mut c_void {
        self.at(lane, slot, (4 + ADDRESS_BYTES) * self.slots + self.slot_bytes * slot)
    }

    pub fn length(&self, lane: Lane, slot: usize) -> u32 {
        // SAFETY: `at` is inside of the block and, as all parts have even numbers of words, aligned.
        unsafe { self.at(lane, slot, 4 * slot).cast::<u32>().read_volatile() }
    }

    pub fn set_length(&self, lane: Lane, slot: usize, length: u32) {
        // SAFETY: as in `length`.
        unsafe { self.at(lane, slot, 4 * slot).cast::<u32>().write_volatile(length) }
    }

    fn at(&self, lane: Lane, slot: usize, offset: usize) -> *mut c_void {
        assert!(slot < self.slots);
        let lane_start = match lane {
            Lane::In => 0,
            Lane::Out => lane_bytes(self.slots, self.slot_bytes),
        };
        // SAFETY: the offset of a slot below `slots` is inside of its lane, and both lanes are in the block.
        unsafe { self.start().byte_add(lane_start + offset) }
    }
}

fn lane_bytes(slots: usize, slot_bytes: usize) -> usize {
    slots * (4 + ADDRESS_BYTES + slot_bytes)
}
