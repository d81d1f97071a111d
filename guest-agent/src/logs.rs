//! The main process's output: a ring bounded in bytes, read by sequence number.
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::bytes::Bytes;
use tokio::sync::watch;

/// Kept small: the durable copy of the logs is the host's, this only bridges its absence.
const CAPACITY_BYTES: usize = 512 * 1024;

#[derive(Clone)]
pub struct Entry {
    pub seq: u64,
    pub time_ms: i64,
    pub stderr: bool,
    pub data: Bytes,
}

pub struct Logs {
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
}

#[derive(Default)]
struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
    next: u64,
}

impl Default for Logs {
    fn default() -> Self {
        Self { ring: Mutex::default(), newest: watch::channel(0).0 }
    }
}

impl Logs {
    pub fn push(&self, stderr: bool, data: Bytes) {
        let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        let mut ring = self.ring.lock().unwrap();
        let seq = ring.next;
        ring.next += 1;
        ring.bytes += data.len();
        ring.entries.push_back(Entry { seq, time_ms, stderr, data });
        while ring.bytes > CAPACITY_BYTES {
            let Some(oldest) = ring.entries.pop_front() else { break };
            ring.bytes -= oldest.data.len();
        }
        drop(ring);
        self.newest.send_replace(seq + 1);
    }

    /// The oldest entry that is kept with a number of at least `from`.
    pub fn at(&self, from: u64) -> Option<Entry> {
        let ring = self.ring.lock().unwrap();
        let first = ring.entries.front()?.seq;
        ring.entries.get(from.saturating_sub(first) as usize).cloned()
    }

    /// Changes after each push; its value is the next number.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
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
}
