//! Two control groups, so that the kernel counts what it kills for want of memory for the right side: main
//! and what it starts, and everything that came by exec. Groups are not made per exec, as the kernel keeps a
//! removed one for as long as a page is charged to it.
use std::fs::{self, File};
use std::io;

use crate::system::is_init;

const ROOT: &str = "/sys/fs/cgroup";

#[derive(Clone, Copy, PartialEq)]
pub enum Group {
    Main,
    Exec,
}

/// Without them (a kernel that has no control groups) the counters of the whole machine have to do.
pub fn make() {
    let _ = fs::write(format!("{ROOT}/cgroup.subtree_control"), "+memory");
    for group in [Group::Main, Group::Exec] {
        let _ = fs::create_dir(group.path());
    }
}

impl Group {
    fn path(self) -> String {
        let name = if self == Self::Main { "main" } else { "exec" };
        format!("{ROOT}/hearth.{name}")
    }

    /// What a process is made in.
    pub fn directory(self) -> Option<File> {
        is_init().then(|| File::open(self.path()).ok()).flatten()
    }

    pub fn oom_kills(self) -> u64 {
        let own = is_init().then(|| counter(&format!("{}/memory.events", self.path()))).flatten();
        own.unwrap_or_else(machine_oom_kills)
    }

    /// True also where there are no control groups.
    pub fn is_empty(self) -> bool {
        let events = fs::read_to_string(format!("{}/cgroup.events", self.path()));
        events.map_or(true, |text| text.contains("populated 0"))
    }

    pub fn kill(self) -> io::Result<()> {
        if !is_init() {
            return Ok(());
        }
        fs::write(format!("{}/cgroup.kill", self.path()), "1")
    }
}

pub fn machine_oom_kills() -> u64 {
    counter("/proc/vmstat").unwrap_or(0)
}

fn counter(path: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}
