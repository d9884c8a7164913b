//! A virtual machine's serial console: read, waited for, typed at.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Context, Failure, Result, fail, interrupt};

/// How many lines of a console are shown with a failure.
const TAIL: usize = 40;

/// The most that a console may print, in bytes; what comes later is not kept. A boot prints about 20 KiB.
const LARGEST: usize = 8 << 20;

/// How long a key is held back after the one before: a BIOS keeps 15 keys at most and boot programs poll slowly.
const KEY_INTERVAL: Duration = Duration::from_millis(20);

/// How often it is looked whether somebody wants the wait to end.
const GLANCE: Duration = Duration::from_millis(200);

/// What a machine shows when nothing good will follow.
const HOPELESS: &[&str] = &["bootd-test: failed", "No bootable device", "Kernel panic"];

/// A console and what it has shown since the machine was switched on.
#[derive(Debug)]
pub struct Console {
    shown: Arc<Shown>,
    keyboard: ChildStdin,
    looked: usize,
}

#[derive(Debug, Default)]
struct Shown {
    screen: Mutex<Screen>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Screen {
    text: Vec<u8>,
    /// Where each read began, and when.
    times: Vec<(usize, Instant)>,
    ended: bool,
}

impl Console {
    /// Begins to read.
    pub(crate) fn new(mut screen: ChildStdout, keyboard: ChildStdin) -> Self {
        let shown = Arc::new(Shown::default());
        let reader = Arc::clone(&shown);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let count = screen.read(&mut buffer).unwrap_or_default();
                let mut screen = reader.lock();
                if count == 0 {
                    screen.ended = true;
                } else if screen.text.len() < LARGEST {
                    let at = screen.text.len();
                    screen.times.push((at, Instant::now()));
                    screen.text.extend(buffer.iter().take(count));
                }
                reader.changed.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        Self { shown, keyboard, looked: 0 }
    }

    /// Waits until `text` was shown after what was waited for last, and returns the rest of its line.
    ///
    /// # Errors
    /// When it does not come in that time, the machine ends before, or shows that it has given up.
    pub fn expect(&mut self, text: &str, within: Duration) -> Result<String> {
        self.expect_by(text, within, find)
    }

    /// The same for what is painted: a menu has no lines, and puts each of its words in its place.
    ///
    /// # Errors
    /// As for [`Console::expect`].
    pub fn expect_painted(&mut self, text: &str, within: Duration) -> Result {
        self.expect_by(text, within, find_painted).map(|_| ())
    }

    fn expect_by(
        &mut self,
        text: &str,
        within: Duration,
        find: impl Fn(&[u8], usize, &str) -> Option<(usize, String)>,
    ) -> Result<String> {
        let deadline = Instant::now() + within;
        let mut screen = self.shown.lock();
        loop {
            interrupt::check()?;
            if let Some((end, rest)) = find(&screen.text, self.looked, text) {
                self.looked = end;
                return Ok(rest);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let hopeless = screen.hopeless(self.looked);
            if let Some(why) = hopeless.or_else(|| left.is_zero().then_some("time ran out")) {
                drop(screen);
                fail!("waiting for {text:?} on the console, {why}:\n{}", self.tail());
            }
            screen = self
                .shown
                .changed
                .wait_timeout(screen, left.min(GLANCE))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// As [`expect`](Self::expect), and returns what was shown before it, too.
    ///
    /// # Errors
    /// As there.
    pub fn expect_after(&mut self, text: &str, within: Duration) -> Result<(String, String)> {
        let from = self.looked;
        let rest = self.expect(text, within)?;
        let screen = self.shown.lock();
        let before = screen.text.get(from..self.looked - text.len()).unwrap_or_default();
        Ok((readable(before), rest))
    }

    /// Checks that something good may still follow.
    ///
    /// # Errors
    /// When the machine has ended or shows that it has given up.
    pub fn check_hope(&self) -> Result {
        let screen = self.shown.lock();
        screen.hopeless(0).map_or(Ok(()), |why| Err(Failure::new(why)))
    }

    /// Whether `text` was ever shown.
    #[must_use]
    pub fn has_shown(&self, text: &str) -> bool {
        find(&self.shown.lock().text, 0, text).is_some()
    }

    /// Types a line.
    ///
    /// # Errors
    /// When the machine is no more.
    pub fn type_line(&mut self, line: &str) -> Result {
        for key in line.bytes().chain([b'\r']) {
            self.keyboard.write_all(&[key]).and_then(|()| self.keyboard.flush()).context("can't type")?;
            thread::sleep(KEY_INTERVAL);
        }
        Ok(())
    }

    /// Presses one key.
    ///
    /// # Errors
    /// When the machine is no more.
    pub fn press(&mut self, key: u8) -> Result {
        self.keyboard.write_all(&[key]).and_then(|()| self.keyboard.flush()).context("can't type")
    }

    /// All whole lines with the time since `start` at which they were complete.
    #[must_use]
    pub fn lines(&self, start: Instant) -> Vec<(Duration, String)> {
        let screen = self.shown.lock();
        let mut end = 0;
        let mut lines = Vec::new();
        for line in screen.text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            end += line.len();
            let reads = screen.times.partition_point(|(from, _)| *from < end);
            let time = reads.checked_sub(1).and_then(|last| screen.times.get(last)).map(|(_, time)| *time);
            let since = time.map_or(Duration::ZERO, |time| time.saturating_duration_since(start));
            lines.push((since, readable(line)));
        }
        lines
    }

    /// The last lines, for a failure's text.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = readable(&self.shown.lock().text);
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let from = lines.len().saturating_sub(TAIL);
        lines.iter().skip(from).fold(String::new(), |mut tail, line| {
            let _ = writeln!(tail, "    | {line}");
            tail
        })
    }
}

impl Screen {
    /// Why nothing good will follow what is shown from there on.
    fn hopeless(&self, from: usize) -> Option<&'static str> {
        if self.ended {
            return Some("the machine ended");
        }
        HOPELESS.iter().any(|text| find(&self.text, from, text).is_some()).then_some("the machine gave up")
    }
}

impl Shown {
    fn lock(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where `wanted` ends in `text` after `from`, and what follows on its line. A line that is still being printed is not
/// taken for whole.
fn find(text: &[u8], from: usize, wanted: &str) -> Option<(usize, String)> {
    let rest = text.get(from..)?;
    let at = rest.windows(wanted.len()).position(|window| window == wanted.as_bytes())?;
    let end = from + at + wanted.len();
    let line = text.get(end..)?;
    let length = line.iter().position(|byte| *byte == b'\n')?;
    Some((end, readable(line.get(..length)?).trim().to_owned()))
}

/// The same, wherever it stands and however the cursor was moved in between. What is painted is no place to go on from.
fn find_painted(text: &[u8], from: usize, wanted: &str) -> Option<(usize, String)> {
    readable(text.get(from..)?).contains(wanted).then(|| (from, String::new()))
}

/// The text without colours, cursor movements and other control characters.
fn readable(bytes: &[u8]) -> String {
    let mut out = String::new();
    let text = String::from_utf8_lossy(bytes);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                if chars.next_if_eq(&'[').is_some() {
                    while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
                } else {
                    chars.next();
                }
            }
            '\n' => out.push('\n'),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.trim_end_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_once_its_line_is_whole() {
        let text = b"boot\r\nTEST image \x1b[1mone\x1b[0m\r\nTEST ima";
        let (end, rest) = find(text, 0, "TEST image ").unwrap();
        assert_eq!(rest, "one");
        assert_eq!(find(text, end, "TEST image"), None);
        assert_eq!(find(text, end, "TEST ima"), None, "more of the line may come");
    }
}
