//! What LIO tells of its sessions, by files that are cheap to read. It tells nothing by itself, and keeps little: of each
//! initiator the newest session, and of all log-ins that it refused the last.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use crate::{Refusals, Session};

/// What LIO says of a session that initiators may use.
const LOGGED_IN: &str = "TARG_SESS_STATE_LOGGED_IN";

/// The session of the initiator whose entry that is; `None` where it has none now.
pub(super) fn session(entry: &Path) -> Option<Session> {
    parse(&fs::read_to_string(entry.join("info")).ok()?)
}

/// ```text
/// LIO Session ID: 2   ISID: 0x80 12 34 56 dd 65  TSIH: 2  SessionType: Normal
/// Session State: TARG_SESS_STATE_LOGGED_IN
///    Address 192.168.69.3 TCP  StatSN: 0x1a00d3e6
/// ```
fn parse(info: &str) -> Option<Session> {
    let behind = |mark: &str| info.split(mark).nth(1)?.split_whitespace().next();
    if behind("Session State: ")? != LOGGED_IN {
        return None;
    }
    let peer = behind("Address ").and_then(|text| {
        // Some kernels write it with its port.
        text.parse().ok().or_else(|| text.parse().ok().map(|address: std::net::SocketAddr| address.ip()))
    });
    Some(Session { id: behind("LIO Session ID: ")?.parse().ok()?, peer })
}

/// The log-ins that the target `target`, a folder of LIO's, has refused since it was made.
pub(super) fn refusals(target: &Path) -> Option<Refusals> {
    let told = target.join("fabric_statistics");
    let read = |name: &str| Some(fs::read_to_string(told.join(name)).ok()?.trim().to_owned());
    Some(Refusals {
        count: read("iscsi_tgt_attr/login_fails")?.parse().ok()?,
        initiator: read("iscsi_tgt_attr/fail_intr_name").unwrap_or_default(),
        peer: read("iscsi_tgt_attr/fail_intr_addr").and_then(|text| text.parse::<IpAddr>().ok()),
        // The reason of the last one would not do: a wrong secret is counted twice, the second time as another failure.
        chap: read("iscsi_login_stats/authenticate_fails")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_and_none_is_none() {
        let info = "InitiatorName: iqn.x:pc1\nInitiatorAlias: \nLIO Session ID: 12   ISID: 0x80 12 34 56 dd 65  TSIH: 2  \
                    SessionType: Normal\nSession State: TARG_SESS_STATE_LOGGED_IN\n----[iSCSI Connections]----\nCID: 1  \
                    Connection State: TARG_CONN_STATE_LOGGED_IN\n   Address 192.168.69.3 TCP  StatSN: 0x1a00d3e6\n";
        let peer = Some([192, 168, 69, 3].into());
        assert_eq!(parse(info), Some(Session { id: 12, peer }));
        assert_eq!(parse(&info.replace("69.3 TCP", "69.3:34567 TCP")), Some(Session { id: 12, peer }));
        assert_eq!(parse(&info.replace("STATE_LOGGED_IN", "STATE_FAILED")), None);
        assert_eq!(parse("No active iSCSI Session for Initiator Endpoint: iqn.x:pc1\n"), None);
        assert_eq!(parse(""), None);
    }
}
