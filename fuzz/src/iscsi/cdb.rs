//! Commands against one logical unit, without the transport: every wish of a task is met, or fails.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use iscsi::{
    Action, Command, Completion, Direction, InitiatorPort, Lun, LunOptions, MAX_TRANSFER_BLOCKS, NexusId,
    Status, Task,
};

use super::{disk, targets};

/// Commands in one run.
const MOST_COMMANDS: usize = 64;

/// Steps of one command: WRITE SAME of as many blocks as its limit allows takes the most.
const MOST_STEPS: usize = 1024;

/// What a parameter list may be long; whatever comes behind the input is zero.
const MOST_DATA: u32 = MAX_TRANSFER_BLOCKS * 512;

/// What the input begins with says which disk it is; each command then is its session, LUN, CDB and data.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let _ = play(&mut input);
}

fn play(input: &mut Unstructured<'_>) -> Result<()> {
    let options = LunOptions { read_only: input.ratio(1, 8)?, physical_block_exponent: 3 };
    let lun = targets::lun(targets::OPEN, options);
    for session in 1..=2 {
        join(&lun, session);
    }
    for _ in 0..MOST_COMMANDS {
        if input.is_empty() {
            break;
        }
        match input.int_in_range(0..=31_u8)? {
            0 => lun.reset(),
            1 => {
                let session = input.int_in_range(1..=2_u64)?;
                lun.leave(NexusId::new(session));
                join(&lun, session);
            }
            _ => command(input, &lun)?,
        }
    }
    Ok(())
}

fn join(lun: &Lun, session: u64) {
    let isid = [0x40, 0, 0, 0, 0, session as u8];
    lun.join(NexusId::new(session), InitiatorPort { iqn: targets::INITIATOR.to_owned(), isid });
}

fn command(input: &mut Unstructured<'_>, lun: &Lun) -> Result<()> {
    let nexus = NexusId::new(input.int_in_range(1..=2_u64)?);
    let lun_field = if input.ratio(1, 16)? { input.arbitrary()? } else { 0 };
    let mut cdb: [u8; 16] = input.arbitrary()?;
    let cdb_len = if input.ratio(1, 32)? { input.int_in_range(0..=15_usize)? } else { cdb.len() };
    if input.arbitrary()? {
        // The control byte and the high bytes of addresses and lengths are mostly zero in what is not refused.
        cdb[15] = 0;
        cdb[2..8].fill(0);
        cdb[10..12].fill(0);
    }
    let direction = *input.choose(&[Direction::None, Direction::Read, Direction::Write, Direction::Both])?;
    let expected_len = match input.int_in_range(0..=3_u8)? {
        0 => input.arbitrary()?,
        1 => u32::from(input.arbitrary::<u8>()?),
        _ => u32::from(input.arbitrary::<u8>()?) * 512,
    };
    let cdb = cdb.get(..cdb_len).unwrap_or(&cdb);
    let command = Command { lun: lun_field, cdb, nexus, expected_len, direction };
    let (task, action) = Task::start(lun, &command);
    assert_eq!(task.nexus(), nexus);
    let completion = carry_out(input, lun, task, action, &command)?;
    check(&completion, &command);
    Ok(())
}

fn carry_out(
    input: &mut Unstructured<'_>,
    lun: &Lun,
    mut task: Task,
    mut action: Action,
    command: &Command<'_>,
) -> Result<Completion> {
    let mut asked = false;
    for _ in 0..MOST_STEPS {
        action = match action {
            Action::GetData { length } => {
                assert!(!asked, "asks twice for its data");
                asked = true;
                assert!(
                    (1..=command.expected_len.min(MOST_DATA)).contains(&length),
                    "asks for {length} bytes"
                );
                assert!(matches!(command.direction, Direction::Write | Direction::Both));
                task.handle_data(lun, body(input, length as usize)?)
            }
            Action::Io(io) => {
                disk::check(&io);
                assert!(!io.is_write() || !lun.options().read_only, "writes to a read-only disk: {io:?}");
                let outcome = disk::outcome(input, &io)?;
                task.handle_io(lun, outcome)
            }
            Action::Finish(completion) => return Ok(completion),
        };
    }
    panic!("a command that does not end: {:02x?}", command.cdb);
}

/// Data of the command, cut somewhere: from the input as far as it goes, then as the disk holds it.
fn body(input: &mut Unstructured<'_>, len: usize) -> Result<Vec<Bytes>> {
    let own = if input.arbitrary()? { len.min(64).min(input.len()) } else { 0 };
    let mut pieces = vec![Bytes::copy_from_slice(input.bytes(own)?)];
    let mut at = own;
    while at < len {
        let piece = disk::pattern(at as u64, len - at);
        at += piece.len();
        pieces.push(piece);
    }
    pieces.retain(|piece| !piece.is_empty());
    Ok(pieces)
}

fn check(completion: &Completion, command: &Command<'_>) {
    let Completion { status, sense, data_in, data_length } = completion;
    let failed = *status == Status::CheckCondition;
    assert_eq!(failed, sense.is_some(), "sense data goes with CHECK CONDITION: {completion:?}");
    if !data_in.is_empty() {
        assert_eq!(data_in.len(), *data_length as usize, "{:02x?}: {completion:?}", command.cdb);
        assert!(data_in.len() as u64 <= u64::from(MAX_TRANSFER_BLOCKS) * 512);
    }
    if let Some(sense) = sense {
        let bytes = sense.to_bytes();
        assert!((8..=252).contains(&bytes.len()), "{} bytes of sense data", bytes.len());
        assert!(data_in.is_empty(), "data beside a failure");
    }
}
