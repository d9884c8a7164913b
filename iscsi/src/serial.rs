//! Sequence numbers of commands, which wrap: RFC 7143 4.2.2 compares them as RFC 1982 serial numbers.

/// A CmdSN, ExpCmdSN or MaxCmdSN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CmdSn(pub(crate) u32);

impl CmdSn {
    /// The number `n` further on.
    pub(crate) const fn plus(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// How far `self` lies behind `earlier`, going forward; `None` if `self` comes before it.
    pub(crate) const fn since(self, earlier: Self) -> Option<u32> {
        let distance = self.0.wrapping_sub(earlier.0);
        if distance < 1 << 31 { Some(distance) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let last = CmdSn(u32::MAX);
        assert_eq!(last.plus(1), CmdSn(0));
        assert_eq!(CmdSn(3).since(last), Some(4));
        assert_eq!(last.since(CmdSn(3)), None);
        assert_eq!(last.since(last), Some(0));
    }
}
