//! From the kernel's first jump to the image's root: modules, mounts, and the move into the overlay.
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{symlink, PermissionsExt};

use crate::{groups, identity, net, power, run_directory};

const NO_DEVICES: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV;
const NO_PROGRAMS: libc::c_ulong = NO_DEVICES | libc::MS_NOEXEC;
/// What programs may raise it to, and what they have until they do. The kernel's own limits are of 1993.
const OPEN_FILES: libc::rlimit = libc::rlimit { rlim_cur: 65_536, rlim_max: 1 << 20 };

pub fn boot() -> io::Result<()> {
    for (kind, target) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        mount(kind, target, kind, 0, "")?;
    }
    load_modules("/modules")?;
    // The initrd is memory, and nothing of it is needed again.
    let _ = fs::remove_dir_all("/modules");
    mount(&find_disk(0)?, "/image", "squashfs", libc::MS_RDONLY, "")?;
    mount(&find_disk(1)?, "/scratch", "ext4", libc::MS_NOATIME, "")?;
    power::keep_scratch(File::open("/scratch")?);
    fs::create_dir_all("/scratch/upper")?;
    fs::create_dir_all("/scratch/work")?;
    let layers = "lowerdir=/image,upperdir=/scratch/upper,workdir=/scratch/work";
    mount("overlay", "/newroot", "overlay", libc::MS_NOATIME, layers)?;
    // The agent lives in the merged root from here: every path and link then means what the guest means, also
    // those that the image may hold in the places of the mounts below.
    std::env::set_current_dir("/newroot")?;
    call_mount(".", "/", "", libc::MS_MOVE, "")?;
    std::os::unix::fs::chroot(".")?;
    std::env::set_current_dir("/")?;
    furnish()?;
    groups::make();
    prefer_killing_to_crawling();
    probe_silent_ways();
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &OPEN_FILES) };
    net::loopback_up()
}

/// What every program may expect, also in an image that has no directory at all.
fn furnish() -> io::Result<()> {
    let run = run_directory::remember();
    for (path, kind, flags, data) in
        [("/proc", "proc", NO_PROGRAMS, ""), ("/sys", "sysfs", NO_PROGRAMS, ""), ("/dev", "devtmpfs", 0, "")]
    {
        make_directory(path)?;
        call_mount(kind, path, kind, flags, data)?;
    }
    for (path, kind, flags, data) in [
        ("/dev/pts", "devpts", NO_PROGRAMS & !libc::MS_NODEV, "mode=620,gid=5,ptmxmode=666"),
        ("/dev/shm", "tmpfs", NO_DEVICES, "mode=1777"),
        ("/dev/mqueue", "mqueue", NO_PROGRAMS, ""),
        ("/run", "tmpfs", NO_DEVICES, "mode=755"),
        ("/sys/fs/cgroup", "cgroup2", NO_PROGRAMS, ""),
    ] {
        // A kernel without one of them still runs the programs that do without.
        let mounted = make_directory(path).and_then(|()| call_mount(kind, path, kind, flags, data));
        mounted.unwrap_or_else(|error| eprintln!("hearth-guest-agent: {error}"));
    }
    run_directory::restore(run);
    for (link, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        let _ = symlink(target, format!("/dev/{link}"));
    }
    make_directory("/etc")?;
    if fs::metadata("/tmp").is_err() {
        make_directory("/tmp")?;
        fs::set_permissions("/tmp", Permissions::from_mode(0o1777))?;
    }
    identity::write_defaults();
    Ok(())
}

/// A machine without swap that runs out of memory reads its programs from the disk over and over, for minutes,
/// before the kernel calls that a want of memory. With its newer page reclaim (admin-guide/mm/multigen_lru.rst)
/// it does so once it cannot keep what was used in the last second.
fn prefer_killing_to_crawling() {
    for (file, value) in [("enabled", "y"), ("min_ttl_ms", "1000")] {
        // A kernel that has none goes on as it did.
        let _ = fs::write(format!("/sys/kernel/mm/lru_gen/{file}"), value);
    }
}

/// Where big packets vanish and nobody says so, TCP finds out by itself what goes through (RFC 4821). It costs nothing on
/// a way that is well, and an image may set it back.
fn probe_silent_ways() {
    // A kernel that has none goes on as it did.
    let _ = fs::write("/proc/sys/net/ipv4/tcp_mtu_probing", "1");
}

/// Makes way for itself: an image may have a file or a link to nowhere in the directory's place.
fn make_directory(path: &str) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|meta| meta.is_dir()) {
        return Ok(());
    }
    let _ = fs::remove_file(path);
    fs::create_dir(path).map_err(|error| named(path, error))
}

fn load_modules(directory: &str) -> io::Result<()> {
    let order = fs::read_to_string(format!("{directory}/order")).unwrap_or_default();
    for name in order.split_whitespace() {
        let file = File::open(format!("{directory}/{name}"))?;
        let result = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
        let error = io::Error::last_os_error();
        // Built into this kernel, or loaded already.
        if result != 0 && error.raw_os_error() != Some(libc::EEXIST) {
            return Err(named(name, error));
        }
    }
    Ok(())
}

/// The host numbers disks by their serial, as the kernel hands out vda and vdb in an order of its own; a
/// host that sets no serials has one disk a letter. Disks appear a moment after their driver.
fn find_disk(number: u8) -> io::Result<String> {
    let wanted = format!("disk{number}");
    let letter = format!("vd{}", char::from(b'a' + number));
    for _ in 0..5000 {
        let mut serials = Vec::new();
        for entry in fs::read_dir("/sys/block")?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Ok(serial) = fs::read_to_string(entry.path().join("serial")) {
                serials.push((serial.trim().to_owned(), name));
            }
        }
        let unnumbered = !serials.is_empty() && serials.iter().all(|(serial, _)| serial.is_empty());
        let found = serials.iter().find(|(s, n)| *s == wanted || (unnumbered && *n == letter));
        if let Some((_, name)) = found {
            return Ok(format!("/dev/{name}"));
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Err(named(&wanted, io::ErrorKind::TimedOut.into()))
}

fn named(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong, data: &str) -> io::Result<()> {
    fs::create_dir_all(target)?;
    call_mount(source, target, kind, flags, data)
}

fn call_mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong, data: &str) -> io::Result<()> {
    let [source, path, kind, data] =
        [source, target, kind, data].map(|s| CString::new(s).unwrap_or_default());
    let (source, path, kind, data) = (source.as_ptr(), path.as_ptr(), kind.as_ptr(), data.as_ptr());
    match unsafe { libc::mount(source, path, kind, flags, data.cast()) } {
        0 => Ok(()),
        _ => Err(named(target, io::Error::last_os_error())),
    }
}
