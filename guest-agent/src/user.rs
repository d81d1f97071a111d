//! Who a process runs as. The image's own files decide, as they do in a container.
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

/// More than any sane /etc/passwd; a hostile one must not fill the agent's memory.
const TABLE_LIMIT: u64 = 1 << 20;

pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

impl User {
    /// `name`, `uid`, `name:group` or `uid:gid`, as in an OCI image. A numeric id needs no entry anywhere.
    /// The error is what is unknown.
    pub fn find(text: &str) -> Result<Self, String> {
        Self::find_in(text, &table("/etc/passwd"), &table("/etc/group"))
    }

    fn find_in(text: &str, passwd: &[Vec<String>], groups: &[Vec<String>]) -> Result<Self, String> {
        let text = if text.is_empty() { "0" } else { text };
        let (name, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
        let number = |text: &str| text.parse::<u32>().ok();
        // A name of digits is an id even where a user is called so.
        let by_id = number(name).and_then(|_| passwd.iter().find(|f| f.len() > 5 && f[2] == name));
        let entry = by_id.or_else(|| passwd.iter().find(|f| f.len() > 5 && f[0] == name));
        let uid = entry.map_or(number(name), |f| number(&f[2])).ok_or(name)?;
        let gid = match group.filter(|g| !g.is_empty()) {
            Some(group) => number(group)
                .or_else(|| groups.iter().find(|f| f.len() > 2 && f[0] == group).and_then(|f| number(&f[2])))
                .ok_or(group)?,
            None => entry.and_then(|f| number(&f[3])).unwrap_or(0),
        };
        let mut supplementary = vec![gid];
        if let (Some(entry), None) = (entry, group) {
            let member = |f: &&Vec<String>| f.len() > 3 && f[3].split(',').any(|m| m == entry[0]);
            for id in groups.iter().filter(member).filter_map(|f| number(&f[2])) {
                if !supplementary.contains(&id) {
                    supplementary.push(id);
                }
            }
        }
        let home = entry.map(|f| f[5].clone()).filter(|home| !home.is_empty());
        Ok(Self { uid, gid, groups: supplementary, home: home.unwrap_or_else(|| "/".into()) })
    }

    /// Between fork and exec: only async-signal-safe calls.
    pub fn enter(&self) -> io::Result<()> {
        let check = |result: i32| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        unsafe {
            // An agent that is not root (tests) can only run processes as itself.
            if libc::geteuid() == 0 {
                check(libc::setgroups(self.groups.len(), self.groups.as_ptr()))?;
                check(libc::setgid(self.gid))?;
                check(libc::setuid(self.uid))?;
            }
        }
        Ok(())
    }
}

/// The names of ids, for listings. The first entry of an id wins, as in getpwuid(3).
pub fn names(path: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for fields in table(path) {
        if let [name, _, id, ..] = fields.as_slice() {
            if let Ok(id) = id.parse() {
                names.entry(id).or_insert_with(|| name.clone());
            }
        }
    }
    names
}

fn table(path: &str) -> Vec<Vec<String>> {
    // A pipe in the place of the file would keep an open waiting for ever.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut bytes = Vec::new();
    let _ = file.and_then(|file| file.take(TABLE_LIMIT).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    text.lines().map(|l| l.split(':').map(str::to_owned).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Vec<String>> {
        text.lines().map(|l| l.split(':').map(str::to_owned).collect()).collect()
    }

    fn find(text: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        let passwd = lines("root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nbad:x:7");
        let groups = lines("root:x:0:\napp:x:1001:\nwheel:x:10:root,app\nvideo:x:44:app\nagain:x:1001:app");
        User::find_in(text, &passwd, &groups).map(|u| (u.uid, u.gid, u.groups, u.home))
    }

    #[test]
    fn a_name_brings_its_groups_and_home() {
        assert_eq!(find("app"), Ok((1000, 1001, vec![1001, 10, 44], "/home/app".into())));
        assert_eq!(find("1000"), find("app"));
        assert_eq!(find(""), Ok((0, 0, vec![0, 10], "/root".into())));
    }

    #[test]
    fn a_named_group_replaces_all_others() {
        assert_eq!(find("app:video"), Ok((1000, 44, vec![44], "/home/app".into())));
        assert_eq!(find("app:55"), Ok((1000, 55, vec![55], "/home/app".into())));
    }

    #[test]
    fn a_number_needs_no_entry_but_a_name_does() {
        assert_eq!(find("4321"), Ok((4321, 0, vec![0], "/".into())));
        assert_eq!(find("nobody"), Err("nobody".into()));
        assert_eq!(find("app:nobody"), Err("nobody".into()));
        assert_eq!(find("bad"), Err("bad".into()));
    }
}
