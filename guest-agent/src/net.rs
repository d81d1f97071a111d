//! Addresses and routes, through rtnetlink(7): the image need not have a program for it.
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::pb::{Address, Route};

const CREATE_OR_REPLACE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
/// A duplicate is impossible on addresses that the host plans, and looking for one takes a second.
const IFA_F_NODAD: u8 = 2;
const RTNH_F_ONLINK: u32 = 4;

/// Makes the addresses of the named devices those given. `applied` is what earlier calls set.
pub fn apply(addresses: &[Address], routes: &[Route], applied: &mut Vec<Address>) -> io::Result<()> {
    let netlink = Netlink::open()?;
    for old in std::mem::take(applied) {
        let renamed = addresses.iter().any(|new| new.device == old.device && !addresses.contains(&old));
        if renamed {
            // Gone already when the guest removed it.
            let _ = netlink.address(libc::RTM_DELADDR, 0, &old);
        } else {
            applied.push(old);
        }
    }
    let mut up = Vec::new();
    for address in addresses {
        if !up.contains(&&address.device) {
            netlink.up(&address.device).map_err(|e| named(&address.device, e))?;
            up.push(&address.device);
        }
        netlink
            .address(libc::RTM_NEWADDR, CREATE_OR_REPLACE, address)
            .map_err(|e| named(&address.cidr, e))?;
        if !applied.contains(address) {
            applied.push(address.clone());
        }
    }
    for route in routes {
        netlink
            .route(route)
            .map_err(|e| named(&format!("{} via {}", route.destination, route.gateway), e))?;
    }
    Ok(())
}

pub fn loopback_up() -> io::Result<()> {
    Netlink::open()?.up("lo")
}

fn named(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// By name, or by MAC: with several devices the kernel's names need not follow the host's order.
fn index(device: &str) -> io::Result<u32> {
    for entry in fs::read_dir("/sys/class/net")? {
        let entry = entry?;
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if entry.file_name() == device || (device.contains(':') && read("address").trim() == device) {
            return read("ifindex").trim().parse().map_err(io::Error::other);
        }
    }
    Err(io::Error::new(ErrorKind::NotFound, "no such network device"))
}

fn parse_cidr(text: &str) -> io::Result<(IpAddr, u8)> {
    let invalid = || io::Error::new(ErrorKind::InvalidInput, "not an address with a prefix length");
    let (address, length) = text.split_once('/').ok_or_else(invalid)?;
    let address: IpAddr = address.parse().map_err(|_| invalid())?;
    let length: u8 = length.parse().map_err(|_| invalid())?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    if length > longest {
        Err(invalid())
    } else {
        Ok((address, length))
    }
}

fn family(address: &IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn put_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value); // every value here is a multiple of four bytes, so none needs padding
}

struct Netlink {
    socket: OwnedFd,
    /// Devices that were looked up already; a look reads three files of each device.
    known: RefCell<HashMap<String, u32>>,
}

impl Netlink {
    fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        match unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) } {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(fd) }, known: RefCell::default() }),
        }
    }

    fn index(&self, device: &str) -> io::Result<u32> {
        if let Some(known) = self.known.borrow().get(device) {
            return Ok(*known);
        }
        let found = index(device)?;
        self.known.borrow_mut().insert(device.into(), found);
        Ok(found)
    }

    fn up(&self, device: &str) -> io::Result<()> {
        // struct ifinfomsg
        let mut body = vec![0; 4];
        body.extend(self.index(device)?.to_ne_bytes());
        body.extend((libc::IFF_UP as u32).to_ne_bytes());
        body.extend((libc::IFF_UP as u32).to_ne_bytes());
        self.request(libc::RTM_NEWLINK, 0, &body)
    }

    fn address(&self, kind: u16, flags: u16, address: &Address) -> io::Result<()> {
        let (ip, length) = parse_cidr(&address.cidr)?;
        // struct ifaddrmsg
        let mut body = vec![family(&ip), length, if ip.is_ipv6() { IFA_F_NODAD } else { 0 }, 0];
        body.extend(self.index(&address.device)?.to_ne_bytes());
        put_attribute(&mut body, libc::IFA_LOCAL, &octets(&ip));
        put_attribute(&mut body, libc::IFA_ADDRESS, &octets(&ip));
        self.request(kind, flags, &body)
    }

    fn route(&self, route: &Route) -> io::Result<()> {
        let invalid = |_| io::Error::new(ErrorKind::InvalidInput, "the gateway is not an address");
        let gateway: Option<IpAddr> = match route.gateway.as_str() {
            "" => None,
            text => Some(text.parse().map_err(invalid)?),
        };
        let (destination, length) = match (route.destination.as_str(), gateway) {
            ("", Some(IpAddr::V4(_))) => parse_cidr("0.0.0.0/0")?,
            ("", Some(IpAddr::V6(_))) => parse_cidr("::/0")?,
            (text, _) => parse_cidr(text)?,
        };
        if gateway.is_some_and(|g| family(&g) != family(&destination)) {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "gateway and destination are of two families",
            ));
        }
        let scope = if gateway.is_none() { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
        // struct rtmsg
        let mut body =
            vec![family(&destination), length, 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, scope];
        body.push(libc::RTN_UNICAST);
        // The gateway of a machine need not lie in its prefix, which may be a single address.
        let flags = if gateway.is_some() { RTNH_F_ONLINK } else { 0 };
        body.extend(flags.to_ne_bytes());
        if length > 0 {
            put_attribute(&mut body, libc::RTA_DST, &octets(&destination));
        }
        if let Some(gateway) = gateway {
            put_attribute(&mut body, libc::RTA_GATEWAY, &octets(&gateway));
        }
        put_attribute(&mut body, libc::RTA_OIF, &self.index(&route.device)?.to_ne_bytes());
        self.request(libc::RTM_NEWROUTE, CREATE_OR_REPLACE, &body)
    }

    /// Sends one request and reads its acknowledgement, which is `struct nlmsgerr` after the header.
    fn request(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut message = Vec::with_capacity(16 + body.len());
        message.extend((16 + body.len() as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        let fd = self.socket.as_raw_fd();
        if unsafe { libc::send(fd, message.as_ptr().cast(), message.len(), 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answer = [0u8; 4096];
        let length = unsafe { libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), 0) };
        if length < 20 {
            return Err(io::Error::last_os_error());
        }
        match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_a_prefix_length_that_fits() {
        assert_eq!(parse_cidr("10.0.0.2/24").unwrap(), ("10.0.0.2".parse().unwrap(), 24));
        assert_eq!(parse_cidr("fd00::2/64").unwrap(), ("fd00::2".parse().unwrap(), 64));
        for wrong in ["10.0.0.2", "10.0.0.2/33", "fd00::/129", "/8", "x/8", ""] {
            assert!(parse_cidr(wrong).is_err(), "{wrong}");
        }
    }
}
