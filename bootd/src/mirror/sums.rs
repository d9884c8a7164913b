//! Lists of SHA-256 sums, as mirrors have them beside their files: what `sha256sum` writes, and Debian's `Release`.

use std::collections::HashMap;

/// The longest list that is read, in bytes: Debian's whole `Release` has 200 KiB. A longer one is an error.
pub(super) const MAX_LIST: u64 = 16 << 20;

/// A SHA-256 sum.
pub(crate) type Sum = [u8; 32];

/// Files and their sums, by their paths below the mirror's root.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sums(HashMap<String, Sum>);

impl Sums {
    /// Reads the list that lies at `path`, whose names are relative to its own folder. Lines that are no sum of a file
    /// are skipped: comments, signatures, sums of other kinds.
    pub(super) fn parse(path: &str, text: &str) -> Self {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let has_sections = text.lines().any(|line| line.trim_end() == "SHA256:");
        let mut inside = !has_sections;
        let mut sums = HashMap::new();
        for line in text.lines() {
            if has_sections && !line.starts_with(' ') {
                inside = line.trim_end() == "SHA256:";
                continue;
            }
            if !inside {
                continue;
            }
            let found = if has_sections { in_release(line) } else { by_sha256sum(line) };
            if let Some((name, sum)) = found {
                let name = name.strip_prefix("./").unwrap_or(name);
                let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                sums.insert(path, sum);
            }
        }
        Self(sums)
    }

    /// The sum of the file at `path`.
    pub(super) fn of(&self, path: &str) -> Option<Sum> {
        self.0.get(path).copied()
    }

    /// How many files it lists.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// `SUM  NAME`, where the second blank is a star for files that were read as binary.
fn by_sha256sum(line: &str) -> Option<(&str, Sum)> {
    let (sum, name) = line.split_once(' ')?;
    let name = name.strip_prefix([' ', '*']).unwrap_or(name).trim_end();
    Some((name, parse_sum(sum)?)).filter(|(name, _)| !name.is_empty())
}

/// ` SUM SIZE NAME`
fn in_release(line: &str) -> Option<(&str, Sum)> {
    let mut words = line.split_whitespace();
    let (sum, _size, name) = (words.next()?, words.next()?, words.next()?);
    Some((name, parse_sum(sum)?))
}

/// 64 hexadecimal digits.
pub(crate) fn parse_sum(text: &str) -> Option<Sum> {
    let bytes = text.as_bytes();
    let mut sum = [0; 32];
    if bytes.len() != 64 || !bytes.is_ascii() {
        return None;
    }
    for (byte, pair) in sum.iter_mut().zip(bytes.chunks_exact(2)) {
        let digit = |at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(sum)
}

/// The same digits again.
pub(crate) fn show_sum(sum: &Sum) -> String {
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_as_sha256sum_writes_them() {
        let (a, b) = ("a".repeat(64), "0123456789ABCDEF".repeat(4));
        let text = format!(
            "# a comment\n{a}  ./netboot/linux\n{b} *initrd.gz\nd41d8cd98f00b204e9800998ecf8427e  md5\n{a}\n{a}  \n"
        );
        let sums = Sums::parse("dists/images/SHA256SUMS", &text);
        assert_eq!(sums.len(), 2);
        assert_eq!(sums.of("dists/images/netboot/linux"), Some([0xaa; 32]));
        assert_eq!(show_sum(&sums.of("dists/images/initrd.gz").unwrap()), b.to_lowercase());
        assert_eq!(sums.of("netboot/linux"), None);
        assert!(Sums::parse("SHA256SUMS", &text).of("initrd.gz").is_some());
    }

    #[test]
    fn sums_in_a_release_file() {
        let (sum, md5) = ("1".repeat(64), "2".repeat(32));
        let text = format!(
            "Origin: Debian\nMD5Sum:\n {md5}  100 main/x\nSHA256:\n {sum}    1484 main/binary-amd64/Release\n \
             {md5} 1 main/no\nAcquire-By-Hash: yes\n {sum} 5 main/outside\n"
        );
        let sums = Sums::parse("dists/bookworm/Release", &text);
        assert_eq!(sums.len(), 1);
        assert_eq!(sums.of("dists/bookworm/main/binary-amd64/Release"), Some([0x11; 32]));
    }

    #[test]
    fn what_is_no_sum_is_none() {
        for text in [
            "",
            "g".repeat(64).as_str(),
            &"a".repeat(63),
            &"a".repeat(65),
            &"ä".repeat(32),
            &format!("+{}", "a".repeat(63)),
        ] {
            assert_eq!(parse_sum(text), None, "{text}");
        }
    }
}
