//! Sizes and times as people write them (`8M`, `256MiB`, `1s`, `500ms`) and read them. Pure.

use std::time::Duration;

use crate::store::Bandwidth;

/// Bytes; suffixes are powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .trim()
        .parse()
        .map_err(|_| format!("{text:?} is not a size (like 8M or 1GiB)"))?;
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        other => return Err(format!("{other:?} is not a unit of size: use K, M, G or T")),
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{text:?} is too large"))
}

/// Ten years: what is longer cannot always be added to a time.
const TIME_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A time; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits
        .trim()
        .parse()
        .map_err(|_| format!("{text:?} is not a time (like 30s or 500ms)"))?;
    let seconds = match &text[digits.len()..] {
        "" | "s" | "sec" => 1.0,
        "ms" => 0.001,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        other => {
            return Err(format!(
                "{other:?} is not a unit of time: use ms, s, m or h"
            ));
        }
    };
    let time = Duration::try_from_secs_f64(number * seconds).ok();
    time.filter(|time| *time <= TIME_MAX)
        .ok_or_else(|| format!("{text:?} is not a time that can be waited"))
}

/// Below this, requests would be silent for longer than stores bear.
const BANDWIDTH_MIN: u64 = 64 << 10;

/// Bytes a second, both ways or `UP:DOWN`; `off` is no limit.
pub fn bandwidth(text: &str) -> Result<Bandwidth, String> {
    let one = |text: &str| match text {
        "off" => Ok(None),
        text => match size(text)? {
            rate if rate < BANDWIDTH_MIN => Err(format!(
                "{text:?} a second is too little: give at least 64K, or off"
            )),
            rate => Ok(Some(rate)),
        },
    };
    let (up, down) = text.split_once(':').unwrap_or((text, text));
    Ok(Bandwidth {
        up: one(up)?,
        down: one(down)?,
    })
}

/// A file mode in octal.
pub fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|m| *m <= 0o777)
        .ok_or_else(|| format!("{text:?} is not an octal mode (like 022)"))
}

/// As [`size`] reads it, shortly.
pub fn size_as_given(bytes: u64) -> String {
    let units = [(40, 'T'), (30, 'G'), (20, 'M')];
    let whole = |(shift, _): &(u32, char)| bytes > 0 && bytes.is_multiple_of(1 << shift);
    match units.into_iter().find(whole) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

pub fn bytes_in_words(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return match unit {
                "B" => format!("{bytes} B"),
                unit => format!("{value:.1} {unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

pub fn time_in_words(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_words() {
        assert_eq!(bytes_in_words(0), "0 B");
        assert_eq!(bytes_in_words(1023), "1023 B");
        assert_eq!(bytes_in_words(1536), "1.5 KiB");
        assert_eq!(bytes_in_words(5 << 40), "5.0 TiB");
        assert_eq!(time_in_words(59), "59 s");
        assert_eq!(time_in_words(3660), "1 h 1 min");
        assert_eq!(time_in_words(200_000), "2 days");
    }

    #[test]
    fn sizes_and_times_are_read_as_people_write_them() {
        assert_eq!(size("8M"), Ok(8 << 20));
        assert_eq!(size("256MiB"), Ok(256 << 20));
        assert_eq!(size("17"), Ok(17));
        assert_eq!(size("2g"), Ok(2 << 30));
        for (bytes, given) in [(0, "0"), (1024, "1024"), (5 << 20, "5M"), (3 << 40, "3T")] {
            assert_eq!(size_as_given(bytes), given);
            assert_eq!(size(given), Ok(bytes));
        }
        for bad in ["", "M", "8X", "-1", "99999999T", "1.5M"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "-1s", "1y", "nan", "inf", "100000h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        let rates = |up, down| Ok(Bandwidth { up, down });
        assert_eq!(bandwidth("off"), rates(None, None));
        assert_eq!(bandwidth("10M"), rates(Some(10 << 20), Some(10 << 20)));
        assert_eq!(bandwidth("64K:2G"), rates(Some(64 << 10), Some(2 << 30)));
        assert_eq!(bandwidth("off:1M"), rates(None, Some(1 << 20)));
        for bad in ["", "0", "63K", "1M:", ":1M", "1M:2M:3M", "up=1M", "1M,2M"] {
            assert!(bandwidth(bad).is_err(), "{bad}");
        }
        assert_eq!(octal("022"), Ok(0o22));
        assert!(octal("9").is_err() && octal("7777").is_err());
    }
}
