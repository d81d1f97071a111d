//! Who the machine is: its name, addresses, resolver, clock and the randomness that it alone has.
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::agent::Agent;
use crate::pb::*;
use crate::system::is_init;
use crate::{files, net};

/// What the kernel's generator is seeded with.
const ENTROPY: usize = 32;

/// Outside a machine only `env` and `files` apply: the rest would change the host that runs a test.
pub fn configure(agent: &Agent, request: ConfigureRequest) -> io::Result<()> {
    for file in &request.files {
        files::put(Path::new(&file.path), &file.content, file.mode, file.uid, file.gid)?;
    }
    if is_init() {
        set_clock(request.unix_ns)?;
        if !request.hostname.is_empty() {
            fs::write("/proc/sys/kernel/hostname", &request.hostname)?;
            write_hosts(&request.hostname, &request.addresses)?;
        }
        if !request.nameservers.is_empty() {
            let mut text: String = request.nameservers.iter().map(|n| format!("nameserver {n}\n")).collect();
            if !request.search_domains.is_empty() {
                text += &format!("search {}\n", request.search_domains.join(" "));
            }
            replace("/etc/resolv.conf", &text)?;
        }
    }
    let mut settings = agent.settings.lock().unwrap();
    if is_init() {
        net::apply(&request.addresses, &request.routes, &mut settings.addresses)?;
    }
    settings.env.extend(request.env);
    Ok(())
}

/// First what secrets are made from: nothing may draw the numbers that another copy of this machine draws.
pub fn adopt(agent: &Agent, request: AdoptIdentityRequest) -> io::Result<()> {
    if !is_init() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "only a machine has an identity"));
    }
    if request.entropy.len() < ENTROPY {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "entropy has at least 32 bytes"));
    }
    add_entropy(&request.entropy)?;
    if !request.machine_id.is_empty() {
        replace("/etc/machine-id", &format!("{}\n", request.machine_id))?;
    }
    if request.replace_env {
        agent.settings.lock().unwrap().env.clear();
    }
    configure(agent, request.configure.unwrap_or_default())
}

/// What every program may expect to be there, whatever the image holds.
pub fn write_defaults() {
    if fs::metadata("/etc/hosts").is_err() {
        let _ = write_hosts("", &[]);
    }
}

fn write_hosts(hostname: &str, addresses: &[Address]) -> io::Result<()> {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    text += "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";
    if !hostname.is_empty() {
        let own = addresses.iter().filter_map(|a| a.cidr.split('/').next()?.parse::<IpAddr>().ok());
        let own: String = own.map(|ip| format!("{ip}\t{hostname}\n")).collect();
        // A name that resolves to nothing makes programs wait for a resolver.
        text += if own.is_empty() { format!("127.0.1.1\t{hostname}\n") } else { own }.as_str();
        replace("/etc/hostname", &format!("{hostname}\n"))?;
    }
    replace("/etc/hosts", &text)
}

/// Images ship these as links into directories that only other programs fill.
fn replace(path: &str, text: &str) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
        fs::remove_file(path)?;
    }
    files::put(Path::new(path), text.as_bytes(), 0o644, 0, 0)
}

fn set_clock(unix_ns: i64) -> io::Result<()> {
    if unix_ns == 0 {
        return Ok(());
    }
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    time.tv_sec = unix_ns.div_euclid(1_000_000_000) as _;
    time.tv_nsec = unix_ns.rem_euclid(1_000_000_000) as _;
    check(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &time) })
}

/// random(4): RNDADDENTROPY takes a count of bits, a count of bytes and the bytes. The pool reaches the
/// generators of all processors only when they are seeded anew, which RNDRESEEDCRNG does at once.
fn add_entropy(entropy: &[u8]) -> io::Result<()> {
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    const RNDRESEEDCRNG: libc::c_ulong = 0x5207;
    let mut message = Vec::with_capacity(8 + entropy.len());
    message.extend((entropy.len() as i32 * 8).to_ne_bytes());
    message.extend((entropy.len() as i32).to_ne_bytes());
    message.extend(entropy);
    let pool = File::options().write(true).open("/dev/urandom")?;
    check(unsafe { libc::ioctl(pool.as_raw_fd(), RNDADDENTROPY as _, message.as_ptr()) })?;
    check(unsafe { libc::ioctl(pool.as_raw_fd(), RNDRESEEDCRNG as _, 0) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
