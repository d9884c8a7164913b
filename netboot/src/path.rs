//! How long the packets may be that reach a machine whole, found out by sending some.
//!
//! A network that carries less than Ethernet's 1500 bytes and does not say so is the hardest of all to see: short packets,
//! and so address, options and errors, get through, and the first block of a file does not. A router that can't pass a
//! packet on should say what it can (RFC 1191); switches never do, and firewalls eat what routers say. So the length is searched for
//! between one that gets there and one that doesn't.
//!
//! The order of calls: [`PathSearch::poll`] for the length of the next packet, [`PathSearch::handle`] with what became of it, until
//! there is a [`PathReport`].

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// How often a packet is sent before silence means that it does not get there. One of a hundred is lost by itself.
const TRIES: u8 = 3;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathAnswer {
    /// It came back.
    Reply,
    /// Somebody says that it is too long, and perhaps which would not be, in bytes.
    TooLong(Option<u16>),
    /// Nothing came back.
    Silence,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathReport {
    /// The machine does not answer at all, so nothing is known.
    NoAnswer,
    /// Packets of that many bytes get there.
    Whole(u16),
    /// Not all do.
    Narrow {
        /// The longest that do, in bytes.
        reach: u16,
        /// The length that should, in bytes.
        of: u16,
        /// Whether somebody on the way says so.
        told: bool,
    },
}

/// The search.
#[derive(Debug, Clone)]
pub struct PathSearch {
    /// The longest wanted.
    most: u16,
    /// The longest that got there; `None`: the first is not yet answered.
    reached: Option<u16>,
    /// The shortest that did not.
    lost: u16,
    /// The length of the packet that is being tried.
    trying: u16,
    tries: u8,
    told: bool,
    /// What somebody last said is not too long.
    said: Option<u16>,
    report: Option<PathReport>,
}

impl PathSearch {
    /// Between `least` bytes, which every network carries, and `most`, both with the IP header.
    #[must_use]
    pub fn new(least: u16, most: u16) -> Self {
        let lost = most.saturating_add(1);
        Self { most, reached: None, lost, trying: least, tries: 0, told: false, said: None, report: None }
    }

    /// The length of the packet to send now, in bytes.
    ///
    /// # Errors
    /// None: what was found, at the end.
    pub fn poll(&self) -> Result<u16, PathReport> {
        self.report.map_or(Ok(self.trying), Err)
    }

    /// What became of that packet.
    pub fn handle(&mut self, answer: PathAnswer) {
        if self.report.is_some() {
            return;
        }
        let mut hint = None;
        match answer {
            PathAnswer::Reply => {
                hint = match self.reached {
                    // Mostly all is well.
                    None => Some(self.most),
                    // What was said is true, and most likely the whole truth.
                    Some(_) => {
                        self.said.filter(|said| *said == self.trying).map(|said| said.saturating_add(1))
                    }
                };
                self.reached = Some(self.trying);
            }
            PathAnswer::Silence => {
                self.tries += 1;
                if self.tries < TRIES {
                    return;
                }
                self.lost = self.trying;
            }
            PathAnswer::TooLong(most) => {
                self.told = true;
                self.lost = self.trying;
                // Whoever says so may be wrong, or there is a narrower place behind: it is tried.
                hint = most;
                self.said = most;
            }
        }
        self.tries = 0;
        self.next(hint);
    }

    fn next(&mut self, hint: Option<u16>) {
        let Some(reached) = self.reached else {
            self.report = Some(PathReport::NoAnswer);
            return;
        };
        if reached >= self.most {
            self.report = Some(PathReport::Whole(reached));
        } else if reached + 1 >= self.lost {
            self.report = Some(PathReport::Narrow { reach: reached, of: self.most, told: self.told });
        } else {
            let within = hint.filter(|hint| (reached + 1..self.lost).contains(hint));
            // What gets there is mostly little less than what does not, and one more packet is cheaper than a wait.
            let gap = self.lost - reached;
            self.trying = within.unwrap_or(reached + gap.div_ceil(2).min(gap - 1));
        }
    }
}

impl PathReport {
    /// What it means for the machine at that address, and what to do, in words.
    #[must_use]
    pub fn explain(&self, address: Ipv4Addr) -> String {
        match *self {
            Self::NoAnswer => format!(
                "{address} does not answer the shortest ping, so it can't be told which packets reach it. It is off, at a point \
                 where nothing of it answers (a menu of iPXE does), or a firewall keeps pings from it."
            ),
            Self::Whole(most) => format!(
                "Packets of {most} bytes, the longest that are sent, reach {address} and come back: the network is not too narrow."
            ),
            Self::Narrow { reach, of, told } => {
                let who = match told {
                    true => "as a router on the way says",
                    false => "and nobody on the way says so",
                };
                let cause = match of - reach {
                    4 | 8 => {
                        " It is a switch, probably, that counts the VLAN tag as part of a frame: raise its MTU."
                    }
                    _ => "",
                };
                format!(
                    "{of}-byte packets do not reach {address}, {who}; those of {reach} bytes do.{cause} Have the network carry {of} bytes \
                     (tunnels, VPNs and VLANs take some of them; jumbo frames must be on everywhere or nowhere). Until then, let this \
                     server send no more on this way, by which TFTP and TCP then go: ip route change SUBNET via ROUTER mtu {reach}, or \
                     ip link set dev INTERFACE mtu {reach} where there is no router between."
                )
            }
        }
    }
}

impl fmt::Display for PathReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer => f.write_str("no answer"),
            Self::Whole(most) => write!(f, "{most} bytes"),
            Self::Narrow { reach, of, .. } => write!(f, "{reach} of {of} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches where packets fare like that, and says how many it took and how many of them were waited for in vain.
    fn search(mut answer: impl FnMut(u16, u32) -> PathAnswer) -> (PathReport, u32, u32) {
        let mut search = PathSearch::new(68, 1500);
        let (mut packets, mut silent) = (0, 0);
        loop {
            let len = match search.poll() {
                Ok(len) => len,
                Err(report) => return (report, packets, silent),
            };
            packets += 1;
            assert!(packets < 100, "without end");
            let answer = answer(len, packets);
            silent += u32::from(answer == PathAnswer::Silence);
            search.handle(answer);
        }
    }

    fn mute(carries: u16) -> impl FnMut(u16, u32) -> PathAnswer {
        move |len, _| if len <= carries { PathAnswer::Reply } else { PathAnswer::Silence }
    }

    #[test]
    fn the_longest_that_gets_there_is_found_whatever_it_is() {
        for carries in 68..1500 {
            let (report, packets, silent) = search(mute(carries));
            assert_eq!(report, PathReport::Narrow { reach: carries, of: 1500, told: false });
            assert!(packets <= 40 && silent <= 36, "{packets} packets, {silent} in vain, for {carries}");
        }
        for carries in [1500, 9000] {
            assert_eq!(search(mute(carries)), (PathReport::Whole(1500), 2, 0));
        }
        assert_eq!(search(mute(0)), (PathReport::NoAnswer, 3, 3));
    }

    #[test]
    fn a_router_that_speaks_saves_the_search_and_is_not_believed_blindly() {
        let says = |len, said| if len <= 1400 { PathAnswer::Reply } else { PathAnswer::TooLong(said) };
        let told = PathReport::Narrow { reach: 1400, of: 1500, told: true };
        let (report, packets, _) = search(|len, _| says(len, Some(1400)));
        assert_eq!(report, told);
        assert_eq!(packets, 4);
        // What it says is nonsense, or too much, or nothing.
        for said in [None, Some(0), Some(68), Some(1000), Some(1450), Some(1500), Some(9000)] {
            assert_eq!(search(|len, _| says(len, said)).0, told, "{said:?}");
        }
    }

    #[test]
    fn what_is_lost_now_and_then_is_not_too_long() {
        let (report, ..) = search(|_, n| match n % 3 {
            0 => PathAnswer::Reply,
            _ => PathAnswer::Silence,
        });
        assert_eq!(report, PathReport::Whole(1500));
    }

    #[test]
    fn it_says_what_to_do() {
        let address = Ipv4Addr::new(10, 9, 0, 7);
        let text = PathReport::Narrow { reach: 1468, of: 1500, told: false }.explain(address);
        assert!(text.starts_with(
            "1500-byte packets do not reach 10.9.0.7, and nobody on the way says so; those of 1468 bytes do."
        ));
        assert!(text.contains("mtu 1468") && !text.contains("VLAN tag"), "{text}");
        assert!(
            PathReport::Narrow { reach: 1496, of: 1500, told: false }.explain(address).contains("VLAN tag")
        );
    }
}
