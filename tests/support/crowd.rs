//! Many machines behind one network card: a namespace in which each has an address of its own. What firmware, iPXE and
//! operating system would do is done here by a few lines each, so that a room full of them boots in seconds.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use crate::{
    CLIENT_INTERFACE, Context, Daemon, Initiator, Lab, Namespace, OfferedDisk, Result, SERVER, SOON,
    connect_from, ensure, fail,
};

const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// How long an answer is waited for until the question is asked again.
const PATIENCE: Duration = Duration::from_millis(500);

/// A crowd of machines.
#[derive(Debug)]
pub struct Crowd {
    namespace: Namespace,
    members: Vec<Member>,
}

/// One of them: a client of bootd's, which has booted.
#[derive(Debug, Clone)]
pub struct Member {
    /// The client's name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The disk that its boot script offered.
    pub disk: OfferedDisk,
}

impl Crowd {
    /// Boots `count` new clients (at most 100), each from the image that `image` gives its number.
    ///
    /// # Errors
    /// When one can't boot.
    pub fn boot<'a>(
        lab: &Lab,
        daemon: &Daemon,
        count: u8,
        image: impl Fn(u8) -> &'a str + Sync,
    ) -> Result<Self> {
        let namespace = lab.plug("52:54:00:77:08:ff")?;
        let join = |number: u8| -> Result<Member> {
            let address = Ipv4Addr::new(10, 77, 0, 100 + number);
            let name = format!("crowd{number}");
            let mac = [0x52, 0x54, 0, 0x77, 0x08, number];
            let text = mac.map(|byte| format!("{byte:02x}"));
            let given = address.to_string();
            let entry = ["--mac", &text.join(":"), "--address", &given, "--image", image(number)];
            daemon.cli(&[&["client", "add", &name], &entry[..]].concat())?.success()?;
            ask_for_address(mac, address)?;
            // Not before: the server asks the wire whether anyone has it, and whoever does is not this machine.
            namespace.ip(&["addr", "add", &format!("{address}/24"), "dev", CLIENT_INTERFACE])?;
            let path = format!("/boot/{}/script.ipxe", text.join("-"));
            let disk = OfferedDisk::in_script(&fetch(address, &path)?)?;
            Ok(Member { name, address, disk })
        };
        let all = || -> Result<Vec<_>> { (1..=count).map(join).collect() };
        let members = namespace.enter(all)??;
        Ok(Self { namespace, members })
    }

    /// Where they are.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The disks of all of them, logged in to.
    ///
    /// # Errors
    /// When a login fails.
    pub fn log_in(&self) -> Result<Vec<Initiator>> {
        let log_in = |member: &Member| -> Result<Initiator> {
            let isid = [0x80, 0xb0, 0x07, 0xd0, 0, 0];
            let mut disk = Initiator::log_in(&member.disk, member.address, isid, SOON)?;
            disk.settle()?;
            Ok(disk)
        };
        self.namespace.enter(|| self.members.iter().map(log_in).collect())?
    }

    /// All of them.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }
}

/// Asks for an address as an operating system does (RFC 2131), and makes sure that it is that one.
fn ask_for_address(mac: [u8; 6], address: Ipv4Addr) -> Result {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, DHCP_CLIENT))?;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    setsockopt(&socket, sockopt::BindToDevice, &CLIENT_INTERFACE.into())?;
    let (discover, offer, request, acknowledgement) = (1, 2, 3, 5);
    let offered = exchange(&socket, mac, &[53, 1, discover], offer)?;
    ensure!(offered == address, "{offered} was offered in place of {address}");
    let server: Ipv4Addr = SERVER.parse()?;
    let wanted = [&[53, 1, request, 50, 4][..], &address.octets(), &[54, 4], &server.octets()].concat();
    let given = exchange(&socket, mac, &wanted, acknowledgement)?;
    ensure!(given == address, "{given} was given in place of {address}");
    Ok(())
}

/// Broadcasts a request with these options until an answer of that kind comes. Returns the address in it.
fn exchange(socket: &UdpSocket, mac: [u8; 6], options: &[u8], wanted: u8) -> Result<Ipv4Addr> {
    let mut packet = vec![0; 236];
    let transaction = [&[wanted], mac.get(3..).unwrap_or_default()].concat();
    // A request over Ethernet, to be answered by a broadcast.
    for (at, bytes) in [(0, &[1, 1, 6][..]), (4, &transaction), (10, &[0x80]), (28, &mac)] {
        packet.splice(at..at + bytes.len(), bytes.iter().copied());
    }
    packet.extend([&COOKIE[..], options, &[255]].concat());
    let asked = Instant::now();
    while asked.elapsed() < SOON {
        socket.send_to(&packet, (Ipv4Addr::BROADCAST, DHCP_SERVER))?;
        let mut answer = [0; 1500];
        while let Ok(length) = socket.recv(&mut answer) {
            let answer = answer.get(..length).unwrap_or_default();
            let is_ours = answer.get(4..8) == Some(&transaction);
            let is_wanted = answer.windows(3).any(|option| option == [53, 1, wanted]);
            if let (true, true, Some(&[a, b, c, d])) = (is_ours, is_wanted, answer.get(16..20)) {
                return Ok(Ipv4Addr::new(a, b, c, d));
            }
        }
    }
    fail!("no answer to a DHCP request in {} s", SOON.as_secs())
}

/// Fetches a boot script from the server.
fn fetch(from: Ipv4Addr, path: &str) -> Result<String> {
    let mut stream = connect_from(from, SocketAddrV4::new(SERVER.parse()?, 80), SOON)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {SERVER}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "no boot script: {answer}");
    Ok(body.to_owned())
}
