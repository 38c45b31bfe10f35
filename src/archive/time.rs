//! Times of change as tar's extended headers have them: seconds and a fraction, in decimal.

use rustix::fs::{Timespec, UTIME_OMIT};

/// The key of the time of change.
pub(super) const KEY: &str = "mtime";

/// How many digits a nanosecond has after the point.
const DIGITS: usize = 9;

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;

/// A time that is not to be set.
pub(super) const UNTOUCHED: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };

/// A time as text. `nanoseconds` count forward from `seconds`, as the kernel has it, also before 1970.
pub(super) fn write(seconds: i64, nanoseconds: i64) -> String {
    if seconds >= 0 || nanoseconds == 0 {
        return format!("{seconds}.{nanoseconds:09}");
    }
    let (whole, fraction) = (seconds + 1, SECOND - nanoseconds);
    format!("-{}.{fraction:09}", whole.unsigned_abs())
}

/// The time that a text says; none when it is no time.
pub(super) fn read(text: &[u8]) -> Option<Timespec> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    // Finer than a nanosecond is cut off.
    let fraction: String = fraction.chars().chain("000000000".chars()).take(DIGITS).collect();
    let nanoseconds: i64 = fraction.parse().ok()?;
    let (tv_sec, tv_nsec) = match (negative, nanoseconds) {
        (false, nanoseconds) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, nanoseconds) => (-seconds - 1, SECOND - nanoseconds),
    };
    Some(Timespec { tv_sec, tv_nsec })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_it_was_written() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0.000000000"),
            (1_700_000_000, 123_456_789, "1700000000.123456789"),
            (-1, 500_000_000, "-0.500000000"),
            (-2, 999_999_999, "-1.000000001"),
            (-7, 0, "-7.000000000"),
        ] {
            assert_eq!(write(seconds, nanoseconds), text);
            let read = read(text.as_bytes()).expect(text);
            assert_eq!((read.tv_sec, read.tv_nsec), (seconds, nanoseconds), "{text}");
        }
        assert_eq!(read(b"5.1234567891").map(|time| time.tv_nsec), Some(123_456_789));
        assert_eq!(read(b"5").map(|time| time.tv_sec), Some(5));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "-", ".5", "x", "1.x", "1.-5", "--1", "99999999999999999999", "1.2.3"] {
            assert!(read(text.as_bytes()).is_none(), "{text}");
        }
        assert!(read(b"\xff").is_none());
    }
}
