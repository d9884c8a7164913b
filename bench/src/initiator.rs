//! One session of the load generator: logs in, keeps a fixed number of commands outstanding, counts what comes back.

use std::io;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::load::{self, Pattern, Place, Spec, Tally};
use crate::wire::{self, BHS_LEN, Command, Header, opcode};

const SECTOR: usize = 512;
/// Longest login answer that is taken; a longer one ends the run.
const MAX_LOGIN_TEXT: usize = 64 * 1024;

/// What was agreed at login, as far as writes need it.
#[derive(Debug, Clone, Copy)]
struct Agreed {
    immediate: bool,
    first_burst: usize,
    max_send: usize,
}

/// A command in flight.
#[derive(Debug, Clone, Copy)]
struct Outstanding {
    begun: Instant,
    len: usize,
}

/// One logged-in session.
pub(crate) struct Initiator {
    stream: TcpStream,
    input: BytesMut,
    /// Room for one read.
    buffer: usize,
    output: Vec<Bytes>,
    agreed: Agreed,
    cmd_sn: u32,
    exp_stat_sn: u32,
    payload: Bytes,
    lun: u8,
}

fn bad(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

impl Initiator {
    /// Connects, logs in without authentication and clears pending unit attentions.
    ///
    /// # Errors
    /// When the target can't be reached, refuses the login or answers nonsense.
    pub(crate) async fn login(
        place: &Place,
        number: usize,
        payload: Bytes,
        buffer: usize,
    ) -> io::Result<Self> {
        let target = place.targets.get(number % place.targets.len().max(1)).map_or("", String::as_str);
        let stream = load::connect(place.portal).await?;
        let agreed = Agreed { immediate: true, first_burst: 65536, max_send: 8192 };
        let input = BytesMut::with_capacity(buffer);
        let lun = place.lun;
        let mut this = Self {
            stream,
            input,
            buffer,
            output: Vec::new(),
            agreed,
            cmd_sn: 1,
            exp_stat_sn: 0,
            payload,
            lun,
        };
        let name = format!("InitiatorName=iqn.2026-01.internal.lab.bench:{number}");
        let target = format!("TargetName={target}");
        let keys = [
            name.as_str(),
            "SessionType=Normal",
            target.as_str(),
            "HeaderDigest=None",
            "DataDigest=None",
            "InitialR2T=No",
            "ImmediateData=Yes",
            "MaxRecvDataSegmentLength=262144",
            "MaxBurstLength=1048576",
            "FirstBurstLength=262144",
            "MaxOutstandingR2T=1",
            "MaxConnections=1",
            "DefaultTime2Wait=0",
            "DefaultTime2Retain=0",
            "ErrorRecoveryLevel=0",
            "DataPDUInOrder=Yes",
            "DataSequenceInOrder=Yes",
        ];
        let text: Vec<u8> = keys.iter().flat_map(|key| key.bytes().chain([0])).collect();
        let [.., a, b] = number.to_be_bytes();
        this.output.push(wire::login([0x80, 0xbe, 0x4c, 0, a, b], &text));
        loop {
            this.flush().await?;
            let (answer, text) = this.login_answer().await?;
            this.agree(&text);
            this.exp_stat_sn = answer.stat_sn().wrapping_add(1);
            if answer.flags() & 0x83 == 0x83 {
                break;
            }
            this.output.push(wire::login([0x80, 0xbe, 0x4c, 0, a, b], b""));
        }
        while this.test_unit_ready().await? != 0 {}
        Ok(this)
    }

    async fn login_answer(&mut self) -> io::Result<(Header, Vec<u8>)> {
        loop {
            if let Some(header) = Header::read(&self.input) {
                if header.opcode() != opcode::LOGIN_RESPONSE || header.login_status() != 0 {
                    return Err(bad(format!("login refused, status {:04x}", header.login_status())));
                }
                if header.tail_len() > MAX_LOGIN_TEXT {
                    return Err(bad("login answer too long"));
                }
                if self.input.len() >= BHS_LEN + header.tail_len() {
                    self.input.advance(BHS_LEN);
                    let tail = self.input.split_to(header.tail_len());
                    return Ok((header, tail[..header.data_len()].to_vec()));
                }
            }
            self.receive().await?;
        }
    }

    fn agree(&mut self, text: &[u8]) {
        for pair in text.split(|&byte| byte == 0).filter_map(|pair| std::str::from_utf8(pair).ok()) {
            match pair.split_once('=') {
                Some(("ImmediateData", value)) => self.agreed.immediate = value == "Yes",
                Some(("FirstBurstLength", value)) => {
                    self.agreed.first_burst = value.parse().unwrap_or(self.agreed.first_burst);
                }
                Some(("MaxRecvDataSegmentLength", value)) => {
                    self.agreed.max_send = value.parse().unwrap_or(self.agreed.max_send);
                }
                _ => {}
            }
        }
    }

    async fn test_unit_ready(&mut self) -> io::Result<u8> {
        let command = self.command(0, [0; 16], 0, false, 0);
        self.output.push(command);
        self.flush().await?;
        loop {
            if let Some(header) = Header::read(&self.input)
                && self.input.len() >= BHS_LEN + header.tail_len()
            {
                self.input.advance(BHS_LEN + header.tail_len());
                self.seen(&header);
                if header.opcode() == opcode::SCSI_RESPONSE {
                    return Ok(header.status());
                }
                continue;
            }
            self.receive().await?;
        }
    }

    fn command(&mut self, itt: u32, cdb: [u8; 16], len: usize, write: bool, immediate: usize) -> Bytes {
        let expected_len = u32::try_from(len).unwrap_or(u32::MAX);
        let (cmd_sn, exp_stat_sn) = (self.cmd_sn, self.exp_stat_sn);
        self.cmd_sn = cmd_sn.wrapping_add(1);
        Command { lun: self.lun, itt, cmd_sn, exp_stat_sn, expected_len, write, immediate, cdb }.encode()
    }

    fn seen(&mut self, header: &Header) {
        let has_status = match header.opcode() {
            opcode::DATA_IN => header.flags() & 1 == 1,
            opcode::R2T => false,
            _ => true,
        };
        if has_status {
            self.exp_stat_sn = header.stat_sn().wrapping_add(1);
        }
    }

    async fn receive(&mut self) -> io::Result<()> {
        self.input.reserve(self.buffer / 2);
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let mut first = 0;
        while first < self.output.len() {
            let slices: Vec<_> =
                self.output[first..].iter().take(512).map(|piece| IoSlice::new(piece)).collect();
            let mut sent = self.stream.write_vectored(&slices).await?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            while let Some(piece) = self.output.get_mut(first) {
                let step = sent.min(piece.len());
                piece.advance(step);
                sent -= step;
                if !piece.is_empty() {
                    break;
                }
                first += 1;
            }
        }
        self.output.clear();
        Ok(())
    }

    fn issue(&mut self, tag: u32, pattern: &mut Pattern, spec: &Spec) -> Outstanding {
        let len = spec.size;
        let cdb = wire::rw16(spec.write, pattern.next_lba(), u32::try_from(len / SECTOR).unwrap_or(0));
        let most = self.agreed.first_burst.min(self.agreed.max_send);
        let immediate = if spec.write && self.agreed.immediate { len.min(most) } else { 0 };
        let header = self.command(tag, cdb, len, spec.write, immediate);
        self.output.push(header);
        if immediate > 0 {
            self.output.push(self.payload.slice(..immediate));
        }
        Outstanding { begun: Instant::now(), len }
    }

    fn answer_r2t(&mut self, r2t: &Header) {
        let end = r2t.buffer_offset() + r2t.desired_len();
        let (mut offset, mut data_sn) = (r2t.buffer_offset(), 0);
        while offset < end {
            let len = self.agreed.max_send.min(end - offset);
            let last = offset + len == end;
            self.output.push(wire::data_out(r2t, data_sn, offset, len, last, self.exp_stat_sn));
            self.output.push(self.payload.slice(offset..offset + len));
            offset += len;
            data_sn += 1;
        }
    }

    /// Runs the load until `until`, with `spec.depth` commands outstanding all the time.
    ///
    /// # Errors
    /// When the connection breaks or a command does not end with GOOD: a benchmark of failures is worth nothing.
    pub(crate) async fn run(
        mut self,
        spec: &Spec,
        mut pattern: Pattern,
        until: Instant,
    ) -> io::Result<Tally> {
        let mut tally = Tally::default();
        let mut flight = Vec::with_capacity(spec.depth);
        for tag in 0..spec.depth.min(usize::try_from(spec.most).unwrap_or(usize::MAX)) {
            flight.push(self.issue(u32::try_from(tag).unwrap_or(0), &mut pattern, spec));
        }
        let mut outstanding = flight.len();
        let mut left = spec.most.saturating_sub(outstanding as u64);
        let mut skip = 0;
        while outstanding > 0 {
            self.flush().await?;
            self.receive().await?;
            let now = Instant::now();
            loop {
                let step = skip.min(self.input.len());
                self.input.advance(step);
                skip -= step;
                let Some(header) = Header::read(&self.input).filter(|_| skip == 0) else { break };
                self.input.advance(BHS_LEN);
                skip = header.tail_len();
                self.seen(&header);
                let ended = match header.opcode() {
                    opcode::DATA_IN => header.flags() & 1 == 1,
                    opcode::SCSI_RESPONSE => true,
                    opcode::R2T => {
                        self.answer_r2t(&header);
                        false
                    }
                    opcode::NOP_IN => {
                        self.output.extend(wire::nop_out(&header, self.cmd_sn, self.exp_stat_sn));
                        false
                    }
                    other => return Err(bad(format!("unexpected PDU {other:#04x}"))),
                };
                if !ended {
                    continue;
                }
                if header.status() != 0 {
                    return Err(bad(format!("a command ended with status {:#04x}", header.status())));
                }
                let tag = header.itt();
                let slot = flight.get_mut(tag as usize).ok_or_else(|| bad("answer to an unknown tag"))?;
                tally.add(slot.len, now.saturating_duration_since(slot.begun));
                if now < until && left > 0 {
                    left -= 1;
                    *slot = self.issue(tag, &mut pattern, spec);
                } else {
                    outstanding -= 1;
                }
            }
        }
        let _ = tokio::time::timeout(Duration::from_millis(100), self.stream.shutdown()).await;
        Ok(tally)
    }
}
