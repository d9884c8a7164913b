//! Text in the full feature phase: SendTargets, and what else may be said there (RFC 7143 11.10, appendix C).

use block::Segments;
use bytes::Bytes;

use super::Session;
use crate::link::Link;
use crate::params::Answer;
use crate::pdu::{NO_TAG, RejectReason, TextRequest, TextResponse};
use crate::target::{Directory, Membership, Target};
use crate::text::{self, Answers};

/// An exchange that takes more than one request and response.
#[derive(Debug)]
pub(super) struct Exchange {
    itt: u32,
    ttt: u32,
    received: Vec<u8>,
    to_send: Bytes,
}

impl Session {
    pub(super) fn handle_text(
        &mut self,
        link: &mut Link,
        pdu: &TextRequest,
        data: &[u8],
        directory: &dyn Directory,
    ) -> Result<(), RejectReason> {
        let mut exchange = match self.exchange.take() {
            Some(exchange) if pdu.ttt != NO_TAG => {
                if (exchange.ttt, exchange.itt) != (pdu.ttt, pdu.itt) {
                    return Err(RejectReason::InvalidPduField);
                }
                exchange
            }
            // A new exchange ends one that was left standing.
            _ if pdu.ttt == NO_TAG => {
                Exchange { itt: pdu.itt, ttt: NO_TAG, received: Vec::new(), to_send: Bytes::new() }
            }
            _ => return Err(RejectReason::InvalidPduField),
        };
        if exchange.received.len() + data.len() > self.limits.max_text {
            return Err(RejectReason::ProtocolError);
        }
        exchange.received.extend_from_slice(data);
        if !pdu.goes_on && exchange.to_send.is_empty() {
            let received = std::mem::take(&mut exchange.received);
            let pairs = text::pairs(&received).map_err(|_| RejectReason::ProtocolError)?;
            exchange.to_send = self.answer(&pairs, directory).into_bytes().into();
        }
        let most = self.params.max_send_data_segment_length as usize;
        let part = exchange.to_send.split_to(exchange.to_send.len().min(most));
        let goes_on = !exchange.to_send.is_empty();
        let is_final = pdu.is_final && !pdu.goes_on && !goes_on;
        if is_final {
            exchange.ttt = NO_TAG;
        } else {
            self.next_ttt = self.next_ttt.wrapping_add(1) % NO_TAG;
            exchange.ttt = self.next_ttt;
        }
        let response = TextResponse { is_final, goes_on, lun: pdu.lun, itt: pdu.itt, ttt: exchange.ttt };
        let numbers = link.status_numbers();
        link.send(response.encode(&numbers), Segments::from(part));
        self.exchange = (!is_final).then_some(exchange);
        Ok(())
    }

    fn answer(&mut self, pairs: &[(&str, &str)], directory: &dyn Directory) -> Answers {
        let mut answers = Answers::default();
        for &(key, value) in pairs {
            match key {
                "SendTargets" => self.send_targets(value, directory, &mut answers),
                "MaxRecvDataSegmentLength" => {
                    if let Some(answer) = self.params.negotiate(key, value, &self.limits).text() {
                        answers.push(key, answer);
                    }
                }
                // All others are settled by the login.
                _ => {
                    let answer = self.params.clone().negotiate(key, value, &self.limits);
                    let known = answer != Answer::NotUnderstood;
                    answers.push(key, if known { "Reject" } else { "NotUnderstood" });
                }
            }
        }
        answers
    }

    /// RFC 7143 appendix C. A discovery session may list what the initiator may see, or one of that; any other session
    /// its own target and no more.
    fn send_targets(&self, value: &str, directory: &dyn Directory, answers: &mut Answers) {
        let name = value.to_ascii_lowercase();
        if let Some(own) = self.disk.as_ref().map(Membership::target) {
            match value {
                "All" => answers.push("SendTargets", "Reject"),
                _ if value.is_empty() || name == own.name() => self.list(own, answers),
                _ => {}
            }
            return;
        }
        if value != "All" && !name.contains('.') {
            answers.push("SendTargets", "Reject");
            return;
        }
        for target in directory.targets_for(&self.initiator) {
            let is_asked_for = value == "All" || name == target.name();
            let chap = target.credentials().chap.as_ref();
            let may_see = chap.is_none_or(|account| self.proved.as_ref() == Some(account));
            if is_asked_for && may_see && answers.len() < self.limits.max_text {
                self.list(&target, answers);
            }
        }
    }

    fn list(&self, target: &Target, answers: &mut Answers) {
        answers.push("TargetName", target.name());
        answers.push("TargetAddress", &format!("{},1", self.portal));
    }
}
