//! From the kernel's first jump to the image's root: modules, mounts, and the move into the overlay.
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;

pub fn boot() -> io::Result<()> {
    mount("devtmpfs", "/dev", "devtmpfs", 0, "")?;
    mount("proc", "/proc", "proc", 0, "")?;
    mount("sysfs", "/sys", "sysfs", 0, "")?;
    load_modules("/modules")?;
    mount(&find_disk(0)?, "/image", "squashfs", libc::MS_RDONLY, "")?;
    mount(&find_disk(1)?, "/scratch", "ext4", libc::MS_NOATIME, "")?;
    fs::create_dir_all("/scratch/upper")?;
    fs::create_dir_all("/scratch/work")?;
    mount(
        "overlay",
        "/newroot",
        "overlay",
        0,
        "lowerdir=/image,upperdir=/scratch/upper,workdir=/scratch/work",
    )?;
    for (path, kind, flags, data) in [
        ("proc", "proc", 0, ""),
        ("sys", "sysfs", 0, ""),
        ("dev", "devtmpfs", 0, ""),
        ("dev/pts", "devpts", 0, "mode=620,gid=5,ptmxmode=666"),
        ("dev/shm", "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, "mode=1777"),
        ("run", "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, "mode=755"),
        ("sys/fs/cgroup", "cgroup2", 0, ""),
    ] {
        mount(kind, &format!("/newroot/{path}"), kind, flags, data)?;
    }
    for (link, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        let _ = std::os::unix::fs::symlink(target, format!("/newroot/dev/{link}"));
    }
    // The agent lives in the merged root from here: every path and link then means what the guest means.
    std::env::set_current_dir("/newroot")?;
    call_mount(".", "/", "", libc::MS_MOVE, "")?;
    std::os::unix::fs::chroot(".")?;
    std::env::set_current_dir("/")?;
    crate::net::loopback_up()
}

fn load_modules(directory: &str) -> io::Result<()> {
    for name in fs::read_to_string(format!("{directory}/order")).unwrap_or_default().split_whitespace() {
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
    let result =
        unsafe { libc::mount(source.as_ptr(), path.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) };
    if result == 0 {
        Ok(())
    } else {
        Err(named(target, io::Error::last_os_error()))
    }
}
