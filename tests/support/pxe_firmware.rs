//! What firmware does before it has a boot program, message by message: a search for offers, the choice among them,
//! and the question on port 4011. Written after the PXE specification 2.1 and what EDK2 does, and with no code of the
//! server's, so that a mistake of its codec can't hide behind the same one here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use crate::{CLIENT_INTERFACE, Context, Failure, Namespace, Result, ensure};

const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// How long offers are listened for once there is one; firmware listens for 4 s.
const LISTEN: Duration = Duration::from_secs(2);
/// How long the first offer may take, on a machine that others share.
const PATIENCE: Duration = Duration::from_secs(10);

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;

/// A DHCP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// From which address and port it was sent.
    pub from: SocketAddrV4,
    /// The kind of message.
    pub kind: u8,
    /// The address that is offered or given; unspecified: none.
    pub address: Ipv4Addr,
    /// Where to fetch the file, as the header says.
    pub next_server: Ipv4Addr,
    /// The file, as the header or option 67 says.
    pub file: String,
    /// The options.
    pub options: BTreeMap<u8, Vec<u8>>,
}

/// What firmware comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its address.
    pub address: Ipv4Addr,
    /// The server that gave it.
    pub leased_by: Ipv4Addr,
    /// The server of the boot program; unspecified: nobody offered one.
    pub server: Ipv4Addr,
    /// The boot program.
    pub file: String,
    /// Whether it was asked for on port 4011.
    pub asked_4011: bool,
}

/// Firmware of that architecture, on the network card of a namespace.
#[derive(Debug)]
pub struct PxeFirmware<'a> {
    namespace: &'a Namespace,
    mac: [u8; 6],
    arch: u16,
}

impl<'a> PxeFirmware<'a> {
    /// Firmware of the card that has this Ethernet address. `arch` is 0 for a BIOS, 7 for UEFI x64.
    ///
    /// # Errors
    /// When `mac` is none.
    pub fn new(namespace: &'a Namespace, mac: &str, arch: u16) -> Result<Self> {
        let octets: Vec<u8> =
            mac.split(':').map(|part| u8::from_str_radix(part, 16)).collect::<std::result::Result<_, _>>()?;
        let mac = octets.try_into().map_err(|_| Failure::new(format!("{mac} is no Ethernet address")))?;
        Ok(Self { namespace, mac, arch })
    }

    /// All offers to one DISCOVER, in the order in which they came.
    ///
    /// # Errors
    /// When the network can't be used. That nobody offers anything is for the caller to see.
    pub fn offers(&self) -> Result<Vec<Answer>> {
        Ok(self.namespace.enter(|| self.search(&socket()?))??)
    }

    /// Searches until there are a lease and, if anyone does, a boot program on offer; takes both.
    ///
    /// # Errors
    /// When nobody gives an address, or who offered a boot program does not answer.
    pub fn boot(&self) -> Result<Found> {
        let offers = self.offers()?;
        let lease = offers.iter().find(|offer| !offer.address.is_unspecified());
        let lease = lease.context(format!("nobody offers an address: {offers:#?}"))?;
        let leased_by = lease.address_in(54).context("an offer without option 54")?;
        let ack = self.namespace.enter(|| self.request(lease.address, leased_by))??;
        ensure!(ack.address == lease.address, "{} was offered and {} given", lease.address, ack.address);
        let with_prefix = format!("{}/24", ack.address);
        self.namespace.ip(&["addr", "replace", &with_prefix, "dev", CLIENT_INTERFACE])?;
        let found = |server, file: &str, asked_4011| Found {
            address: ack.address,
            leased_by,
            server,
            file: file.to_owned(),
            asked_4011,
        };
        let Some(proxy) = offers.iter().find(|offer| offer.is_pxe()) else {
            return Ok(found(ack.next_server, &ack.file, false));
        };
        // The specification's bypass: "download the boot file that is named here".
        if proxy.discovery_control().is_some_and(|control| control & 8 != 0) {
            return Ok(found(proxy.next_server, &proxy.file, false));
        }
        let server = proxy.address_in(54).context("a proxy's offer without option 54")?;
        let told = self.ask_4011(ack.address, server)?;
        ensure!(told.from == SocketAddrV4::new(server, 4011), "{} answered for {server}", told.from);
        Ok(found(told.next_server, &told.file, true))
    }

    /// Asks that server what to boot, as the machine that has the address `own`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ask_4011(&self, own: Ipv4Addr, server: Ipv4Addr) -> Result<Answer> {
        let message = self.message(REQUEST, own, &[]);
        Ok(self.namespace.enter(|| self.exchange(&message, SocketAddrV4::new(server, 4011)))??)
    }

    fn search(&self, socket: &UdpSocket) -> io::Result<Vec<Answer>> {
        let everyone = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
        let start = Instant::now();
        let (mut offers, mut sent, mut first) = (Vec::<Answer>::new(), 0, None);
        while first.unwrap_or(start).elapsed() < if first.is_some() { LISTEN } else { PATIENCE } {
            // Again each 2 s: the network may have only just come up.
            if first.is_none() && start.elapsed() >= Duration::from_secs(2) * sent {
                socket.send_to(&self.message(DISCOVER, Ipv4Addr::UNSPECIFIED, &[]), everyone)?;
                sent += 1;
            }
            if let Some(answer) = self.hear(socket, OFFER)?
                && !offers.contains(&answer)
            {
                first.get_or_insert_with(Instant::now);
                offers.push(answer);
            }
        }
        Ok(offers)
    }

    fn request(&self, address: Ipv4Addr, server: Ipv4Addr) -> io::Result<Answer> {
        let options = [(50, address.octets()), (54, server.octets())];
        let message = self.message(REQUEST, Ipv4Addr::UNSPECIFIED, &options);
        self.exchange(&message, SocketAddrV4::new(Ipv4Addr::BROADCAST, 67))
    }

    fn exchange(&self, message: &[u8], to: SocketAddrV4) -> io::Result<Answer> {
        let socket = socket()?;
        for _ in 0..5 {
            socket.send_to(message, to)?;
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(2) {
                if let Some(answer) = self.hear(&socket, ACK)? {
                    return Ok(answer);
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("{to} does not acknowledge")))
    }

    /// One answer of that kind to us, if one comes soon.
    fn hear(&self, socket: &UdpSocket, kind: u8) -> io::Result<Option<Answer>> {
        let mut buffer = [0; 2048];
        let (len, from) = match socket.recv_from(&mut buffer) {
            Ok((len, std::net::SocketAddr::V4(from))) => (len, from),
            Ok(_) => return Ok(None),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let answer = Answer::read(buffer.get(..len).unwrap_or_default(), from, self.mac);
        Ok(answer.filter(|answer| answer.kind == kind))
    }

    /// A request as EDK2 and ROMs send it, with broadcast answers: nobody here has an address.
    fn message(&self, kind: u8, own: Ipv4Addr, addresses: &[(u8, [u8; 4])]) -> Vec<u8> {
        let mut bytes = vec![1, 1, 6, 0];
        bytes.extend([0x12, 0x34, 0x56, self.mac[5], 0, 4]);
        bytes.extend(if own.is_unspecified() { [0x80, 0] } else { [0, 0] });
        bytes.extend(own.octets());
        bytes.resize(28, 0);
        bytes.extend(self.mac);
        bytes.resize(236, 0);
        bytes.extend(COOKIE);
        bytes.extend([53, 1, kind]);
        for (code, address) in addresses {
            bytes.extend([*code, 4]);
            bytes.extend(address);
        }
        let class = format!("PXEClient:Arch:{:05}:UNDI:003016", self.arch);
        let wanted = [1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 43, 54, 60, 66, 67, 97];
        let uuid = [&[0][..], &[7; 16]].concat();
        let options: [(u8, &[u8]); 6] = [
            (57, &[5, 0xc0]),
            (55, &wanted),
            (60, class.as_bytes()),
            (93, &self.arch.to_be_bytes()),
            (94, &[1, 3, 16]),
            (97, &uuid),
        ];
        for (code, value) in options {
            bytes.extend([code, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
            bytes.extend(value);
        }
        bytes.push(255);
        bytes
    }
}

impl Answer {
    /// The address that this option holds.
    #[must_use]
    pub fn address_in(&self, option: u8) -> Option<Ipv4Addr> {
        Some(<[u8; 4]>::try_from(self.options.get(&option)?.as_slice()).ok()?.into())
    }

    fn is_pxe(&self) -> bool {
        self.options.get(&60).is_some_and(|class| class.starts_with(b"PXEClient"))
    }

    fn discovery_control(&self) -> Option<u8> {
        let all = options(self.options.get(&43)?);
        all.get(&6)?.first().copied()
    }

    fn read(bytes: &[u8], from: SocketAddrV4, to: [u8; 6]) -> Option<Self> {
        let address = |at: usize| Some(Ipv4Addr::from(*bytes.get(at..)?.first_chunk::<4>()?));
        if bytes.first() != Some(&2) || bytes.get(28..34)? != to || bytes.get(236..240)? != COOKIE {
            return None;
        }
        let file = bytes.get(108..236)?.split(|byte| *byte == 0).next()?;
        let options = options(bytes.get(240..)?);
        // Some servers put it into option 67 alone where that is asked for.
        let file = if file.is_empty() { options.get(&67).map_or(file, Vec::as_slice) } else { file };
        Some(Self {
            from,
            kind: *options.get(&53)?.first()?,
            address: address(16)?,
            next_server: address(20)?,
            file: String::from_utf8_lossy(file).trim_end_matches('\0').to_owned(),
            options,
        })
    }
}

fn options(mut rest: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut all = BTreeMap::new();
    while let [code, len, tail @ ..] = rest {
        if *code == 255 {
            break;
        }
        let Some((value, tail)) = tail.split_at_checked(usize::from(*len)) else { break };
        all.insert(*code, value.to_vec());
        rest = tail;
    }
    all
}

/// Port 68 of this namespace's card, which need not have an address.
fn socket() -> io::Result<UdpSocket> {
    let start = Instant::now();
    // A program that another thread just starts has a copy of our last socket for a moment.
    let socket = loop {
        match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && start.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(20));
            }
            bound => break bound?,
        }
    };
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    setsockopt(&socket, sockopt::BindToDevice, &OsString::from(CLIENT_INTERFACE))?;
    Ok(socket)
}
