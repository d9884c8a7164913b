//! Operational parameters: what each key may hold, and what comes of the initiator's offer and our own value (RFC
//! 7143 13). The table is the whole of it; the login only calls [`Params::negotiate`].

use std::borrow::Cow;

use crate::limits::Limits;
use crate::pdu::Digests;
use crate::text;

/// What is in force when a key was not negotiated (RFC 7143 13), and what the negotiation made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Params {
    pub(crate) digests: Digests,
    pub(crate) initial_r2t: bool,
    pub(crate) immediate_data: bool,
    /// The initiator's: the longest data segment we may send.
    pub(crate) max_send_data_segment_length: u32,
    pub(crate) max_burst_length: u32,
    pub(crate) first_burst_length: u32,
    pub(crate) max_outstanding_r2t: u32,
    pub(crate) default_time_to_wait: u32,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            digests: Digests::default(),
            initial_r2t: true,
            immediate_data: true,
            max_send_data_segment_length: 8192,
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            max_outstanding_r2t: 1,
            default_time_to_wait: 2,
        }
    }
}

/// What the target answers to an offered key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The value that is now in force.
    Value(Cow<'static, str>),
    /// Nothing: the initiator only declared something.
    Nothing,
    /// The value is not one of this key's.
    Reject,
    /// There is no such key.
    NotUnderstood,
}

impl Answer {
    /// What is sent, if anything.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Value(value) => Some(value),
            Self::Nothing => None,
            Self::Reject => Some("Reject"),
            Self::NotUnderstood => Some("NotUnderstood"),
        }
    }

    fn number(value: Option<u32>) -> Self {
        value.map_or(Self::Reject, |value| Self::Value(value.to_string().into()))
    }

    fn boolean(value: Option<bool>) -> Self {
        value.map_or(Self::Reject, |value| Self::Value(if value { "Yes" } else { "No" }.into()))
    }

    fn choice(value: Option<&'static str>) -> Self {
        value.map_or(Self::Reject, |value| Self::Value(value.into()))
    }
}

impl Params {
    /// Takes the initiator's offer for one key. What is refused stays as it was.
    pub(crate) fn negotiate(&mut self, key: &str, offer: &str, ours: &Limits) -> Answer {
        match key {
            "HeaderDigest" => Answer::choice(digest(offer, &mut self.digests.header)),
            "DataDigest" => Answer::choice(digest(offer, &mut self.digests.data)),
            "InitialR2T" => Answer::boolean(set(&mut self.initial_r2t, boolean(offer))),
            "ImmediateData" => Answer::boolean(set(&mut self.immediate_data, boolean(offer))),
            "MaxRecvDataSegmentLength" => {
                match set(&mut self.max_send_data_segment_length, ranged(offer, 512, 0x00ff_ffff)) {
                    Some(_) => Answer::Nothing,
                    None => Answer::Reject,
                }
            }
            "MaxBurstLength" => {
                let result = ranged(offer, 512, 0x00ff_ffff).map(|offer| offer.min(ours.max_burst_length));
                Answer::number(set(&mut self.max_burst_length, result))
            }
            "FirstBurstLength" => {
                let most = ours.first_burst_length.min(self.max_burst_length);
                let result = ranged(offer, 512, 0x00ff_ffff).map(|offer| offer.min(most));
                Answer::number(set(&mut self.first_burst_length, result))
            }
            "MaxOutstandingR2T" => {
                let result = ranged(offer, 1, 65_535).map(|offer| offer.min(ours.max_outstanding_r2t.into()));
                Answer::number(set(&mut self.max_outstanding_r2t, result))
            }
            // The larger, and we need no time at all.
            "DefaultTime2Wait" => Answer::number(set(&mut self.default_time_to_wait, ranged(offer, 0, 3600))),
            // The smaller, and at error recovery level 0 no task outlives its connection.
            "DefaultTime2Retain" => Answer::number(ranged(offer, 0, 3600).map(|_| 0)),
            "MaxConnections" => Answer::number(ranged(offer, 1, 65_535).map(|_| 1)),
            "ErrorRecoveryLevel" => Answer::number(ranged(offer, 0, 2).map(|_| 0)),
            // Yes or Yes, No or Yes.
            "DataPDUInOrder" | "DataSequenceInOrder" => Answer::boolean(boolean(offer).map(|_| true)),
            "TaskReporting" => Answer::choice(first(offer, &["RFC3720"])),
            // RFC 7144: the smaller; 1 is RFC 7143.
            "iSCSIProtocolLevel" => Answer::number(ranged(offer, 0, 31).map(|offer| offer.min(1))),
            // RFC 7143 13.25: obsolete, and still not to be called unknown.
            "IFMarker" | "OFMarker" => Answer::boolean(boolean(offer).map(|_| false)),
            "IFMarkInt" | "OFMarkInt" => Answer::Reject,
            _ => Answer::NotUnderstood,
        }
    }

    /// The order in which offers that came together are taken: FirstBurstLength depends on MaxBurstLength.
    pub(crate) fn rank(key: &str) -> u8 {
        u8::from(key == "FirstBurstLength")
    }

    /// What is in force when the negotiation is over.
    pub(crate) fn settled(mut self) -> Self {
        self.first_burst_length = self.first_burst_length.min(self.max_burst_length);
        self
    }
}

/// Puts a value in force, if there is one.
fn set<T: Copy>(field: &mut T, value: Option<T>) -> Option<T> {
    if let Some(value) = value {
        *field = value;
    }
    value
}

fn boolean(offer: &str) -> Option<bool> {
    match offer {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

fn ranged(offer: &str, least: u32, most: u32) -> Option<u32> {
    text::number(offer).filter(|number| (least..=most).contains(number))
}

/// The first of the offered values that we know: the initiator lists what it likes best first.
fn first(offer: &str, known: &[&'static str]) -> Option<&'static str> {
    offer.split(',').find_map(|value| known.iter().copied().find(|known| *known == value))
}

fn digest(offer: &str, in_force: &mut bool) -> Option<&'static str> {
    let chosen = first(offer, &["None", "CRC32C"])?;
    *in_force = chosen == "CRC32C";
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(params: &mut Params, key: &str, offer: &str) -> Option<String> {
        params.negotiate(key, offer, &Limits::default()).text().map(str::to_owned)
    }

    #[test]
    fn each_key_has_the_result_function_of_the_rfc() {
        let table = [
            ("HeaderDigest", "None,CRC32C", Some("None")),
            ("HeaderDigest", "CRC32C,None", Some("CRC32C")),
            ("DataDigest", "X-ours,CRC32C", Some("CRC32C")),
            ("DataDigest", "X-ours", Some("Reject")),
            ("MaxConnections", "32", Some("1")),
            ("MaxConnections", "0", Some("Reject")),
            ("InitialR2T", "No", Some("No")),
            ("InitialR2T", "Yes", Some("Yes")),
            ("InitialR2T", "maybe", Some("Reject")),
            ("ImmediateData", "Yes", Some("Yes")),
            ("ImmediateData", "No", Some("No")),
            ("MaxRecvDataSegmentLength", "262144", None),
            ("MaxRecvDataSegmentLength", "511", Some("Reject")),
            ("MaxRecvDataSegmentLength", "16777216", Some("Reject")),
            ("MaxBurstLength", "16776192", Some("1048576")),
            ("MaxBurstLength", "262144", Some("262144")),
            ("FirstBurstLength", "262144", Some("65536")),
            ("FirstBurstLength", "8192", Some("8192")),
            ("DefaultTime2Wait", "2", Some("2")),
            ("DefaultTime2Wait", "3601", Some("Reject")),
            ("DefaultTime2Retain", "20", Some("0")),
            ("MaxOutstandingR2T", "1", Some("1")),
            ("MaxOutstandingR2T", "16", Some("8")),
            ("DataPDUInOrder", "No", Some("Yes")),
            ("DataSequenceInOrder", "Yes", Some("Yes")),
            ("ErrorRecoveryLevel", "2", Some("0")),
            ("ErrorRecoveryLevel", "3", Some("Reject")),
            ("TaskReporting", "FastAbort,RFC3720", Some("RFC3720")),
            ("iSCSIProtocolLevel", "2", Some("1")),
            ("IFMarker", "Yes", Some("No")),
            ("OFMarkInt", "2048~8192", Some("Reject")),
            ("X-com.example.speed", "warp", Some("NotUnderstood")),
            ("maxburstlength", "262144", Some("NotUnderstood")),
        ];
        for (key, offer, expected) in table {
            let got = answer(&mut Params::default(), key, offer);
            assert_eq!(got.as_deref(), expected, "{key}={offer}");
        }
    }

    #[test]
    fn the_first_burst_is_never_longer_than_a_burst() {
        let mut params = Params::default();
        answer(&mut params, "MaxBurstLength", "8192");
        assert_eq!(answer(&mut params, "FirstBurstLength", "65536").as_deref(), Some("8192"));
        let mut params = Params::default();
        answer(&mut params, "MaxBurstLength", "8192");
        assert_eq!(params.settled().first_burst_length, 8192, "also where it was not negotiated");
    }

    #[test]
    fn a_refused_offer_changes_nothing() {
        let mut params = Params::default();
        answer(&mut params, "MaxBurstLength", "1");
        answer(&mut params, "HeaderDigest", "MD5");
        answer(&mut params, "InitialR2T", "no");
        assert_eq!(params, Params::default());
    }
}
