//! The main process's output: a ring bounded in bytes, read by sequence number.
//!
//! Who looks at `Logs` once never holds main up. Who follows them or is attached is waited for, as a terminal's
//! reader is, but only while it moves: one that stands still must not stop the workload, and sees a gap.
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::bytes::Bytes;
use tokio::sync::{watch, Notify};

use crate::reply::CHUNK;

/// Kept small: the durable copy of the logs is the host's, this only bridges its absence.
const CAPACITY: u64 = 512 * 1024;
/// What an entry costs beside its data. A program that writes single bytes must not fill the memory.
const OVERHEAD: u64 = 128;
/// Both outputs of main may have one more chunk under way.
const HEADROOM: u64 = 2 * (CHUNK as u64 + OVERHEAD);
const STALL: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct Entry {
    pub seq: u64,
    pub time_ms: i64,
    pub stderr: bool,
    pub data: Bytes,
    /// The ring's cost before it.
    position: u64,
}

pub struct Logs {
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
    moved: Notify,
}

#[derive(Default)]
struct Ring {
    entries: VecDeque<Entry>,
    next: u64,
    /// The cost of all that was ever pushed.
    position: u64,
    readers: HashMap<u64, Place>,
    next_reader: u64,
}

struct Place {
    next: u64,
    waited_for: bool,
}

impl Default for Logs {
    fn default() -> Self {
        Self { ring: Mutex::default(), newest: watch::channel(0).0, moved: Notify::new() }
    }
}

impl Ring {
    fn index(&self, seq: u64) -> usize {
        seq.saturating_sub(self.entries.front().map_or(self.next, |e| e.seq)) as usize
    }

    fn is_full_for(&self, place: &Place) -> bool {
        let position = self.entries.get(self.index(place.next)).map_or(self.position, |e| e.position);
        place.waited_for && self.position - position > CAPACITY - HEADROOM
    }
}

impl Logs {
    pub fn push(&self, stderr: bool, data: Bytes) {
        let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        let mut ring = self.ring.lock().unwrap();
        let (seq, position) = (ring.next, ring.position);
        ring.next += 1;
        ring.position += data.len() as u64 + OVERHEAD;
        ring.entries.push_back(Entry { seq, time_ms, stderr, data, position });
        while ring.entries.front().is_some_and(|oldest| ring.position - oldest.position > CAPACITY) {
            ring.entries.pop_front();
        }
        drop(ring);
        self.newest.send_replace(seq + 1);
    }

    /// The oldest entry that is kept with a number of at least `from`.
    pub fn at(&self, from: u64) -> Option<Entry> {
        let ring = self.ring.lock().unwrap();
        ring.entries.get(ring.index(from)).cloned()
    }

    /// The number of what is pushed next.
    pub fn next(&self) -> u64 {
        self.ring.lock().unwrap().next
    }

    /// Changes after each push; its value is the next number.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    pub fn reader(self: &Arc<Self>, from: u64) -> Reader {
        let mut ring = self.ring.lock().unwrap();
        let id = ring.next_reader;
        ring.next_reader += 1;
        let next = from.min(ring.next);
        ring.readers.insert(id, Place { next, waited_for: true });
        Reader { logs: self.clone(), id, next }
    }

    /// Waits while a reader would lose what it has not read.
    pub async fn room(&self) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let is_full = {
                let ring = self.ring.lock().unwrap();
                ring.readers.values().any(|place| ring.is_full_for(place))
            };
            if !is_full {
                return;
            }
            if tokio::time::timeout(STALL, moved).await.is_err() {
                self.ring.lock().unwrap().readers.values_mut().for_each(|place| place.waited_for = false);
            }
        }
    }
}

/// A place in the ring that main waits for.
pub struct Reader {
    logs: Arc<Logs>,
    id: u64,
    pub next: u64,
}

impl Reader {
    /// The next entry before `end`; its number may be greater than `next` was, when some were overwritten.
    pub fn take(&mut self, end: u64) -> Option<Entry> {
        let entry = self.logs.at(self.next).filter(|entry| entry.seq < end)?;
        self.next = entry.seq + 1;
        let place = Place { next: self.next, waited_for: true };
        self.logs.ring.lock().unwrap().readers.insert(self.id, place);
        self.logs.moved.notify_waiters();
        Some(entry)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.logs.ring.lock().unwrap().readers.remove(&self.id);
        self.logs.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_forgets_the_oldest_and_shows_a_gap() {
        let logs = Logs::default();
        for _ in 0..10 {
            logs.push(false, Bytes::from(vec![0; 100 * 1024]));
        }
        assert_eq!(logs.at(0).unwrap().seq, 5);
        assert_eq!(logs.at(7).unwrap().seq, 7);
        assert!(logs.at(10).is_none());
    }

    #[test]
    fn single_bytes_are_not_free() {
        let logs = Logs::default();
        for _ in 0..100_000 {
            logs.push(false, Bytes::from_static(b"x"));
        }
        assert!(logs.ring.lock().unwrap().entries.len() < 5_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_moves_loses_nothing_and_one_that_stands_still_is_given_up() {
        let logs = Arc::new(Logs::default());
        let mut reader = logs.reader(0);
        let writer = logs.clone();
        let writing = tokio::spawn(async move {
            for _ in 0..100 {
                writer.room().await;
                writer.push(false, Bytes::from(vec![0; CHUNK]));
            }
        });
        for expected in 0..50 {
            tokio::time::sleep(STALL / 2).await;
            assert_eq!(reader.take(u64::MAX).unwrap().seq, expected);
        }
        writing.await.unwrap();
        assert!(reader.take(u64::MAX).unwrap().seq > 50);
    }
}
