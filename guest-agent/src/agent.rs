//! The state of the one agent, shared by all conversations with it.
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::logs::Logs;
use crate::main_process::Main;
use crate::pb::Address;
use crate::power::Freezer;
use crate::process::Processes;

pub struct Agent {
    pub processes: Processes,
    pub logs: Arc<Logs>,
    /// Of the newest start.
    pub main: watch::Sender<Option<Arc<Main>>>,
    pub settings: Mutex<Settings>,
    pub freezer: Freezer,
    /// True once the machine is about to end: streams that would go on for ever end then.
    pub ending: watch::Sender<bool>,
    /// Conversations with hosts that are open.
    pub talks: watch::Sender<usize>,
}

#[derive(Default)]
pub struct Settings {
    pub env: HashMap<String, String>,
    /// What `configure` set, so that a later one can take it back.
    pub addresses: Vec<Address>,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            processes: Processes::default(),
            logs: Arc::default(),
            main: watch::channel(None).0,
            settings: Mutex::default(),
            freezer: Freezer::default(),
            ending: watch::channel(false).0,
            talks: watch::channel(0).0,
        }
    }
}

impl Agent {
    /// The environment of the machine with that of one process, whose entries win.
    pub fn env(&self, own: HashMap<String, String>) -> HashMap<String, String> {
        let mut merged = self.settings.lock().unwrap().env.clone();
        merged.extend(own);
        merged
    }

    pub async fn ended(&self) {
        // The sender lives as long as the agent, so the wait cannot fail.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }
}
