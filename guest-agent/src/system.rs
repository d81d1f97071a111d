//! The machine as a whole, read from /proc: who it says it is, what runs, what it uses.
use std::fs;
use std::io;

use crate::groups;
use crate::pb::*;

pub fn hello() -> HelloResponse {
    let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let uptime = line("/proc/uptime").split(' ').next().and_then(|s| s.parse::<f64>().ok()).unwrap_or(0.0);
    HelloResponse {
        protocol: 1,
        agent_version: env!("CARGO_PKG_VERSION").into(),
        kernel_release: line("/proc/sys/kernel/osrelease"),
        hostname: line("/proc/sys/kernel/hostname"),
        uptime_ms: (uptime * 1000.0) as u64,
        init: is_init(),
    }
}

pub fn is_init() -> bool {
    std::process::id() == 1
}

pub fn processes() -> io::Result<Vec<Process>> {
    let numbers = fs::read_dir("/proc")?.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    Ok(numbers.filter_map(process).collect())
}

/// `None` when it ended meanwhile. Fields: proc(5), /proc/pid/stat, counted after the command's `)`.
fn process(pid: u32) -> Option<Process> {
    use std::os::unix::fs::MetadataExt;
    let base = format!("/proc/{pid}");
    let stat = String::from_utf8_lossy(&fs::read(format!("{base}/stat")).ok()?).into_owned();
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let line = fs::read(format!("{base}/cmdline")).ok()?;
    let mut argv: Vec<String> =
        line.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
    argv.pop();
    if argv.is_empty() {
        argv.push(format!("[{name}]"));
    }
    Some(Process {
        pid,
        ppid: number(1) as u32,
        uid: fs::metadata(&base).ok()?.uid(),
        state: fields.first()?.to_string(),
        argv,
        rss_bytes: number(21) * 4096,
        cpu_ms: (number(11) + number(12)) * 10,
    })
}

/// Bytes received and sent by all devices but the loopback.
fn network_bytes() -> (u64, u64) {
    let text = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let devices =
        text.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    devices.fold((0, 0), |(received, sent), (_, rest)| {
        let fields: Vec<u64> = rest.split_whitespace().filter_map(|f| f.parse().ok()).collect();
        (received + fields.first().unwrap_or(&0), sent + fields.get(8).unwrap_or(&0))
    })
}

pub fn stats() -> io::Result<StatsResponse> {
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib = |name: &str| {
        let line = memory.lines().find(|l| l.starts_with(name));
        line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let cpu = fs::read_to_string("/proc/stat")?;
    let ticks: Vec<u64> = cpu
        .lines()
        .next()
        .unwrap_or("")
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|f| f.parse().ok())
        .collect();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    let mut disk: libc::statvfs = unsafe { std::mem::zeroed() };
    unsafe { libc::statvfs(c"/".as_ptr(), &mut disk) };
    let (received, sent) = network_bytes();
    let load = fs::read_to_string("/proc/loadavg")?;
    let mut load = load.split_whitespace();
    Ok(StatsResponse {
        memory_total_bytes: kib("MemTotal:"),
        memory_available_bytes: kib("MemAvailable:"),
        cpu_busy_ms: ticks.iter().sum::<u64>().saturating_sub(idle) * 10,
        cpu_idle_ms: idle * 10,
        disk_total_bytes: disk.f_blocks as u64 * disk.f_frsize as u64,
        disk_free_bytes: disk.f_bavail as u64 * disk.f_frsize as u64,
        load1: load.next().and_then(|f| f.parse().ok()).unwrap_or(0.0),
        processes: load.nth(2).and_then(|f| f.split('/').nth(1)?.parse().ok()).unwrap_or(0),
        cpus: cpu.lines().skip(1).take_while(|line| line.starts_with("cpu")).count() as u32,
        oom_kills: groups::machine_oom_kills(),
        agent_rss_bytes: process(std::process::id()).map_or(0, |p| p.rss_bytes),
        memory_cached_bytes: kib("Cached:"),
        network_received_bytes: received,
        network_sent_bytes: sent,
    })
}
