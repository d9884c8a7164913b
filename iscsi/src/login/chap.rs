//! The hash of CHAP (RFC 1994 4.1; RFC 7143 12.1.3 for the algorithms).

use md5::Digest;

/// A CHAP algorithm, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Md5 = 5,
    Sha1 = 6,
    Sha256 = 7,
    Sha3_256 = 8,
}

impl Algorithm {
    /// The algorithm with this number, if we know it.
    pub(crate) const fn from_number(number: u32) -> Option<Self> {
        match number {
            5 => Some(Self::Md5),
            6 => Some(Self::Sha1),
            7 => Some(Self::Sha256),
            8 => Some(Self::Sha3_256),
            _ => None,
        }
    }

    /// Length of a response, and of the challenges that we make.
    pub(crate) const fn len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sha3_256 => 32,
        }
    }

    /// The response of one who knows `secret`.
    pub(crate) fn response(self, identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        fn hash<D: Digest>(identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
            D::new()
                .chain_update([identifier])
                .chain_update(secret)
                .chain_update(challenge)
                .finalize()
                .to_vec()
        }
        match self {
            Self::Md5 => hash::<md5::Md5>(identifier, secret, challenge),
            Self::Sha1 => hash::<sha1::Sha1>(identifier, secret, challenge),
            Self::Sha256 => hash::<sha2::Sha256>(identifier, secret, challenge),
            Self::Sha3_256 => hash::<sha3::Sha3_256>(identifier, secret, challenge),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_the_hash_of_identifier_secret_and_challenge() {
        // Each is the plain hash of the bytes 07 "secret" 01 02, as md5sum and its kin print it.
        let cases = [
            (Algorithm::Md5, "0x685ea5241d343e7d5ec57f91aef3a65d"),
            (Algorithm::Sha1, "0x6dd2dc6e58022f88e04a17e4731aaa485eff53ff"),
            (Algorithm::Sha256, "0x6ec90dfca179aa11d163f3e1575f87d82ec268be98bc9ca93726593f291eebb5"),
            (Algorithm::Sha3_256, "0x339bceec6ccdcc169764f4d03aaee43dbcee65f75784cdad7ef78371a82001ec"),
        ];
        for (algorithm, expected) in cases {
            let response = algorithm.response(7, b"secret", &[1, 2]);
            assert_eq!(response.len(), algorithm.len());
            assert_eq!(crate::text::to_hexadecimal(&response), expected, "{algorithm:?}");
            assert_eq!(Algorithm::from_number(algorithm as u32), Some(algorithm));
        }
        assert_eq!(Algorithm::from_number(9), None);
    }
}
