//! The machine as a whole: identity, settings, statistics, power.
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::pb::*;
use crate::{files, net};

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

/// Outside a machine only `env` and `files` apply: the rest would change the host that runs a test.
pub fn configure(request: &ConfigureRequest, applied: &mut Vec<Address>) -> io::Result<()> {
    for file in &request.files {
        let path = Path::new(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, &file.content)?;
        files::settle(path, if file.mode == 0 { 0o644 } else { file.mode }, file.uid, file.gid)?;
    }
    if !is_init() {
        return Ok(());
    }
    fs::create_dir_all("/etc")?;
    if !request.hostname.is_empty() {
        fs::write("/proc/sys/kernel/hostname", &request.hostname)?;
        fs::write("/etc/hostname", format!("{}\n", request.hostname))?;
        let own: String = request
            .addresses
            .iter()
            .filter_map(|a| a.cidr.split('/').next())
            .map(|ip| format!("{ip}\t{}\n", request.hostname))
            .collect();
        fs::write("/etc/hosts", format!("127.0.0.1\tlocalhost\n::1\tlocalhost\n{own}"))?;
    }
    if !request.nameservers.is_empty() {
        let mut text: String = request.nameservers.iter().map(|n| format!("nameserver {n}\n")).collect();
        if !request.search_domains.is_empty() {
            text += &format!("search {}\n", request.search_domains.join(" "));
        }
        // Images ship it as a link into a directory that only another resolver fills.
        let _ = fs::remove_file("/etc/resolv.conf");
        fs::write("/etc/resolv.conf", text)?;
    }
    net::apply(&request.addresses, &request.routes, applied)
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
    })
}

/// Ends every process, then the machine. Outside a machine it ends only the agent.
pub async fn shutdown(grace_ms: u32) {
    // The answer to the call must leave before the machine does.
    tokio::time::sleep(Duration::from_millis(20)).await;
    if !is_init() {
        std::process::exit(0);
    }
    unsafe { libc::kill(-1, libc::SIGTERM) };
    let limit = tokio::time::Instant::now() + Duration::from_millis(grace_ms.into());
    let user_process = |p: &Process| p.pid != 1 && !p.argv[0].starts_with('[');
    while tokio::time::Instant::now() < limit && processes().is_ok_and(|all| all.iter().any(user_process)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    unsafe {
        libc::kill(-1, libc::SIGKILL);
        libc::sync();
        libc::reboot(libc::RB_AUTOBOOT);
    }
}
