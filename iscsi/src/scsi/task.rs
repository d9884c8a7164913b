//! One command's life. A command is a chain of steps: each asks for data or for something on the disk, and
//! holds what to do with the answer, so a step can't be given what it did not ask for.

use std::fmt;

use block::Segments;
use bytes::Bytes;

use super::command::{Action, Command, Completion, NexusId};
use super::sense::{Condition, Sense};
use super::{Lun, dispatch};
use crate::io::{Io, IoOutcome};

/// What a command does when its data has come.
pub(super) type OnData = Box<dyn FnOnce(&Lun, Vec<Bytes>) -> Verdict + Send>;
/// What a command does when the disk has answered. It never sees [`IoOutcome::Failed`].
pub(super) type OnIo = Box<dyn FnOnce(&Lun, IoOutcome) -> Verdict + Send>;
/// The next step, or why there is none.
pub(super) type Verdict = Result<Step, Failure>;

/// What a command needs next.
pub(super) enum Step {
    /// That many bytes from the initiator by the CDB; it may have fewer to give.
    GetData(u32, OnData),
    /// Something done on the disk.
    Io(Io, OnIo),
    /// Nothing more: done.
    Done,
    /// Nothing more: done, and this is for the initiator.
    Data(Segments),
}

impl Step {
    pub(super) fn get_data(
        length: u32,
        then: impl FnOnce(&Lun, Vec<Bytes>) -> Verdict + Send + 'static,
    ) -> Verdict {
        Ok(Self::GetData(length, Box::new(then)))
    }

    pub(super) fn io(io: Io, then: impl FnOnce(&Lun, IoOutcome) -> Verdict + Send + 'static) -> Verdict {
        Ok(Self::Io(io, Box::new(then)))
    }

    /// The disk does it, and the command is done.
    pub(super) fn last_io(io: Io) -> Verdict {
        Self::io(io, |_, _| Ok(Self::Done))
    }

    /// Parameter data, cut to what the CDB allows (SPC-4, allocation length).
    pub(super) fn parameter_data(mut data: Vec<u8>, allocation_length: usize) -> Verdict {
        data.truncate(allocation_length);
        Ok(Self::Data(Bytes::from(data).into()))
    }
}

/// Why a command ends without GOOD.
#[derive(Debug)]
pub(super) enum Failure {
    /// CHECK CONDITION. Boxed: it is rare, and every step's result would carry its size.
    Check(Box<Sense>),
    /// RESERVATION CONFLICT.
    Conflict,
}

impl From<Sense> for Failure {
    fn from(sense: Sense) -> Self {
        Self::Check(Box::new(sense))
    }
}

impl From<Condition> for Failure {
    fn from(condition: Condition) -> Self {
        Sense::from(condition).into()
    }
}

enum Waiting {
    ForData(OnData),
    ForIo(OnIo),
    Ended,
}

/// A command being executed. Call [`start`](Task::start), then do what each [`Action`] says until one is
/// [`Finish`](Action::Finish). Dropping a task at any point aborts it; what it has done on the disk stays.
pub struct Task {
    nexus: NexusId,
    /// Bytes that the initiator has for the command, and bytes of them that the CDB takes.
    data_out_len: u32,
    data_length: u32,
    waiting: Waiting,
}

impl Task {
    /// Begins `command`. Unit attentions and reservations are looked at here, and nowhere later.
    pub fn start(lun: &Lun, command: &Command<'_>) -> (Self, Action) {
        let mut task = Self {
            nexus: command.nexus,
            data_out_len: command.data_out_len(),
            data_length: 0,
            waiting: Waiting::Ended,
        };
        let action = task.proceed(lun, dispatch::begin(lun, command));
        (task, action)
    }

    /// Goes on with the data that [`Action::GetData`] asked for, all of it, in order.
    pub fn handle_data(&mut self, lun: &Lun, data: Vec<Bytes>) -> Action {
        let verdict = match self.wait_no_more() {
            Waiting::ForData(then) => then(lun, data),
            Waiting::ForIo(_) | Waiting::Ended => Err(Condition::INTERNAL_TARGET_FAILURE.into()),
        };
        self.proceed(lun, verdict)
    }

    /// Goes on with the answer to [`Action::Io`].
    pub fn handle_io(&mut self, lun: &Lun, outcome: IoOutcome) -> Action {
        let verdict = match (self.wait_no_more(), outcome) {
            (Waiting::ForIo(_), IoOutcome::Failed(kind)) => Err(Condition::of_disk_error(kind).into()),
            (Waiting::ForIo(then), outcome) => then(lun, outcome),
            (Waiting::ForData(_) | Waiting::Ended, _) => Err(Condition::INTERNAL_TARGET_FAILURE.into()),
        };
        self.proceed(lun, verdict)
    }

    /// The session that the command came through.
    #[must_use]
    pub fn nexus(&self) -> NexusId {
        self.nexus
    }

    fn wait_no_more(&mut self) -> Waiting {
        std::mem::replace(&mut self.waiting, Waiting::Ended)
    }

    fn proceed(&mut self, lun: &Lun, mut verdict: Verdict) -> Action {
        loop {
            return match verdict {
                Ok(Step::GetData(length, then)) => {
                    self.data_length = length;
                    let length = length.min(self.data_out_len);
                    if length == 0 {
                        verdict = then(lun, Vec::new());
                        continue;
                    }
                    self.waiting = Waiting::ForData(then);
                    Action::GetData { length }
                }
                Ok(Step::Io(io, then)) => {
                    self.waiting = Waiting::ForIo(then);
                    Action::Io(io)
                }
                Ok(Step::Done) => Action::Finish(Completion::good(self.data_length)),
                Ok(Step::Data(data)) => Action::Finish(Completion::data(data)),
                Err(Failure::Conflict) => Action::Finish(Completion::conflict()),
                Err(Failure::Check(sense)) => {
                    let sense = sense.in_format(lun.sense_format());
                    Action::Finish(Completion::failed(sense, self.data_length))
                }
            };
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = match self.waiting {
            Waiting::ForData(_) => "for data",
            Waiting::ForIo(_) => "for the disk",
            Waiting::Ended => "for nothing",
        };
        f.debug_struct("Task").field("nexus", &self.nexus).field("waiting", &waiting).finish()
    }
}
