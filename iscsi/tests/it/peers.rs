//! The initiators that matter, as they were seen on the wire.

use std::collections::BTreeSet;

use iscsi::Credentials;
use md5::{Digest, Md5};

use crate::pair::{
    INITIATOR, Pair, READ, TARGET, WRITE, account, open_target, read10, target_named, write10,
};
use crate::wire::Pdu;

const SECRET: &str = "abcdefghijkl1234";

fn ipxe_target() -> std::sync::Arc<iscsi::Target> {
    target_named(
        TARGET,
        Credentials {
            initiator: Some(INITIATOR.into()),
            chap: Some(account(INITIATOR, SECRET)),
            mutual: None,
        },
    )
}

/// iPXE takes its CmdSN from ExpCmdSN and its StatSN from every PDU that comes, whatever it is.
fn ipxe_receives(pair: &mut Pair) -> Pdu {
    let pdu = pair.receive();
    pair.cmd_sn = pdu.word(28);
    pdu
}

fn ipxe_logs_in(pair: &mut Pair) {
    pair.cmd_sn = 0;
    let first = [
        &format!("InitiatorName={INITIATOR}"),
        &format!("TargetName={TARGET}"),
        "SessionType=Normal",
        "AuthMethod=CHAP,None",
    ];
    let request = pair.login(0x81).with_text(&first);
    pair.send(&request);
    let response = ipxe_receives(pair);
    assert_eq!((response.login_status(), response.flags() & 0x80), (0, 0));
    assert_eq!(response.value("AuthMethod").as_deref(), Some("CHAP"));

    let request = pair.login(0x81).with_text(&["CHAP_A=5"]);
    pair.send(&request);
    let response = ipxe_receives(pair);
    assert_eq!((response.flags() & 0x80, response.value("CHAP_A").as_deref()), (0, Some("5")));
    let challenge = response.value("CHAP_C").unwrap();
    let challenge: Vec<u8> = (2..challenge.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&challenge[at..at + 2], 16).unwrap())
        .collect();
    let identifier: u8 = response.value("CHAP_I").unwrap().parse().unwrap();
    let digest = Md5::digest([&[identifier], SECRET.as_bytes(), &challenge].concat());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let request =
        pair.login(0x81).with_text(&[&format!("CHAP_N={INITIATOR}"), &format!("CHAP_R=0x{digest}")]);
    pair.send(&request);
    assert_eq!(ipxe_receives(pair).flags(), 0x81);

    let operational = [
        "HeaderDigest=None",
        "DataDigest=None",
        "MaxConnections=1",
        "InitialR2T=Yes",
        "ImmediateData=No",
        "MaxRecvDataSegmentLength=8192",
        "MaxBurstLength=262144",
        "FirstBurstLength=65536",
        "DefaultTime2Wait=0",
        "DefaultTime2Retain=0",
        "MaxOutstandingR2T=1",
        "DataPDUInOrder=Yes",
        "DataSequenceInOrder=Yes",
        "ErrorRecoveryLevel=0",
    ];
    let request = pair.login(0x87).with_text(&operational);
    pair.send(&request);
    let response = ipxe_receives(pair);
    assert_eq!((response.login_status(), response.flags()), (0, 0x87));
    assert!(response.text().iter().all(|pair| !pair.ends_with("=Reject")), "iPXE gives up on any Reject");
    assert_eq!(response.value("MaxBurstLength").as_deref(), Some("262144"));
    assert_eq!(response.value("InitialR2T").as_deref(), Some("Yes"));
    assert_eq!(response.value("ImmediateData").as_deref(), Some("No"));
}

#[test]
fn ipxe_boots() {
    let target = ipxe_target();
    let mut pair = Pair::new(&[&target]);
    ipxe_logs_in(&mut pair);
    let mut seen = BTreeSet::new();
    let mut run = |pair: &mut Pair, cdb: &[u8], flags: u8, len: u32| {
        let command = pair.scsi(cdb, flags, len);
        pair.send(&command);
        let mut data = vec![0; len as usize];
        loop {
            let pdu = ipxe_receives(pair);
            seen.insert(pdu.opcode());
            assert_eq!(pdu.itt(), command.itt());
            match pdu.opcode() {
                0x21 => return (pdu.bhs[3], data),
                0x25 => {
                    let offset = pdu.word(40) as usize;
                    data[offset..offset + pdu.data.len()].copy_from_slice(&pdu.data);
                    if pdu.flags() & 0x01 != 0 {
                        assert_ne!(pdu.flags() & 0x80, 0, "status only with F");
                        assert_eq!(offset + pdu.data.len(), len as usize, "status only behind all data");
                        return (pdu.bhs[3], data);
                    }
                }
                0x31 => {
                    let (ttt, offset, length) = (pdu.word(20), pdu.word(40), pdu.word(44));
                    for data_sn in 0..length / 512 {
                        let is_final = data_sn + 1 == length / 512;
                        let out = Pdu::new(0x05, if is_final { 0x80 } else { 0 }, command.itt())
                            .with(20, ttt)
                            .with(36, data_sn)
                            .with(40, offset + data_sn * 512)
                            .with_data(vec![0x77; 512]);
                        pair.send(&out);
                    }
                }
                opcode => panic!("iPXE drops the session on opcode {opcode:02x}"),
            }
        }
    };
    assert_eq!(run(&mut pair, &[0], 0, 0).0, 2, "unit attention");
    assert_eq!(run(&mut pair, &[0], 0, 0).0, 0);
    let (status, capacity) = run(&mut pair, &[0x25], READ, 8);
    assert_eq!((status, &capacity[4..]), (0, &[0, 0, 2, 0][..]));
    pair.disk[512..].iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
    let (status, data) = run(&mut pair, &read10(1, 127), READ, 127 * 512);
    assert!(status == 0 && data == pair.disk[512..128 * 512]);
    let (status, data) = run(&mut pair, &read10(0, 6656), READ, 6656 * 512);
    assert!(status == 0 && data == pair.disk[..6656 * 512]);
    assert_eq!(run(&mut pair, &write10(9, 600), WRITE, 600 * 512).0, 0);
    assert!(pair.disk[9 * 512..609 * 512].iter().all(|byte| *byte == 0x77));
    assert_eq!(run(&mut pair, &read10(0xffff_0000, 1), READ, 512).0, 2);
    assert_eq!(seen, BTreeSet::from([0x21, 0x25, 0x31]));
    assert_eq!(pair.connection.poll_timeout(), None, "and it is never pinged");
}

#[test]
fn a_target_that_goes_away_tells_ipxe_nothing() {
    let target = ipxe_target();
    let mut pair = Pair::new(&[&target]);
    ipxe_logs_in(&mut pair);
    target.remove();
    pair.expect_silence();
    assert!(pair.connection.is_closed());
}

#[test]
fn open_iscsi_logs_in_beside_ipxe() {
    let target = open_target();
    let mut pair = Pair::new(&[&target]);
    pair.isid = [0, 2, 0x3d, 0, 0, 1];
    let security = [
        &format!("InitiatorName={INITIATOR}"),
        "InitiatorAlias=c1",
        &format!("TargetName={TARGET}"),
        "SessionType=Normal",
        "AuthMethod=None",
    ];
    let request = pair.login(0x81).with_text(&security);
    pair.send(&request);
    assert_eq!(pair.receive().flags(), 0x81);
    let operational = [
        "HeaderDigest=None,CRC32C",
        "DataDigest=None",
        "DefaultTime2Wait=2",
        "DefaultTime2Retain=0",
        "IFMarker=No",
        "OFMarker=No",
        "ErrorRecoveryLevel=0",
        "InitialR2T=No",
        "ImmediateData=Yes",
        "MaxBurstLength=16776192",
        "FirstBurstLength=262144",
        "MaxOutstandingR2T=1",
        "MaxConnections=1",
        "DataPDUInOrder=Yes",
        "DataSequenceInOrder=Yes",
        "MaxRecvDataSegmentLength=262144",
    ];
    let request = pair.login(0x87).with_text(&operational);
    pair.send(&request);
    let response = pair.receive();
    assert_eq!((response.login_status(), response.flags()), (0, 0x87));
    let expected = [
        "HeaderDigest=None",
        "DataDigest=None",
        "DefaultTime2Wait=2",
        "DefaultTime2Retain=0",
        "IFMarker=No",
        "OFMarker=No",
        "ErrorRecoveryLevel=0",
        "InitialR2T=No",
        "ImmediateData=Yes",
        "MaxBurstLength=1048576",
        "MaxOutstandingR2T=1",
        "MaxConnections=1",
        "DataPDUInOrder=Yes",
        "DataSequenceInOrder=Yes",
        "FirstBurstLength=65536",
        "MaxRecvDataSegmentLength=262144",
    ];
    assert_eq!(response.text(), expected, "each offer is answered once, and only offers are");
    pair.clear_attention();
}

#[test]
fn libiscsi_logs_in_in_one_step() {
    let target = open_target();
    let mut pair = Pair::new(&[&target]);
    let keys = [
        "SessionType=Normal",
        "HeaderDigest=None,CRC32C",
        "DataDigest=None",
        "InitialR2T=No",
        "ImmediateData=Yes",
        "MaxBurstLength=262144",
        "FirstBurstLength=262144",
        "DefaultTime2Wait=2",
        "DefaultTime2Retain=0",
        "MaxOutstandingR2T=1",
        "ErrorRecoveryLevel=0",
        "IFMarker=No",
        "OFMarker=No",
        "MaxConnections=1",
        "MaxRecvDataSegmentLength=262144",
        "DataPDUInOrder=Yes",
        "DataSequenceInOrder=Yes",
    ];
    pair.log_in(&keys);
    assert_eq!(pair.command(&read10(0, 8), READ, 4096).flags(), 0x81);
}
