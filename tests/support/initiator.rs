//! A small iSCSI initiator that hides nothing: a test sees each command's status and sense, and each connection that
//! breaks. Written anew from RFC 7143, so that a mistake of the target's own codec can't hide behind the same one here.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use sha2::{Digest as _, Sha256};

use crate::OfferedDisk;

/// Bytes in a block.
pub const SECTOR: usize = 512;

const BHS: usize = 48;
/// How much may come in one PDU; we declare it.
const MOST_RECEIVED: usize = 256 << 10;
/// Data that goes with a command. What is more is asked for.
const MOST_IMMEDIATE: usize = 64 << 10;
/// How much the target takes in one PDU; bootd's is more.
const MOST_SENT: usize = 8 << 10;
const RESERVED: u32 = 0xffff_ffff;

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Which one: what [`Initiator::read`] or [`Initiator::write`] returned.
    pub tag: u32,
    /// The SCSI status; 0 is GOOD.
    pub status: u8,
    /// Sense key, additional sense code and its qualifier, if there is sense data.
    pub sense: Option<(u8, u8, u8)>,
    /// What was read.
    pub data: Vec<u8>,
}

/// A session that is logged in.
#[derive(Debug)]
pub struct Initiator {
    stream: TcpStream,
    cmd_sn: u32,
    exp_stat_sn: u32,
    next_tag: u32,
    /// Data that the target has yet to ask for, and that it has sent.
    writes: HashMap<u32, Vec<u8>>,
    reads: HashMap<u32, Vec<u8>>,
}

/// A PDU as it came.
struct Pdu {
    header: [u8; BHS],
    data: Vec<u8>,
}

/// Connects to `to` from that address of this namespace, which may be one of many. Where nobody answers in `patience`,
/// neither then nor later, it is an error.
///
/// # Errors
/// The system's.
pub fn connect_from(from: Ipv4Addr, to: SocketAddrV4, patience: Duration) -> io::Result<TcpStream> {
    let stream = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&stream), &SockaddrIn::from(SocketAddrV4::new(from, 0)))?;
    let stream = TcpStream::from(stream);
    // Connecting takes no longer than sending may.
    stream.set_write_timeout(Some(patience))?;
    stream.set_read_timeout(Some(patience))?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&stream), &SockaddrIn::from(to))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Initiator {
    /// Logs in to `disk` from that address. A session that has the same `isid` ends by that.
    ///
    /// # Errors
    /// `ConnectionRefused` where nobody listens, `PermissionDenied` where the login is refused, others where the
    /// connection breaks or nothing comes for `patience`.
    pub fn log_in(disk: &OfferedDisk, from: Ipv4Addr, isid: [u8; 6], patience: Duration) -> io::Result<Self> {
        let portal = disk.portal.parse().map_err(|_| bad("the portal is no address"))?;
        let stream = connect_from(from, portal, patience)?;
        let (writes, reads) = (HashMap::new(), HashMap::new());
        let mut this = Self { stream, cmd_sn: 1, exp_stat_sn: 0, next_tag: 1, writes, reads };
        let OfferedDisk { initiator, target, user, secret, .. } = disk;
        let names = format!("InitiatorName={initiator}\0TargetName={target}\0SessionType=Normal\0");
        this.login_step(isid, 0x00, &format!("{names}AuthMethod=CHAP\0"))?;
        // 7 is SHA-256.
        let told = this.login_step(isid, 0x00, "CHAP_A=7\0")?;
        let value = |key: &str| told.split('\0').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let identifier = value("CHAP_I").and_then(|text| text.parse::<u8>().ok());
        let challenge = value("CHAP_C").and_then(from_hex);
        let (Some(identifier), Some(challenge)) = (identifier, challenge) else {
            return Err(bad(format!("no challenge in {told:?}")));
        };
        let response = Sha256::digest([&[identifier], secret.as_bytes(), &challenge].concat());
        let response: String = response.iter().map(|byte| format!("{byte:02x}")).collect();
        this.login_step(isid, 0x81, &format!("CHAP_N={user}\0CHAP_R=0x{response}\0"))?;
        // All that there is to agree on: LIO asks for what is left out, and is not done before that is answered.
        let keys = format!(
            "HeaderDigest=None\0DataDigest=None\0MaxConnections=1\0DefaultTime2Wait=2\0DefaultTime2Retain=0\0\
             DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0IFMarker=No\0OFMarker=No\0InitialR2T=Yes\0ImmediateData=Yes\0MaxRecvDataSegmentLength={MOST_RECEIVED}\0MaxBurstLength=262144\0\
             FirstBurstLength={MOST_IMMEDIATE}\0MaxOutstandingR2T=1\0ErrorRecoveryLevel=0\0"
        );
        this.login_step(isid, 0x87, &keys)?;
        Ok(this)
    }

    /// Starts a READ(16) of `blocks` from `lba` on.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn read(&mut self, lba: u64, blocks: u32) -> io::Result<u32> {
        let length = blocks as usize * SECTOR;
        let tag = self.command(0x88, lba, blocks, 0xc0, length, &[])?;
        self.reads.insert(tag, vec![0; length]);
        Ok(tag)
    }

    /// Starts a WRITE(16) of `data` from `lba` on.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn write(&mut self, lba: u64, data: Vec<u8>) -> io::Result<u32> {
        let blocks = u32::try_from(data.len() / SECTOR).unwrap_or(u32::MAX);
        let immediate = data.get(..MOST_IMMEDIATE.min(data.len())).unwrap_or_default();
        let tag = self.command(0x8a, lba, blocks, 0xa0, data.len(), immediate)?;
        self.writes.insert(tag, data);
        Ok(tag)
    }

    /// Starts a TEST UNIT READY.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn test(&mut self) -> io::Result<u32> {
        self.command(0, 0, 0, 0x80, 0, &[])
    }

    /// Waits for the next command to end, whichever it is, and gives the target the data that it asks for meanwhile.
    ///
    /// # Errors
    /// When the connection breaks, or the target says what it should not.
    pub fn wait(&mut self) -> io::Result<Ended> {
        loop {
            let pdu = self.receive()?;
            let tag = pdu.word(16);
            match pdu.opcode() {
                0x25 => {
                    let (at, read) = (pdu.word(40) as usize, self.reads.get_mut(&tag));
                    let into = read.and_then(|read| read.get_mut(at..at + pdu.data.len()));
                    into.ok_or_else(|| bad("data that was not asked for"))?.copy_from_slice(&pdu.data);
                    // With its status in it, it is the command's end.
                    if pdu.flags() & 1 == 1 {
                        return Ok(self.ended(tag, &pdu));
                    }
                }
                0x21 => return Ok(self.ended(tag, &pdu)),
                0x31 => self.send_data(&pdu)?,
                0x20 if pdu.word(20) != RESERVED => {
                    let mut pong = self.header(0x40, 0x80, RESERVED, 0);
                    put(&mut pong, 20, pdu.word(20));
                    self.stream.write_all(&pong)?;
                }
                0x20 => {}
                other => return Err(bad(format!("a PDU of opcode {other:#04x}"))),
            }
        }
    }

    /// Waits for that command to end, which must be the only one.
    ///
    /// # Errors
    /// As for [`Initiator::wait`].
    pub fn finish(&mut self, tag: u32) -> io::Result<Ended> {
        let ended = self.wait()?;
        if ended.tag == tag { Ok(ended) } else { Err(bad("another command ended")) }
    }

    /// Asks until the disk has no more news to tell, as each session does at its beginning.
    ///
    /// # Errors
    /// As for [`Initiator::wait`].
    pub fn settle(&mut self) -> io::Result<()> {
        for _ in 0..8 {
            let tag = self.test()?;
            if self.finish(tag)?.status == 0 {
                return Ok(());
            }
        }
        Err(bad("the disk does not get ready"))
    }

    /// Whether the target closes the connection; what it says before that is passed over.
    #[must_use]
    pub fn is_closed(&mut self) -> bool {
        loop {
            match self.receive() {
                Ok(_) => {}
                Err(e) => return !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            }
        }
    }

    fn login_step(&mut self, isid: [u8; 6], flags: u8, text: &str) -> io::Result<String> {
        let mut header = self.header(0x43, flags, 0, text.len());
        header.iter_mut().skip(8).zip(isid).for_each(|(byte, with)| *byte = with);
        self.send(&header, text.as_bytes())?;
        let answer = self.receive()?;
        let status = answer.word(36) >> 16;
        if answer.opcode() != 0x23 || status != 0 {
            let text = format!("login refused, status {status:04x}");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        if flags & 0x80 != 0 && answer.flags() & 0x80 == 0 {
            let told = String::from_utf8_lossy(&answer.data);
            return Err(bad(format!("the target wants more than was said: {told:?}")));
        }
        Ok(String::from_utf8_lossy(&answer.data).into_owned())
    }

    fn command(
        &mut self,
        operation: u8,
        lba: u64,
        blocks: u32,
        flags: u8,
        length: usize,
        immediate: &[u8],
    ) -> io::Result<u32> {
        let tag = self.next_tag;
        self.next_tag = if tag == RESERVED - 1 { 1 } else { tag + 1 };
        let mut header = self.header(0x01, flags | 1, tag, immediate.len());
        put(&mut header, 20, u32::try_from(length).unwrap_or(u32::MAX));
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        // The CDB: operation, address, length.
        let cdb = [&[operation, 0][..], &lba.to_be_bytes(), &blocks.to_be_bytes(), &[0, 0]].concat();
        let cdb = if operation == 0 { vec![0; 16] } else { cdb };
        header.iter_mut().skip(32).zip(cdb).for_each(|(byte, with)| *byte = with);
        self.send(&header, immediate)?;
        Ok(tag)
    }

    /// Answers an R2T.
    fn send_data(&mut self, r2t: &Pdu) -> io::Result<()> {
        let (tag, ttt) = (r2t.word(16), r2t.word(20));
        let (from, length) = (r2t.word(40) as usize, r2t.word(44) as usize);
        let data = self.writes.get(&tag).and_then(|data| data.get(from..from + length));
        let data = data.ok_or_else(|| bad("data is asked for that there is not"))?.to_vec();
        let pieces = data.len().div_ceil(MOST_SENT);
        for (number, piece) in data.chunks(MOST_SENT).enumerate() {
            let last = if number + 1 == pieces { 0x80 } else { 0 };
            let mut header = self.header(0x05, last, tag, piece.len());
            put(&mut header, 20, ttt);
            put(&mut header, 24, 0);
            put(&mut header, 36, u32::try_from(number).unwrap_or(u32::MAX));
            put(&mut header, 40, u32::try_from(from + number * MOST_SENT).unwrap_or(u32::MAX));
            self.send(&header, piece)?;
        }
        Ok(())
    }

    fn ended(&mut self, tag: u32, pdu: &Pdu) -> Ended {
        self.writes.remove(&tag);
        let data = self.reads.remove(&tag).unwrap_or_default();
        let status = pdu.header.get(3).copied().unwrap_or_default();
        // Behind two bytes of length: fixed format (SPC-4, 4.5.3).
        let byte = |at: usize| pdu.data.get(2 + at).copied();
        let sense = || Some((byte(2)? & 0x0f, byte(12)?, byte(13)?));
        let sense = if pdu.opcode() == 0x21 { sense() } else { None };
        Ended { tag, status, sense, data }
    }

    fn header(&self, opcode: u8, flags: u8, tag: u32, length: usize) -> [u8; BHS] {
        let mut header = [0; BHS];
        put(&mut header, 0, u32::from(opcode) << 24 | u32::from(flags) << 16);
        put(&mut header, 4, u32::try_from(length).unwrap_or(u32::MAX));
        put(&mut header, 16, tag);
        put(&mut header, 24, self.cmd_sn);
        put(&mut header, 28, self.exp_stat_sn);
        header
    }

    fn send(&mut self, header: &[u8; BHS], data: &[u8]) -> io::Result<()> {
        let mut pdu = [header, data].concat();
        pdu.resize(pdu.len().next_multiple_of(4), 0);
        self.stream.write_all(&pdu)
    }

    fn receive(&mut self) -> io::Result<Pdu> {
        let mut pdu = Pdu { header: [0; BHS], data: Vec::new() };
        self.stream.read_exact(&mut pdu.header)?;
        let length = (pdu.word(4) & 0x00ff_ffff) as usize;
        if length > MOST_RECEIVED {
            return Err(bad(format!("a PDU of {length} bytes")));
        }
        pdu.data = vec![0; length.next_multiple_of(4)];
        self.stream.read_exact(&mut pdu.data)?;
        pdu.data.truncate(length);
        let has_status = !matches!(pdu.opcode(), 0x25 if pdu.flags() & 1 == 0) && pdu.opcode() != 0x31;
        if has_status {
            self.exp_stat_sn = pdu.word(24).wrapping_add(1);
        }
        Ok(pdu)
    }
}

impl Pdu {
    fn opcode(&self) -> u8 {
        self.header.first().copied().unwrap_or_default() & 0x3f
    }

    fn flags(&self) -> u8 {
        self.header.get(1).copied().unwrap_or_default()
    }

    fn word(&self, at: usize) -> u32 {
        let bytes = self.header.get(at..at + 4).unwrap_or_default();
        bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
    }
}

fn put(header: &mut [u8; BHS], at: usize, word: u32) {
    header.iter_mut().skip(at).zip(word.to_be_bytes()).for_each(|(byte, with)| *byte = with);
}

fn bad(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?;
    (0..digits.len() / 2).map(|at| u8::from_str_radix(digits.get(at * 2..at * 2 + 2)?, 16).ok()).collect()
}
