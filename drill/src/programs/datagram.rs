//! UDP for guests, whose image has no other program that listens to it: `datagram serve PORT` sends back what it gets,
//! and `datagram ask ADDRESS PORT SECONDS` succeeds when what it sends comes back whole.
use std::net::{SocketAddr, UdpSocket};
use std::process::exit;
use std::time::{Duration, Instant};

/// As large as any way between hosts takes in one piece.
const BYTES: usize = 1_200;

fn serve(port: u16) -> std::io::Result<()> {
    let socket = UdpSocket::bind(("::", port))?;
    let mut buffer = [0u8; 2 * BYTES];
    loop {
        // What cannot be sent is an answer that is lost, and the asker asks again.
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

fn ask(to: SocketAddr, limit: Duration) -> std::io::Result<bool> {
    let socket = UdpSocket::bind("[::]:0")?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let text: Vec<u8> = (0..BYTES).map(|at| at as u8).collect();
    let mut buffer = [0u8; 2 * BYTES];
    let began = Instant::now();
    while began.elapsed() < limit {
        let _ = socket.send(&text);
        if let Ok(length) = socket.recv(&mut buffer) {
            if buffer[..length] == text[..] {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = given.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["serve", port] => serve(port.parse().expect("a port")).map(|()| true),
        ["ask", address, port, seconds] => ask(
            SocketAddr::new(address.parse().expect("an address"), port.parse().expect("a port")),
            Duration::from_secs(seconds.parse().expect("seconds")),
        ),
        _ => Ok(false),
    };
    exit(if matches!(done, Ok(true)) { 0 } else { 1 });
}
