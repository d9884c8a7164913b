//! RESERVE and RELEASE, the older of the two kinds of reservation (SPC-2, reservations). A session holds it, so
//! it ends with the session, and with a reset.

use super::task::{Failure, Step, Verdict};
use super::{Lun, NexusId};

/// SPC-2, RESERVE (6) command. Not while anyone is registered for persistent ones.
pub(super) fn reserve(lun: &Lun, nexus: NexusId) -> Verdict {
    lun.change(|state| {
        if state.persistent.is_in_use() || state.reserved_by.is_some_and(|holder| holder != nexus) {
            return Err(Failure::Conflict);
        }
        state.reserved_by = Some(nexus);
        Ok(Step::Done)
    })
}

/// SPC-2, RELEASE (6) command. Of a reservation that another session holds, or nobody, it does nothing.
pub(super) fn release(lun: &Lun, nexus: NexusId) -> Verdict {
    lun.change(|state| {
        if state.persistent.is_in_use() {
            return Err(Failure::Conflict);
        }
        state.reserved_by.take_if(|holder| *holder == nexus);
        Ok(Step::Done)
    })
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::testing::{A, B, Bench, sense};

    const RESERVE: [u8; 6] = [0x16, 0, 0, 0, 0, 0];
    const RELEASE: [u8; 6] = [0x17, 0, 0, 0, 0, 0];
    const READY: [u8; 6] = [0; 6];
    const MODE_SENSE: [u8; 6] = [0x1a, 0, 0x3f, 0, 255, 0];

    fn status(bench: &mut Bench, nexus: super::NexusId, cdb: &[u8]) -> Status {
        bench.run_as(nexus, cdb, &[]).status
    }

    fn two() -> Bench {
        let bench = Bench::new();
        bench.join(B);
        bench
    }

    #[test]
    fn a_reservation_keeps_others_out_until_its_holder_releases_it() {
        let mut bench = two();
        assert_eq!(status(&mut bench, A, &RESERVE), Status::Good);
        assert_eq!(status(&mut bench, A, &RESERVE), Status::Good);
        assert_eq!(status(&mut bench, B, &RESERVE), Status::ReservationConflict);
        assert_eq!(status(&mut bench, B, &RELEASE), Status::Good);
        for cdb in
            [&READY[..], &MODE_SENSE, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0]]
        {
            assert_eq!(status(&mut bench, A, cdb), Status::Good, "{cdb:02x?}");
            assert_eq!(status(&mut bench, B, cdb), Status::ReservationConflict, "{cdb:02x?}");
        }
        for cdb in [
            &[0x12, 0, 0, 0, 96, 0][..],
            &[0x03, 0, 0, 0, 18, 0],
            &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0],
            &[0x1e, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(status(&mut bench, B, cdb), Status::Good, "{cdb:02x?}");
        }
        assert_eq!(status(&mut bench, A, &RELEASE), Status::Good);
        assert_eq!(status(&mut bench, B, &RESERVE), Status::Good);
    }

    #[test]
    fn it_ends_with_the_session() {
        let mut bench = two();
        assert_eq!(status(&mut bench, A, &RESERVE), Status::Good);
        bench.lun.leave(A);
        assert_eq!(status(&mut bench, B, &RESERVE), Status::Good);
    }

    #[test]
    fn it_ends_with_a_reset_of_which_every_session_hears() {
        let mut bench = two();
        assert_eq!(status(&mut bench, A, &RESERVE), Status::Good);
        bench.lun.reset();
        for nexus in [A, B] {
            assert_eq!(sense(&bench.run_as(nexus, &RESERVE, &[])), (6, 0x29, 3));
        }
        assert_eq!(status(&mut bench, B, &RESERVE), Status::Good);
    }
}
