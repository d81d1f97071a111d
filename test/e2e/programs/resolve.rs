//! Resolves each argument by the C library that it is linked with, and prints what comes, in the order in which it comes.
use std::collections::HashSet;
use std::net::ToSocketAddrs;

fn main() {
    for name in std::env::args().skip(1) {
        match (name.as_str(), 0).to_socket_addrs() {
            Ok(found) => {
                let mut seen = HashSet::new();
                let all: Vec<String> = found.map(|one| one.ip().to_string()).filter(|ip| seen.insert(ip.clone())).collect();
                println!("{name} {}", all.join(","));
            }
            Err(error) => println!("{name} failed: {error}"),
        }
    }
}
